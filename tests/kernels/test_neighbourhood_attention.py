"""Neighbourhood attention: the reference obeys its laws, and the kernels agree with the reference in three passes.

Without a CUDA device the kernels run in Triton's interpreter, on few atoms.
"""

import math

import pytest
import torch

from sciml.nn.neighbourhood_attention import attention_reference, legendre_polynomials, neighbourhood_attention

pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GROUPS = [3, 2, 1, 2, 3]  # of EScAIP's 20, 10, 4, 10, 20, in small


def make(atoms=1, slots=5, heads=2, groups=GROUPS, dtype=torch.float64, padding=0):
    """q, k, v, mask and directions; slot 0 is the atom itself, the last slots are padding."""
    q, k, v = (torch.randn(atoms, slots, heads, sum(groups), dtype=torch.float64) for _ in range(3))
    mask = -3 * torch.rand(atoms, slots, dtype=torch.float64)
    mask[:, :1] = 0
    mask[:, slots - padding :] = -math.inf
    n = torch.nn.functional.normalize(torch.randn(atoms, slots, 3, dtype=torch.float64), dim=-1)
    n[:, :1] = 0
    small = torch.float64 if dtype == torch.float64 else torch.float32
    q, k, v, mask, n = q.to(dtype), k.to(dtype), v.to(dtype), mask.to(small), n.to(small)
    arrays = [q, k, v, mask] + ([n] if len(groups) > 1 else [])
    return [x.to(DEVICE).requires_grad_() for x in arrays]


def attend(arrays, groups=GROUPS, implementation="torch", scale=None):
    return neighbourhood_attention(*arrays, groups=groups, scale=scale, implementation=implementation)


def passes(arrays, groups=GROUPS, implementation="torch", scale=None):
    """Out, gradients of Σ out², and gradients of the sum of their squares."""
    out = attend(arrays, groups, implementation, scale)
    first = torch.autograd.grad(out.square().sum(), arrays, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), arrays)
    return [out, *first, *second]


def errors(got, wanted):
    """Relative to the norm of each array; where that is zero, absolute."""
    assert all(a.shape == b.shape for a, b in zip(got, wanted, strict=True))
    return [
        ((a.double() - b.double()).norm() / (b.double().norm() or 1)).item() for a, b in zip(got, wanted, strict=True)
    ]


# --- the reference ----------------------------------------------------------------------------------------------------


def test_polynomials_are_those_of_legendre():
    x = torch.linspace(-1, 1, 11, dtype=torch.float64)
    for l, p_l in enumerate(legendre_polynomials(x, 4)):
        expected = torch.special.legendre_polynomial_p(x, l)
        torch.testing.assert_close(p_l + torch.zeros_like(x), expected, rtol=1e-14, atol=1e-14)


