"""Double backward of neighbourhood attention in Triton; strips and notation are `neighbourhood_attention_passes`'."""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201 - Triton reads the annotations of kernels itself

import triton
import triton.language as tl

from sciml.kernels.attention_tiles import (
    load_channels,
    load_group,
    load_mask,
    load_vectors,
    product,
    scalar_products,
    store_channels,
    store_group,
    store_vectors,
    weighted_sum,
)
from sciml.kernels.legendre import legendre, legendre_curvature, legendre_slope


@triton.jit(do_not_specialize=["num_slots"])
def double_backward_kernel(
    own_dot, other_dot, value_dot, dot_mask, dot_directions, own, other, grad, value, mask, directions, softmax,
    grad_own, grad_value, grad_mask, grad_directions, num_slots,
    KEYS: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, SIZES: tl.constexpr, FIRSTS: tl.constexpr,
    LMAX: tl.constexpr, SCALE: tl.constexpr, STRIP: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
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

        ∂Φ/∂Ȧ_l = s P_l ∘ D = Y_l,    ∂Φ/∂A_l = s (P_l ∘ B + P_l′ ∘ Ċ ∘ D) = X_l
        ∂Φ/∂Ċ = s Σ_l P_l′ ∘ A_l ∘ D = T
        ∂Φ/∂C = s Σ_l (P_l′ ∘ (A_l ∘ B + Ȧ_l ∘ D) + P_l″ ∘ Ċ ∘ A_l ∘ D) = Z

    and these are bilinear in the inputs:

        ∂Φ/∂Q_l = X_l K_l + Y_l K̇_l,    ∂Φ/∂K_l = X_lᵀ Q_l + Y_lᵀ Q̇_l,    ∂Φ/∂u = Bᵀ 1
        ∂Φ/∂N = (Z + Zᵀ) N + (T + Tᵀ) Ṅ

    Strips of queries give Ȯ, ∂Φ/∂Q, Z N + T Ṅ; strips of keys the rest. A_l and Ȧ_l are computed twice, as in the
    backward pass.

    Bytes: 7 K d w read twice, 4 K d w written. FLOPs: 2 K̂₁₆ K̂ (16 d̂ + 7 d), less l = 0 in the second A_l and Ȧ_l.
    """
    NUMBER: tl.constexpr = tl.float64 if own.dtype.element_ty == tl.float64 else tl.float32
    ROW: tl.constexpr = HEADS * D
    strips = (num_slots + STRIP - 1) // STRIP
    head = tl.program_id(0) // strips
    atom = (head // HEADS).to(tl.int64)
    first = atom * num_slots * ROW + (head % HEADS) * D
    line = head.to(tl.int64) * num_slots  # of arrays with a row per (atom, head)
    own_slots = (tl.program_id(0) % strips) * STRIP + tl.arange(0, STRIP)
    slots = tl.arange(0, BLOCK)
    own_there = own_slots < num_slots
    u, seen = load_mask(mask + atom * num_slots, slots, num_slots, NUMBER)
    own_u, own_seen = load_mask(mask + atom * num_slots, own_slots, num_slots, NUMBER)
    turned, own_turned = seen, own_seen
    c = tl.zeros([STRIP, BLOCK], dtype=NUMBER)
    c_dot = c
    if LMAX > 0:
        vectors, vectors_dot = directions + atom * num_slots * 3, dot_directions + atom * num_slots * 3
        x, y, z = load_vectors(vectors, slots, seen, NUMBER)
        own_x, own_y, own_z = load_vectors(vectors, own_slots, own_seen, NUMBER)
        turned = seen & (x * x + y * y + z * z > 0.0)
        own_turned = own_seen & (own_x * own_x + own_y * own_y + own_z * own_z > 0.0)
        x_dot, y_dot, z_dot = load_vectors(vectors_dot, slots, turned, NUMBER)
        own_x_dot, own_y_dot, own_z_dot = load_vectors(vectors_dot, own_slots, own_turned, NUMBER)
        c = scalar_products(own_x, own_y, own_z, x, y, z)
        c_dot = scalar_products(own_x, own_y, own_z, x_dot, y_dot, z_dot) + scalar_products(
            own_x_dot, own_y_dot, own_z_dot, x, y, z
        )

    s = tl.zeros([STRIP, BLOCK], dtype=NUMBER)
    s_dot = tl.zeros([STRIP, BLOCK], dtype=NUMBER)
    for l in tl.static_range(LMAX + 1):
        own_l = load_group(own + first, own_slots, own_seen, own_turned, SIZES, FIRSTS, l, ROW, NUMBER)
        other_l = load_group(other + first, slots, seen, turned, SIZES, FIRSTS, l, ROW, NUMBER)
        a = product(own_l, tl.trans(other_l), PRECISION)
        own_l_dot = load_group(own_dot + first, own_slots, own_seen, own_turned, SIZES, FIRSTS, l, ROW, NUMBER)
        a_dot = product(own_l_dot, tl.trans(other_l), PRECISION)
        other_l_dot = load_group(other_dot + first, slots, seen, turned, SIZES, FIRSTS, l, ROW, NUMBER)
        a_dot += product(own_l, tl.trans(other_l_dot), PRECISION)
        if l == 0:
            s += a
            s_dot += a_dot
        else:
            s += legendre(c, l) * a
            s_dot += legendre(c, l) * a_dot + legendre_slope(c, l) * c_dot * a
    r = tl.zeros([STRIP, BLOCK], dtype=NUMBER)
    w = tl.zeros([STRIP, BLOCK], dtype=NUMBER)
    for i in tl.static_range((D + 15) // 16):
        if KEYS:
            g = load_channels(grad + first, slots, seen, 16 * i, min(16, D - 16 * i), ROW, NUMBER)
            v = load_channels(value + first, own_slots, own_seen, 16 * i, min(16, D - 16 * i), ROW, NUMBER)
            v_dot = load_channels(value_dot + first, own_slots, own_seen, 16 * i, min(16, D - 16 * i), ROW, NUMBER)
            r += product(v, tl.trans(g), PRECISION)
            w += product(v_dot, tl.trans(g), PRECISION)
        else:
            g = load_channels(grad + first, own_slots, own_seen, 16 * i, min(16, D - 16 * i), ROW, NUMBER)
            v = load_channels(value + first, slots, seen, 16 * i, min(16, D - 16 * i), ROW, NUMBER)
            v_dot = load_channels(value_dot + first, slots, seen, 16 * i, min(16, D - 16 * i), ROW, NUMBER)
            r += product(g, tl.trans(v), PRECISION)
            w += product(g, tl.trans(v_dot), PRECISION)

    if KEYS:
        top = tl.load(softmax + 5 * line + slots, mask=seen, other=0.0)
        weight = tl.load(softmax + 5 * line + num_slots + slots, mask=seen, other=0.0)
        delta = tl.load(softmax + 5 * line + 2 * num_slots + slots, mask=seen, other=0.0)
        sigma = tl.load(softmax + 5 * line + 3 * num_slots + slots, mask=seen, other=0.0)
        epsilon = tl.load(softmax + 5 * line + 4 * num_slots + slots, mask=seen, other=0.0)
        u_dot = tl.load(dot_mask + atom * num_slots + own_slots, mask=own_seen, other=0.0).to(NUMBER)
        s = tl.where(seen[None, :], SCALE * s + own_u[:, None], float("-inf"))
        s_dot = SCALE * s_dot + u_dot[:, None]
        p = tl.exp(s - top[None, :]) * weight[None, :]
        centred = s_dot - sigma[None, :]
        p_dot = p * centred
        b = p * (r * centred - delta[None, :] * s_dot + w - epsilon[None, :])
        d = p * (r - delta[None, :])
        tl.store(grad_mask + line + own_slots, tl.sum(b, axis=1), mask=own_there)
        dv = product(p_dot, load_channels(grad + first, slots, seen, 0, D, ROW, NUMBER), PRECISION)
        store_channels(grad_value + first, dv, own_slots, own_there, 0, D, ROW)
    else:
        u_dot = tl.load(dot_mask + atom * num_slots + slots, mask=seen, other=0.0).to(NUMBER)
        s = SCALE * s + u[None, :]
        s_dot = SCALE * s_dot + u_dot[None, :]
        top = tl.max(s, axis=1)
        top = tl.where(top > float("-inf"), top, 0.0)
        powers = tl.exp(s - top[:, None])
        total = tl.sum(powers, axis=1)
        weight = tl.where(own_seen, 1.0 / tl.where(total > 0.0, total, 1.0), 0.0)
        p = powers * weight[:, None]
        delta = tl.sum(p * r, axis=1)
        sigma = tl.sum(p * s_dot, axis=1)
        centred = s_dot - sigma[:, None]
        p_dot = p * centred
        e = r * centred - delta[:, None] * s_dot + w
        epsilon = tl.sum(p * e, axis=1)
        b = p * (e - epsilon[:, None])
        d = p * (r - delta[:, None])
        tl.store(softmax + 5 * line + own_slots, top, mask=own_there)
        tl.store(softmax + 5 * line + num_slots + own_slots, weight, mask=own_there)
        tl.store(softmax + 5 * line + 2 * num_slots + own_slots, delta, mask=own_there)
        tl.store(softmax + 5 * line + 3 * num_slots + own_slots, sigma, mask=own_there)
        tl.store(softmax + 5 * line + 4 * num_slots + own_slots, epsilon, mask=own_there)
        out_dot = product(p_dot, load_channels(value + first, slots, seen, 0, D, ROW, NUMBER), PRECISION)
        out_dot += product(p, load_channels(value_dot + first, slots, seen, 0, D, ROW, NUMBER), PRECISION)
        store_channels(grad_value + first, out_dot, own_slots, own_there, 0, D, ROW)

    b, d = SCALE * b, SCALE * d
    t = tl.zeros([STRIP, BLOCK], dtype=NUMBER)
    t_c = tl.zeros([STRIP, BLOCK], dtype=NUMBER)
    for l in tl.static_range(LMAX + 1):
        other_l = load_group(other + first, slots, seen, turned, SIZES, FIRSTS, l, ROW, NUMBER)
        other_l_dot = load_group(other_dot + first, slots, seen, turned, SIZES, FIRSTS, l, ROW, NUMBER)
        if l == 0:
            grad_l = product(b, other_l, PRECISION)
            grad_l += product(d, other_l_dot, PRECISION)
        else:
            own_l = load_group(own + first, own_slots, own_seen, own_turned, SIZES, FIRSTS, l, ROW, NUMBER)
            own_l_dot = load_group(own_dot + first, own_slots, own_seen, own_turned, SIZES, FIRSTS, l, ROW, NUMBER)
            a = product(own_l, tl.trans(other_l), PRECISION)
            a_dot = product(own_l_dot, tl.trans(other_l), PRECISION) + product(own_l, tl.trans(other_l_dot), PRECISION)
            t += legendre_slope(c, l) * a
            t_c += legendre_slope(c, l) * (a * b + a_dot * d)
            if l > 1:
                t_c += legendre_curvature(c, l) * c_dot * a * d
            grad_l = product(legendre(c, l) * b + legendre_slope(c, l) * c_dot * d, other_l, PRECISION)
            grad_l += product(legendre(c, l) * d, other_l_dot, PRECISION)
        store_group(grad_own + first, grad_l, own_slots, own_there, own_turned, SIZES, FIRSTS, l, ROW)
    if LMAX > 0:
        t *= d
        part = grad_directions + (6 * line + (3 * num_slots if KEYS else 0))
        grad_x = weighted_sum(t_c, x) + weighted_sum(t, x_dot)
        grad_y = weighted_sum(t_c, y) + weighted_sum(t, y_dot)
        grad_z = weighted_sum(t_c, z) + weighted_sum(t, z_dot)
        store_vectors(part, grad_x, grad_y, grad_z, own_slots, own_there)
