"""Forward and backward of neighbourhood attention in Triton; `neighbourhood_attention_double_backward` has the second.

Notation, with rows a (queries) and columns b (keys) of one head of one atom, ∘ elementwise:

    C = N Nᵀ,    A_l = Q_l K_lᵀ,    S = s Σ_l P_l(C) ∘ A_l,    P = softmax(S + 1 uᵀ),    O = P V

One program has a strip of these K × K matrices, all K ≤ 64 slots of one side times 16 or 32 of the other: small enough
for registers, so that nothing of that size is stored, and large enough for tensor cores. Probabilities are computed
anew in every pass, from the top and the total of each softmax: the idea of FlashAttention (arXiv:2205.14135). The
strips of a head are neighbours in the grid and find each other's operands in the cache.

Both derivatives have two launches of one kernel. In the first the strips are of queries ("own": queries, "other":
keys), and sums over keys are whole; it leaves what its softmax needs, a few numbers per row. In the second the strips
are of keys (KEYS; "own": keys, "other": queries, all matrices transposed) and sums over queries are whole. A program
needs no sum that another one has a part of: no atomics, and the same bits in every run. Sums over heads, for u and N,
are taken afterwards.

Angular terms: Σ_m Y_lm(n_a) Y_lm(n_b) ∝ P_l(C_ab) turns the product of EScAIP's expanded queries and keys
(arXiv:2410.24169; 320 channels instead of 64) into lmax + 1 narrow products, each group padded to 16, 32, 64 or 128
channels by masked loads: 112 instead of 64 for groups of 20, 10, 4, 10 and 20.

Slots with u = −∞ are loaded as zeros and take no part as rows or columns. A slot whose direction is zero is loaded as
zero in the groups l > 0, which makes P_l = 0 there as the harmonics of a zero vector do.

Bytes and FLOPs below are per head of an atom, for K slots (rows padded to K̂₁₆, columns to K̂), d channels, padded groups
of d̂ channels together, and w bytes a number; bytes are those of a cache that holds a head.
"""

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
from sciml.kernels.legendre import legendre, legendre_slope