def test_reference_is_attention_of_queries_and_keys_times_harmonics():
    """EScAIP's own form: every channel of degree l becomes 2l+1, and torch's attention has the scale of the width."""
    from e3nn.o3 import spherical_harmonics

    q, k, v, mask, n = make(atoms=3, slots=6)
    factors = [torch.ones_like(n[..., :1])]
    for l in range(1, len(GROUPS)):
        y = spherical_harmonics(l, n.detach().cpu(), True, "component").to(DEVICE) / math.sqrt(2 * l + 1)
        factors.append(
            torch.where(n.square().sum(-1, keepdim=True) > 0, y, 0)
        )  # e3nn has harmonics of zero vectors too
    parts = ([], [])
    for part, x in zip(parts, (q, k), strict=True):
        for channels, y in zip(x.split(GROUPS, -1), factors, strict=True):
            part.append((channels[..., None] * y[:, :, None, None, :]).flatten(-2))
    wide_q, wide_k = (torch.cat(part, -1).transpose(1, 2) for part in parts)
    expected = torch.nn.functional.scaled_dot_product_attention(
        wide_q, wide_k, v.transpose(1, 2), attn_mask=mask[:, None, None, :].expand(-1, -1, 6, -1)
    )
    torch.testing.assert_close(attend([q, k, v, mask, n]), expected.transpose(1, 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("groups", [[2], [1, 1, 1]])
def test_reference_has_exact_gradients(groups):
    arrays = make(slots=4, heads=1, groups=groups, padding=1)
    with torch.no_grad():
        arrays[3][:, -1] = -2.0  # finite differences of an infinity are none
        if len(groups) > 1:
            arrays[4][:, 0] = arrays[4][:, 1].roll(1, -1)
    assert torch.autograd.gradcheck(lambda *a: attend(a, groups), arrays)
    assert torch.autograd.gradgradcheck(lambda *a: attend(a, groups), arrays)


@pytest.mark.parametrize("implementation", ["torch", "triton"])
def test_rotations_turn_the_gradient_by_directions_only(implementation):
    groups = [2, 2, 2]
    arrays = make(heads=1, groups=groups, padding=1)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    turned = [*arrays[:4], (arrays[4].detach() @ turn.to(DEVICE)).requires_grad_()]
    before, after = (passes(x, groups, implementation) for x in (arrays, turned))
    for i in (5, 10):
        before[i] = before[i] @ turn.to(DEVICE)
    assert max(errors(after, before)) < 1e-13


# --- the kernels ------------------------------------------------------------------------------------------------------

CASES = {
    "EScAIP": {"atoms": 1, "slots": 5, "groups": GROUPS},
    "plain": {"atoms": 2, "slots": 7, "groups": [6], "padding": 2},
    "one slot": {"atoms": 2, "slots": 1, "groups": [4, 3]},
    "padding": {"atoms": 2, "slots": 5, "groups": [4, 3, 17], "padding": 2},
    "more than 16 slots": {"atoms": 1, "slots": 18, "heads": 1, "groups": [3, 5], "padding": 1},
    "more than 32 slots, one atom": {"atoms": 1, "slots": 48, "heads": 1, "groups": [20, 10, 4, 10, 20], "padding": 5},
    "only the atom itself": {"atoms": 2, "slots": 4, "groups": [4, 3], "padding": 3},
    "fully masked": {"atoms": 2, "slots": 4, "groups": [4, 3], "padding": 4},
    "no atoms": {"atoms": 0, "slots": 4, "groups": [4, 3]},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_kernels_agree_with_the_reference_in_float64(case):
    arrays = make(**case)
    got, wanted = (passes(arrays, case["groups"], implementation) for implementation in ("triton", "torch"))
    assert max(errors(got, wanted)) < 1e-13


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.bfloat16, 3e-2)])
def test_kernels_agree_with_the_reference_in_lower_precision(dtype, tolerance):
    arrays = make(slots=6, dtype=dtype, padding=1)
    exact = [x.detach().double().requires_grad_() for x in arrays]
    got, plain = (passes(arrays, implementation=implementation) for implementation in ("triton", "torch"))
    small = [torch.float32] * 2  # of u and n
    assert [x.dtype for x in got] == [x.dtype for x in plain] == [dtype] * 4 + small + [dtype] * 3 + small
    if dtype == torch.float32 and not torch.cuda.is_available():
        tolerance = 1e-5  # the interpreter's products of halves round differently on other processors: 4.3e-6 was seen
    assert max(errors(got, passes(exact))) < tolerance


def test_kernels_take_a_scale_in_full_precision():
    arrays = make(heads=1, groups=[4])
    got, wanted = (passes(arrays, [4], way, scale=1 / 3) for way in ("triton", "torch"))
    assert max(errors(got, wanted)) < 1e-13


def test_kernels_differentiate_three_times():
    arrays = make(groups=[2, 2], slots=3, heads=1)

    def third(implementation):
        out = attend(arrays, [2, 2], implementation)
        first = torch.autograd.grad(out.square().sum(), arrays, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), arrays, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in second), arrays)

    assert max(errors(third("triton"), third("torch"))) < 1e-12


def test_kernels_take_arrays_that_are_not_contiguous():
    q, k, v, mask, n = (x.detach() for x in make(atoms=2, groups=[2, 2]))
    strided = [
        torch.stack([q, k], -1)[..., 0],
        k.transpose(1, 2).contiguous().transpose(1, 2),
        torch.cat([v, v], 2)[:, :, : v.shape[2]],
        mask.T.contiguous().T,
        n.flip(0).contiguous().flip(0),
    ]
    assert not any(x.is_contiguous() for x in strided[:4])
    got = passes([x.requires_grad_() for x in strided], [2, 2], "triton")
    wanted = passes([x.requires_grad_() for x in (q, k, v, mask, n)], [2, 2], "triton")
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_kernels_write_all_of_their_results_and_heed_nothing_in_padding(monkeypatch):
    """Results start as NaN, and padding slots hold NaN: neither may show."""
    groups = [3, 2, 2]
    arrays = make(slots=6, groups=groups, padding=2)
    wanted = passes(arrays, groups)
    poisoned = [x.detach().clone() for x in arrays]
    for x in (*poisoned[:3], poisoned[4]):
        x[:, 4:] = math.nan
    for name in ("empty_like", "empty"):
        allocate = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, allocate=allocate, **k: allocate(*a, **k).fill_(math.nan))
    new_empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: new_empty(*a, **k).fill_(math.nan))
    got = passes([x.requires_grad_() for x in poisoned], groups, "triton")
    assert max(errors(got, wanted)) < 1e-13
    for x in got:
        assert (x[:, 4:] == 0).all()


