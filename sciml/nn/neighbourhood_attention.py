"""Attention among the neighbours of an atom, with angular terms in the logits, that can be differentiated twice."""

import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.kernels.available import check_kernels, interpreted

_logger = logging.getLogger(__name__)
_logged: set[str] = set()

IMPLEMENTATIONS = ("auto", "torch", "triton")


def neighbourhood_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    directions: Tensor | None = None,
    *,
    groups: Sequence[int] | None = None,
    scale: float | None = None,
    implementation: str = "auto",
) -> Tensor:
    """Each slot a of an atom's neighbourhood attends to all slots b of it, separately in each head:

        logit_ab = scale · Σ_l P_l(cos θ_ab) Σ_{c in group l} q_ac k_bc + u_b,        cos θ_ab = n_a · n_b
        out_a = Σ_b softmax_b(logit_ab) v_b

    with the Legendre polynomials P_l and an additive mask u, the logarithm of a smooth envelope. By the addition
    theorem this is attention whose queries and keys are multiplied by the spherical harmonics of their directions. The
    smaller exp(u_b), the less slot b is seen, smoothly in all derivatives.

    A slot with u = −∞ is padding: it is not seen, its own row of the result is zero, and so are all its derivatives,
    whatever it holds. A slot whose direction is the zero vector, such as the atom itself, has the group l = 0 only
    (harmonics of the zero vector), and no derivative by its direction.

    Queries, keys and values have the heads inside the slots, as a linear layer of the slots leaves them. This is what
    the kernels read without copies: the heads of a slot next to each other, in one contiguous array.

    Args:
        q: queries, (atoms, slots, heads, channels); float32, float64, or bfloat16, which is summed in float32.
        k: keys, of the shape of q.
        v: values, of the shape of q.
        mask: u, (atoms, slots); float32 or float64 also where q is bfloat16.
        directions: n, unit vectors or zero, (atoms, slots, 3); needed if there are groups of l > 0.
        groups: channels of each degree l = 0, 1, …, which sum to the channels of q; by default all of l = 0.
        scale: by default (Σ_l (2l+1) groups_l)^(−1/2), of the width of the queries times harmonics.
        implementation: "torch", "triton" (slots ≤ 64, channels ≤ 128, l ≤ 4), or "auto": "triton" on a CUDA device
            where it can, except for float64, whose kernels do not fit into registers.

    Returns:
        (atoms, slots, heads, channels), of the dtype of q.

    Raises:
        ValueError: for shapes or groups that do not fit, or if "triton" was asked for and cannot run.

    Cost: 4 slots² channels FLOPs per atom and head, for each forward; the kernels read and write each argument once and
    store no matrix of slots × slots, in any derivative. See `sciml.nn.attention_benchmark`.

    Source: EScAIP, arXiv:2410.24169 (the attention); FlashAttention, arXiv:2205.14135 (recomputing probabilities).
    """
    groups = [q.shape[-1]] if groups is None else [int(size) for size in groups]
    _check(q, k, v, mask, directions, groups)
    if directions is None or len(groups) == 1:
        directions = mask.new_empty(*mask.shape, 0)
    if scale is None:
        scale = default_scale(groups)
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(f"got the implementation {implementation!r}; available: {', '.join(IMPLEMENTATIONS)}")
    if implementation != "torch":
        reason = _refusal(q, groups)
        if reason is not None and implementation == "triton":
            raise ValueError(reason)
        if implementation == "auto":
            if reason is None and q.dtype == torch.float64:
                reason = "the kernels are not made for float64"
            implementation = "torch" if reason is not None or q.device.type != "cuda" else "triton"
            _log_once(implementation, reason)
    if implementation == "torch":
        return attention_reference(q, k, v, mask, directions, groups, scale)
    from sciml.kernels.neighbourhood_attention import attention

    return attention(q, k, v, mask, directions, groups, scale)


def default_scale(groups: Sequence[int]) -> float:
    """(Σ_l (2l+1) groups_l)^(−1/2)."""
    return float(sum((2 * l + 1) * size for l, size in enumerate(groups)) ** -0.5)