@triton.jit(do_not_specialize=["num_slots"])
def forward_kernel(
    q, k, v, mask, directions, out, num_slots,
    HEADS: tl.constexpr, D: tl.constexpr, SIZES: tl.constexpr, FIRSTS: tl.constexpr, LMAX: tl.constexpr,
    SCALE: tl.constexpr, STRIP: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """O = P V of a strip of queries.

    Bytes: 4 K d w (queries, keys, values, out). FLOPs: 2 K̂₁₆ K̂ (d̂ + d).
    """
    NUMBER: tl.constexpr = tl.float64 if q.dtype.element_ty == tl.float64 else tl.float32
    ROW: tl.constexpr = HEADS * D
    strips = (num_slots + STRIP - 1) // STRIP
    head = tl.program_id(0) // strips
    atom = (head // HEADS).to(tl.int64)
    first = atom * num_slots * ROW + (head % HEADS) * D
    own_slots = (tl.program_id(0) % strips) * STRIP + tl.arange(0, STRIP)
    slots = tl.arange(0, BLOCK)
    u, seen = load_mask(mask + atom * num_slots, slots, num_slots, NUMBER)
    _, own_seen = load_mask(mask + atom * num_slots, own_slots, num_slots, NUMBER)
    turned, own_turned = seen, own_seen
    c = tl.zeros([STRIP, BLOCK], dtype=NUMBER)
    if LMAX > 0:
        x, y, z = load_vectors(directions + atom * num_slots * 3, slots, seen, NUMBER)
        own_x, own_y, own_z = load_vectors(directions + atom * num_slots * 3, own_slots, own_seen, NUMBER)
        turned = seen & (x * x + y * y + z * z > 0.0)
        own_turned = own_seen & (own_x * own_x + own_y * own_y + own_z * own_z > 0.0)
        c = scalar_products(own_x, own_y, own_z, x, y, z)

    s = tl.zeros([STRIP, BLOCK], dtype=NUMBER)
    for l in tl.static_range(LMAX + 1):
        q_l = load_group(q + first, own_slots, own_seen, own_turned, SIZES, FIRSTS, l, ROW, NUMBER)
        k_l = load_group(k + first, slots, seen, turned, SIZES, FIRSTS, l, ROW, NUMBER)
        a = product(q_l, tl.trans(k_l), PRECISION)
        s += a if l == 0 else legendre(c, l) * a
    s = SCALE * s + u[None, :]
    top = tl.max(s, axis=1)
    powers = tl.exp(s - tl.where(top > float("-inf"), top, 0.0)[:, None])
    total = tl.sum(powers, axis=1)
    weight = tl.where(own_seen, 1.0 / tl.where(total > 0.0, total, 1.0), 0.0)
    p = powers * weight[:, None]
    v_tile = load_channels(v + first, slots, seen, 0, D, ROW, NUMBER)
    store_channels(out + first, product(p, v_tile, PRECISION), own_slots, own_slots < num_slots, 0, D, ROW)


@triton.jit(do_not_specialize=["num_slots"])
def backward_kernel(
    own, other, own_value, other_value, mask, directions, softmax, grad_own, grad_value, grad_mask, grad_directions,
    num_slots,
    KEYS: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, SIZES: tl.constexpr, FIRSTS: tl.constexpr,
    LMAX: tl.constexpr, SCALE: tl.constexpr, STRIP: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of ⟨G, O⟩ for a given G: of queries (own_value: G, other_value: V), or of keys (own_value: V, …: G).

        R = G Vᵀ,    D = P ∘ (R − δ 1ᵀ),    δ = rows of P ∘ R, summed
        dV = Pᵀ G,    du = Dᵀ 1,    dQ_l = s (P_l ∘ D) K_l,    dK_l = s (P_l ∘ D)ᵀ Q_l
        T = s Σ_l P_l′ ∘ A_l ∘ D,    dN = (T + Tᵀ) N

    A_l is computed twice, for P and for T, because lmax + 1 strips of it would fill the registers. T N comes from the
    queries, Tᵀ N from the keys.

    Bytes: 4 K d w read twice, 3 K d w written. FLOPs: 2 K̂₁₆ K̂ (6 d̂ + 3 d), less the group l = 0 in the second A_l.
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
    if LMAX > 0:
        x, y, z = load_vectors(directions + atom * num_slots * 3, slots, seen, NUMBER)
        own_x, own_y, own_z = load_vectors(directions + atom * num_slots * 3, own_slots, own_seen, NUMBER)
        turned = seen & (x * x + y * y + z * z > 0.0)
        own_turned = own_seen & (own_x * own_x + own_y * own_y + own_z * own_z > 0.0)
        c = scalar_products(own_x, own_y, own_z, x, y, z)

    s = tl.zeros([STRIP, BLOCK], dtype=NUMBER)
    for l in tl.static_range(LMAX + 1):
        own_l = load_group(own + first, own_slots, own_seen, own_turned, SIZES, FIRSTS, l, ROW, NUMBER)
        other_l = load_group(other + first, slots, seen, turned, SIZES, FIRSTS, l, ROW, NUMBER)
        a = product(own_l, tl.trans(other_l), PRECISION)
        s += a if l == 0 else legendre(c, l) * a
    r = tl.zeros([STRIP, BLOCK], dtype=NUMBER)
    for i in tl.static_range((D + 15) // 16):
        own_part = load_channels(own_value + first, own_slots, own_seen, 16 * i, min(16, D - 16 * i), ROW, NUMBER)
        other_part = load_channels(other_value + first, slots, seen, 16 * i, min(16, D - 16 * i), ROW, NUMBER)
        r += product(own_part, tl.trans(other_part), PRECISION)

    if KEYS:
        top = tl.load(softmax + 3 * line + slots, mask=seen, other=0.0)
        weight = tl.load(softmax + 3 * line + num_slots + slots, mask=seen, other=0.0)
        delta = tl.load(softmax + 3 * line + 2 * num_slots + slots, mask=seen, other=0.0)
        s = tl.where(seen[None, :], SCALE * s + own_u[:, None], float("-inf"))
        p = tl.exp(s - top[None, :]) * weight[None, :]
        d = p * (r - delta[None, :])
        dv = product(p, load_channels(other_value + first, slots, seen, 0, D, ROW, NUMBER), PRECISION)
        store_channels(grad_value + first, dv, own_slots, own_there, 0, D, ROW)
        tl.store(grad_mask + line + own_slots, tl.sum(d, axis=1), mask=own_there)
    else:
        s = SCALE * s + u[None, :]
        top = tl.max(s, axis=1)
        top = tl.where(top > float("-inf"), top, 0.0)
        powers = tl.exp(s - top[:, None])
        total = tl.sum(powers, axis=1)
        weight = tl.where(own_seen, 1.0 / tl.where(total > 0.0, total, 1.0), 0.0)
        p = powers * weight[:, None]
        delta = tl.sum(p * r, axis=1)
        d = p * (r - delta[:, None])
        tl.store(softmax + 3 * line + own_slots, top, mask=own_there)
        tl.store(softmax + 3 * line + num_slots + own_slots, weight, mask=own_there)
        tl.store(softmax + 3 * line + 2 * num_slots + own_slots, delta, mask=own_there)

    d = SCALE * d
    t = tl.zeros([STRIP, BLOCK], dtype=NUMBER)
    for l in tl.static_range(LMAX + 1):
        other_l = load_group(other + first, slots, seen, turned, SIZES, FIRSTS, l, ROW, NUMBER)
        if l > 0:
            own_l = load_group(own + first, own_slots, own_seen, own_turned, SIZES, FIRSTS, l, ROW, NUMBER)
            t += legendre_slope(c, l) * product(own_l, tl.trans(other_l), PRECISION)
        grad_l = product(d if l == 0 else legendre(c, l) * d, other_l, PRECISION)
        store_group(grad_own + first, grad_l, own_slots, own_there, own_turned, SIZES, FIRSTS, l, ROW)
    if LMAX > 0:
        t *= d
        part = grad_directions + (6 * line + (3 * num_slots if KEYS else 0))
        store_vectors(part, weighted_sum(t, x), weighted_sum(t, y), weighted_sum(t, z), own_slots, own_there)