@pytest.mark.parametrize("implementation", ["torch", "triton"])
def test_a_slot_that_fades_is_a_slot_that_is_absent(implementation):
    """In value and derivatives, for all other slots; the faded one has rows and derivatives of its own as a query."""
    arrays = make(slots=4, padding=0)
    absent = [x.detach()[:, :3].clone().requires_grad_() for x in arrays]
    with torch.no_grad():
        arrays[3][:, 3] = -80.0
    weights = torch.tensor([1.0, 1, 1, 0], dtype=torch.float64, device=DEVICE)  # its own row fades elsewhere

    def weighted(x):
        out = attend(x, implementation=implementation)
        first = torch.autograd.grad((weights[: out.shape[1], None, None] * out.square()).sum(), x, create_graph=True)
        return [out, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), x)]

    faded, without = weighted(arrays), weighted(absent)
    assert max(errors([x[:, :3] for x in faded], without)) < 1e-13
    assert max(x[:, 3:].abs().max() for x in faded[1:]) < 1e-25


def test_kernels_give_the_same_bits_in_every_run():
    size = {"atoms": 64, "slots": 48, "heads": 8} if DEVICE == "cuda" else {"atoms": 2, "slots": 6}
    arrays = make(**size, groups=[5, 3], dtype=torch.float32)
    runs = [passes(arrays, [5, 3], "triton") for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.cuda
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device: the interpreter's functions cannot be compiled")
def test_kernels_compile_into_one_graph_with_forces_traced_inside():
    from torch.fx.experimental.proxy_tensor import make_fx

    arrays = make(atoms=8, slots=48, groups=[20, 10, 4, 10, 20], dtype=torch.float32, padding=3)

    def forces(*x):
        out = neighbourhood_attention(*x, groups=[20, 10, 4, 10, 20], implementation="triton")
        return torch.autograd.grad(out.square().sum(), x, create_graph=True)

    compiled = torch.compile(make_fx(forces)(*arrays), fullgraph=True)
    got, wanted = (torch.autograd.grad(sum(g.square().sum() for g in f(*arrays)), arrays) for f in (compiled, forces))
    assert max(errors(got, wanted)) < 1e-5
    forward = torch.compile(lambda *x: attend(x, [20, 10, 4, 10, 20], "auto"), fullgraph=True)
    assert torch.equal(forward(*arrays), attend(arrays, [20, 10, 4, 10, 20], "triton"))


# --- bad input --------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_named():
    q, k, v, mask, n = make()
    for arguments, groups, message in [
        ((q[0], k, v, mask, n), GROUPS, r"q of shape .*expected \(atoms, slots, heads, channels\)"),
        ((q, k[:, :2], v, mask, n), GROUPS, "got k"),
        ((q, k, v.float(), mask, n), GROUPS, "got v .*float32"),
        ((q, k, v, mask[:, 1:], n), GROUPS, "a mask of shape"),
        ((q, k, v, mask, n[..., :2]), GROUPS, "directions of shape"),
        ((q, k, v, mask), GROUPS, "no directions; groups of l > 0 need"),
        ((q, k, v, mask, n), None, "directions, which the only group"),
        ((q, k, v, mask, n), [4, 6], "groups .* sum to 11"),
        ((q, k, v, mask, n), [11, 0], "positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            neighbourhood_attention(*arguments, groups=groups)
    with pytest.raises(ValueError, match="'cuda'; available: auto, torch, triton"):
        attend([q, k, v, mask, n], implementation="cuda")


def test_triton_says_what_it_cannot_do_and_auto_does_it_in_torch():
    for arrays, groups, message in [
        (make(slots=65, heads=1, groups=[1]), [1], "65 slots; the kernels take up to 64"),
        (make(slots=2, heads=1, groups=[129]), [129], "129 channels per head"),
        (make(slots=2, heads=1, groups=[1] * 6), [1] * 6, "degrees up to 5; the kernels have up to 4"),
        (make(slots=2, heads=1, groups=[2], dtype=torch.float16), [2], "float16; the kernels take float32"),
    ]:
        with pytest.raises(ValueError, match=message):
            attend(arrays, groups, "triton")
        assert torch.equal(attend(arrays, groups, "auto"), attend(arrays, groups, "torch"))


def test_auto_is_the_reference_on_a_cpu():
    arrays = [x.detach().cpu() for x in make()]
    expected = attention_reference(*arrays, GROUPS, 3.0)
    assert torch.equal(attend(arrays, implementation="auto", scale=3.0), expected)
