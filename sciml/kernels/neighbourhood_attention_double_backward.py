"""Double backward of neighbourhood attention in Triton; the notation is that of `neighbourhood_attention_passes`."""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201 - Triton reads the annotations of kernels itself

import triton
import triton.language as tl

from sciml.kernels.attention_tiles import (
    always,
    cosines,
    left_operand,
    left_slots,
    load_channels,
    load_directions,
    load_group,
    load_kept,
    load_mask,
    product,
    slots_of,
    store_channels,
    store_group,
)
from sciml.kernels.legendre import legendre, legendre_curvature, legendre_slope
from sciml.kernels.neighbourhood_attention_passes import outer_product, probabilities


@triton.jit(do_not_specialize=["num_slots"])
def double_backward_kernel(
    dot_q, dot_k, dot_v, dot_mask, dot_directions, grad, q, k, v, mask, directions,
    grad_grad, grad_q, grad_k, grad_v, grad_mask, grad_directions, num_slots,
    HEADS: tl.constexpr, D: tl.constexpr, SIZES: tl.constexpr, FIRSTS: tl.constexpr, LMAX: tl.constexpr,
    SCALE: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of Φ = ⟨dQ, Q̇⟩ + ⟨dK, K̇⟩ + ⟨dV, V̇⟩ + ⟨du, u̇⟩ + ⟨dN, Ṅ⟩ for given Q̇, K̇, V̇, u̇, Ṅ (`…_dot`).

    The backward pass is Jᵀ G with the Jacobian J of O, so Φ = ⟨G, J (Q̇, K̇, V̇, u̇, Ṅ)⟩ = ⟨G, Ȯ⟩: the dots are tangents,
    and the double backward pass is a forward pass of tangents with its transpose.

    Tangents, with s in S and Ṡ:

        Ċ = Ṅ Nᵀ + N Ṅᵀ,    Ȧ_l = Q̇_l K_lᵀ + Q_l K̇_lᵀ,    Ṡ = s Σ_l (P_l ∘ Ȧ_l + P_l′ ∘ Ċ ∘ A_l) + 1 u̇ᵀ
        σ = rows of P ∘ Ṡ, summed,    Ṗ = P ∘ (Ṡ − σ 1ᵀ),    Ȯ = Ṗ V + P V̇

    Φ = ⟨R, Ṗ⟩ + ⟨W, P⟩ with R = G Vᵀ and W = G V̇ᵀ gives

        ∂Φ/∂G = Ȯ,    ∂Φ/∂V = Ṗᵀ G
        ∂Φ/∂Ṡ = P ∘ (R − δ 1ᵀ) = D,    δ = rows of P ∘ R, summed
        ∂Φ/∂P = R ∘ (Ṡ − σ 1ᵀ) − Ṡ ∘ δ 1ᵀ + W = E,    ∂Φ/∂S = P ∘ (E − ε 1ᵀ) = B,    ε = rows of P ∘ E, summed

    because σ depends on P too. S and Ṡ are polynomials in A_l, Ȧ_l, C and Ċ:

        ∂Φ/∂Ȧ_l = s P_l ∘ D = s Y_l,    ∂Φ/∂A_l = s (P_l ∘ B + P_l′ ∘ Ċ ∘ D) = s X_l
        ∂Φ/∂Ċ = s D ∘ Σ_l P_l′ ∘ A_l = s T
        ∂Φ/∂C = s (B ∘ Σ_l P_l′ ∘ A_l + D ∘ Σ_l (P_l′ ∘ Ȧ_l + P_l″ ∘ Ċ ∘ A_l)) = s Z

    and these are bilinear in the inputs:

        ∂Φ/∂Q_l = s (X_l K_l + Y_l K̇_l),    ∂Φ/∂K_l = s (X_lᵀ Q_l + Y_lᵀ Q̇_l),    ∂Φ/∂u = Bᵀ 1
        ∂Φ/∂N = s ((Z + Zᵀ) N + (T + Tᵀ) Ṅ)

    Five sums over l suffice: of P_l, P_l′ and P_l″ times A_l, and of P_l and P_l′ times Ȧ_l. Not all matrices fit into
    registers together, so the former three come first, Ȯ and ∂Φ/∂V before D and B, and ∂Φ/∂Q before ∂Φ/∂K.

    Bytes: 7 K d w read, 4 K d w written. FLOPs: 2 K̂² (7 d̂ + 5 d + 192).
    """
    NUMBER: tl.constexpr = tl.float64 if q.dtype.element_ty == tl.float64 else tl.float32
    TILE: tl.constexpr = tl.bfloat16 if PRECISION == "bf16" else NUMBER
    FULL: tl.constexpr = "tf32x3" if PRECISION == "bf16" else PRECISION  # of directions
    ROW: tl.constexpr = HEADS * D
    head = tl.program_id(0)
    atom = (head // HEADS).to(tl.int64)
    first = atom * num_slots * ROW + (head % HEADS) * D
    line = head.to(tl.int64) * num_slots  # of arrays with a row per (atom, head)
    mask += atom * num_slots
    directions += 3 * atom * num_slots
    dot_directions += 3 * atom * num_slots
    slots = slots_of(num_slots, BLOCK, 0)
    seen, turned = load_kept(mask, directions, slots, num_slots, LMAX, NUMBER)
    c = tl.zeros([BLOCK, BLOCK], dtype=NUMBER)
    if LMAX > 0:
        c = cosines(directions, slots, seen, NUMBER, FULL)

    s = tl.zeros([BLOCK, BLOCK], dtype=NUMBER)
    t = tl.zeros([BLOCK, BLOCK], dtype=NUMBER)
    curvature = tl.zeros([BLOCK, BLOCK], dtype=NUMBER)
    for l in tl.static_range(LMAX + 1):
        if always(num_slots, l):
            q_l = load_group(q + first, slots, seen, turned, SIZES, FIRSTS, l, ROW, TILE)
            k_l = load_group(k + first, slots, seen, turned, SIZES, FIRSTS, l, ROW, TILE)
            a = product(q_l, tl.trans(k_l), PRECISION)
            if l == 0:
                s += a
            else:
                s += legendre(c, l) * a
                t += legendre_slope(c, l) * a
            if l > 1:
                curvature += legendre_curvature(c, l) * a
    slots = slots_of(num_slots, BLOCK, 1)
    u, seen = load_mask(mask, slots, num_slots, NUMBER)
    p = probabilities(SCALE * s + u[None, :], seen)

    seen, turned = load_kept(mask, directions, slots, num_slots, LMAX, NUMBER)
    s_dot = tl.zeros([BLOCK, BLOCK], dtype=NUMBER)
    z = tl.zeros([BLOCK, BLOCK], dtype=NUMBER)
    if LMAX > 0:
        c = cosines(directions, slots, seen, NUMBER, FULL)
        c_dot = cosines_dot(directions, dot_directions, slots, seen, turned, NUMBER, FULL)
        s_dot = c_dot * t
        z = c_dot * curvature
    for l in tl.static_range(LMAX + 1):
        if always(num_slots, 10 + l):
            q_l_dot = load_group(dot_q + first, slots, seen, turned, SIZES, FIRSTS, l, ROW, TILE)
            k_l = load_group(k + first, slots, seen, turned, SIZES, FIRSTS, l, ROW, TILE)
            a_dot = product(q_l_dot, tl.trans(k_l), PRECISION)
            q_l = load_group(q + first, slots, seen, turned, SIZES, FIRSTS, l, ROW, TILE)
            k_l_dot = load_group(dot_k + first, slots, seen, turned, SIZES, FIRSTS, l, ROW, TILE)
            a_dot = product(q_l, tl.trans(k_l_dot), PRECISION, a_dot)
            if l == 0:
                s_dot += a_dot
            else:
                s_dot += legendre(c, l) * a_dot
                z += legendre_slope(c, l) * a_dot
    u_dot = tl.load(dot_mask + atom * num_slots + slots, mask=seen, other=0.0).to(NUMBER)
    s_dot = SCALE * s_dot + u_dot[None, :]

    sigma = tl.sum(p * s_dot, axis=1)
    p_dot = p * (s_dot - sigma[:, None])
    if always(num_slots, 40):
        slots, order = slots_of(num_slots, BLOCK, 2), left_slots(num_slots, BLOCK, 2, PRECISION)
        there = slots < num_slots
        seen, _ = load_kept(mask, directions, order, num_slots, 0, NUMBER)
        v_tile = load_channels(dot_v + first, order, seen, 0, D, ROW, TILE)
        out_dot = product(left_operand(p, PRECISION), v_tile, PRECISION)
        v_tile = load_channels(v + first, order, seen, 0, D, ROW, TILE)
        out_dot = product(left_operand(p_dot, PRECISION), v_tile, PRECISION, out_dot)
        store_channels(grad_grad + first, out_dot, slots, there, 0, D, ROW)
    if always(num_slots, 50):
        slots, order = slots_of(num_slots, BLOCK, 3), left_slots(num_slots, BLOCK, 3, PRECISION)
        there = slots < num_slots
        seen, _ = load_kept(mask, directions, order, num_slots, 0, NUMBER)
        g_tile = load_channels(grad + first, order, seen, 0, D, ROW, TILE)
        dv = product(left_operand(tl.trans(p_dot), PRECISION), g_tile, PRECISION)
        store_channels(grad_v + first, dv, slots, there, 0, D, ROW)

    slots = slots_of(num_slots, BLOCK, 4)
    seen, _ = load_kept(mask, directions, slots, num_slots, 0, NUMBER)
    r = outer_product(grad + first, v + first, slots, seen, D, ROW, TILE, PRECISION)
    delta = tl.sum(p * r, axis=1)
    e = r * (s_dot - sigma[:, None]) - delta[:, None] * s_dot
    e = outer_product(grad + first, dot_v + first, slots, seen, D, ROW, TILE, PRECISION, e)
    d = p * (r - delta[:, None])
    b = p * (e - tl.sum(p * e, axis=1)[:, None])

    if LMAX > 0 and always(num_slots, 60):
        z = t * b + z * d
        t *= d
        slots, order_full = slots_of(num_slots, BLOCK, 5), left_slots(num_slots, BLOCK, 5, FULL)
        seen, turned = load_kept(mask, directions, order_full, num_slots, LMAX, NUMBER)
        n = load_directions(directions, order_full, seen, NUMBER)
        dn = product(left_operand(z + tl.trans(z), FULL), n, FULL)
        n_dot = load_directions(dot_directions, order_full, turned, NUMBER)
        dn = product(left_operand(t + tl.trans(t), FULL), n_dot, FULL, dn)
        store_channels(grad_directions + 3 * line, SCALE * dn, slots, slots < num_slots, 0, 3, 3)

    if always(num_slots, 70):
        slots, order = slots_of(num_slots, BLOCK, 6), left_slots(num_slots, BLOCK, 6, PRECISION)
        there = slots < num_slots
        seen, turned = load_kept(mask, directions, slots, num_slots, LMAX, NUMBER)
        if LMAX > 0:
            c = cosines(directions, slots, seen, NUMBER, FULL)
            turning = cosines_dot(directions, dot_directions, slots, seen, turned, NUMBER, FULL) * d
        order_seen, order_turned = load_kept(mask, directions, order, num_slots, LMAX, NUMBER)
        for l in tl.static_range(LMAX + 1):
            if always(num_slots, 20 + l):
                k_l = load_group(k + first, order, order_seen, order_turned, SIZES, FIRSTS, l, ROW, TILE)
                x_l = b if l == 0 else legendre(c, l) * b + legendre_slope(c, l) * turning
                dq = product(left_operand(x_l, PRECISION), k_l, PRECISION)
                k_l_dot = load_group(dot_k + first, order, order_seen, order_turned, SIZES, FIRSTS, l, ROW, TILE)
                dq = product(left_operand(d if l == 0 else legendre(c, l) * d, PRECISION), k_l_dot, PRECISION, dq)
                store_group(grad_q + first, SCALE * dq, slots, there, turned, SIZES, FIRSTS, l, ROW)
    if always(num_slots, 80):
        b, d = tl.trans(b), tl.trans(d)
        slots, order = slots_of(num_slots, BLOCK, 7), left_slots(num_slots, BLOCK, 7, PRECISION)
        there = slots < num_slots
        tl.store(grad_mask + line + slots, tl.sum(b, axis=1), mask=there)
        seen, turned = load_kept(mask, directions, slots, num_slots, LMAX, NUMBER)
        if LMAX > 0:
            c = cosines(directions, slots, seen, NUMBER, FULL)
            turning = cosines_dot(directions, dot_directions, slots, seen, turned, NUMBER, FULL) * d
        order_seen, order_turned = load_kept(mask, directions, order, num_slots, LMAX, NUMBER)
        for l in tl.static_range(LMAX + 1):
            if always(num_slots, 30 + l):
                q_l = load_group(q + first, order, order_seen, order_turned, SIZES, FIRSTS, l, ROW, TILE)
                x_l = b if l == 0 else legendre(c, l) * b + legendre_slope(c, l) * turning
                dk = product(left_operand(x_l, PRECISION), q_l, PRECISION)
                q_l_dot = load_group(dot_q + first, order, order_seen, order_turned, SIZES, FIRSTS, l, ROW, TILE)
                dk = product(left_operand(d if l == 0 else legendre(c, l) * d, PRECISION), q_l_dot, PRECISION, dk)
                store_group(grad_k + first, SCALE * dk, slots, there, turned, SIZES, FIRSTS, l, ROW)


@triton.jit
def cosines_dot(directions, dot_directions, slots, seen, turned, NUMBER: tl.constexpr, PRECISION: tl.constexpr):
    """Ṅ Nᵀ + N Ṅᵀ."""
    n = load_directions(directions, slots, seen, NUMBER)
    n_dot = load_directions(dot_directions, slots, turned, NUMBER)
    return product(n, tl.trans(n_dot), PRECISION, product(n_dot, tl.trans(n), PRECISION))