def attention_reference(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, directions: Tensor, groups: Sequence[int], scale: float
) -> Tensor:
    """The definition, differentiable any number of times. directions (atoms, slots, 0) where there is one group."""
    given = q.dtype
    dtype = torch.promote_types(given, torch.float32)
    seen = mask > -math.inf
    q, k, v = (
        torch.where(seen[:, :, None, None], x, 0).to(dtype).transpose(1, 2) for x in (q, k, v)
    )  # (atoms, heads, slots, channels)
    bias = torch.where(seen, mask, 0).to(dtype)
    directions = torch.where(seen[:, :, None], directions, 0).to(dtype)
    turned = (directions.square().sum(-1) > 0)[:, None, :, None]
    cosines = (directions @ directions.mT)[:, None]  # (atoms, 1, slots, slots)
    polynomials = legendre_polynomials(cosines, len(groups) - 1)
    logits = torch.zeros((), dtype=dtype, device=q.device)
    for l, (q_l, k_l, p_l) in enumerate(zip(q.split(groups, -1), k.split(groups, -1), polynomials, strict=True)):
        if l > 0:
            q_l, k_l = torch.where(turned, q_l, 0), torch.where(turned, k_l, 0)
        logits = logits + p_l * (q_l @ k_l.mT)  # (atoms, heads, slots, slots)
    logits = (scale * logits + bias[:, None, None]).masked_fill(~seen[:, None, None], torch.finfo(dtype).min)
    out = logits.softmax(-1) @ v
    return torch.where(seen[:, None, :, None], out, 0).transpose(1, 2).to(given)


def legendre_polynomials(x: Tensor, lmax: int) -> list[Tensor | float]:
    """P_0 = 1, P_1 = x … P_lmax by (l + 1) P_{l+1} = (2l + 1) x P_l − l P_{l−1}.

    >>> legendre_polynomials(torch.tensor(0.5), 2)
    [1.0, tensor(0.5000), tensor(-0.1250)]
    """
    values: list[Tensor | float] = [1.0, x]
    for l in range(1, lmax):
        values.append(((2 * l + 1) * x * values[l] - l * values[l - 1]) / (l + 1))
    return values[: lmax + 1]


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, directions: Tensor | None, groups: Sequence[int]) -> None:
    if q.ndim != 4:
        raise ValueError(f"got q of shape {tuple(q.shape)}; expected (atoms, slots, heads, channels)")
    for name, x in (("k", k), ("v", v)):
        if x.shape != q.shape or x.dtype != q.dtype:
            raise ValueError(f"got {name} {tuple(x.shape)}, {x.dtype}; expected that of q, {tuple(q.shape)}, {q.dtype}")
    atoms, slots, _, channels = q.shape
    if mask.shape != (atoms, slots):
        raise ValueError(f"got a mask of shape {tuple(mask.shape)}; expected (atoms, slots) = {(atoms, slots)}")
    if not groups or min(groups) < 1 or sum(groups) != channels:
        raise ValueError(f"got groups {list(groups)}; expected positive numbers that sum to {channels}, the channels")
    if len(groups) == 1 and directions is not None:
        raise ValueError("got directions, which the only group, of l = 0, does not use; give groups, or no directions")
    if len(groups) > 1 and (directions is None or directions.shape != (atoms, slots, 3)):
        got = "no directions" if directions is None else f"directions of shape {tuple(directions.shape)}"
        raise ValueError(f"got {got}; groups of l > 0 need (atoms, slots, 3) = {(atoms, slots, 3)}")


def _refusal(q: Tensor, groups: Sequence[int]) -> str | None:
    """Why the kernels cannot run on q, or None if they can."""
    missing = _missing(q.device.type)
    if missing is not None:
        return missing
    from sciml.kernels.neighbourhood_attention import unsupported

    return unsupported(q.shape[1], q.shape[3], groups, q.dtype)


def _missing(device: str) -> str | None:
    if device != "cuda" and not interpreted():
        return f"got tensors on {device}; the implementation 'triton' needs them on a CUDA device"
    if torch.compiler.is_compiling():  # which needs Triton itself on a CUDA device, and cannot trace a look for it
        return None
    try:
        check_kernels()
    except ValueError as error:
        return str(error)
    return None


def _log_once(choice: str, reason: str | None) -> None:
    if torch.compiler.is_compiling():
        return
    message = f"neighbourhood attention runs in {choice}" + (f": {reason}" if reason is not None else "")
    if message not in _logged:
        _logged.add(message)
        _logger.info(message)
