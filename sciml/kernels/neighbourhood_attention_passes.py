"""Forward and backward of neighbourhood attention in Triton; `neighbourhood_attention_double_backward` has the second.

Notation, with rows a (queries) and columns b (keys) of one head of one atom, ∘ elementwise:

    C = N Nᵀ,    A_l = Q_l K_lᵀ,    S = s Σ_l P_l(C) ∘ A_l,    P = softmax(S + 1 uᵀ),    O = P V

One program has a head of an atom, and all of these K × K matrices, K ≤ 64, in registers: 32 numbers of each per thread
of 128. Nothing of that size is stored, each argument is read from memory once, and sums over queries and over keys are
both whole: no atomics, and the same bits in every run. Sums over heads, for u and N, are taken afterwards.
Probabilities are computed anew in every pass: the idea of FlashAttention (arXiv:2205.14135).

64 rows are what the tensor cores of Hopper multiply at once (wgmma), with the right operand in shared memory, of which
threads have nothing to load. Strips of 16 or 32 rows have several times the instructions: each loads and splits all of
the other side, and its products are as long a chain of loads, barriers and waits as those of a whole head.

A thread has 255 registers, and the matrices that are needed at one time take 128 to 192 of them. That decides the order
of steps: sums over l that do not need D are taken where A_l is computed; tiles are loaded again, from the cache, where
they are needed again; C is computed again for the last loop. `slots_of`, `left_slots` and `always` keep the compiler
from undoing it. The forward pass loads the tiles of the next degree ahead; in the backward pass this was no faster,
and with bfloat16 tiles the compiler of Triton 3.6 then computed a wrong dK.

Angular terms: Σ_m Y_lm(n_a) Y_lm(n_b) ∝ P_l(C_ab) turns the product of EScAIP's expanded queries and keys
(arXiv:2410.24169; 320 channels instead of 64) into lmax + 1 narrow products, each group padded to 16, 32, 64 or 128
channels by masked loads: 112 instead of 64 for groups of 20, 10, 4, 10 and 20.

Slots with u = −∞ are loaded as zeros and take no part as rows or columns. A slot whose direction is zero is loaded as
zero in the groups l > 0, which makes P_l = 0 there as the harmonics of a zero vector do.

Bytes and FLOPs below are per head of an atom, for K slots padded to K̂, d channels, padded groups of d̂ channels
together, and w bytes a number. Products of float32 numbers are three of TF32, of float32 with bfloat16 numbers two.
"""

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
    load_groups,
    load_kept,
    load_mask,
    product,
    slots_of,
    store_channels,
    store_group,
)
from sciml.kernels.legendre import legendre, legendre_slope


@triton.jit(do_not_specialize=["num_slots"])
def forward_kernel(
    q, k, v, mask, directions, out, num_slots,
    HEADS: tl.constexpr, D: tl.constexpr, SIZES: tl.constexpr, FIRSTS: tl.constexpr, LMAX: tl.constexpr,
    SCALE: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """O = P V.

    Bytes: 4 K d w (queries, keys, values, out). FLOPs: 2 K̂² (d̂ + d + 16).
    """
    NUMBER: tl.constexpr = tl.float64 if q.dtype.element_ty == tl.float64 else tl.float32
    TILE: tl.constexpr = tl.bfloat16 if PRECISION == "bf16" else NUMBER
    FULL: tl.constexpr = "tf32x3" if PRECISION == "bf16" else PRECISION  # of directions
    ROW: tl.constexpr = HEADS * D
    head = tl.program_id(0)
    atom = (head // HEADS).to(tl.int64)
    first = atom * num_slots * ROW + (head % HEADS) * D
    mask += atom * num_slots
    directions += 3 * atom * num_slots
    slots = slots_of(num_slots, BLOCK, 0)
    seen, turned = load_kept(mask, directions, slots, num_slots, LMAX, NUMBER)
    c = tl.zeros([BLOCK, BLOCK], dtype=NUMBER)
    if LMAX > 0:
        c = cosines(directions, slots, seen, NUMBER, FULL)

    s = tl.zeros([BLOCK, BLOCK], dtype=NUMBER)
    q_next, k_next = load_groups(q + first, k + first, slots, seen, turned, SIZES, FIRSTS, 0, ROW, TILE)
    for l in tl.static_range(LMAX + 1):
        q_l, k_l = q_next, k_next
        if l < LMAX:
            q_next, k_next = load_groups(q + first, k + first, slots, seen, turned, SIZES, FIRSTS, l + 1, ROW, TILE)
        if always(num_slots, l):
            a = product(q_l, tl.trans(k_l), PRECISION)
            s += a if l == 0 else legendre(c, l) * a
    slots = slots_of(num_slots, BLOCK, 1)
    u, seen = load_mask(mask, slots, num_slots, NUMBER)
    p = probabilities(SCALE * s + u[None, :], seen)

    order = left_slots(num_slots, BLOCK, 1, PRECISION)
    seen, _ = load_kept(mask, directions, order, num_slots, 0, NUMBER)
    v_tile = load_channels(v + first, order, seen, 0, D, ROW, TILE)
    o = product(left_operand(p, PRECISION), v_tile, PRECISION)
    store_channels(out + first, o, slots, slots < num_slots, 0, D, ROW)


@triton.jit
def probabilities(s, seen):
    """Softmax of rows; zeros where none of them takes part."""
    top = tl.max(s, axis=1)
    powers = tl.exp(s - tl.where(top > float("-inf"), top, 0.0)[:, None])
    total = tl.sum(powers, axis=1)
    return powers * tl.where(seen, 1.0 / tl.where(total > 0.0, total, 1.0), 0.0)[:, None]


@triton.jit
def outer_product(
    x, y, slots, seen, D: tl.constexpr, ROW: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr, z=None
):
    """X Yᵀ + z of arrays (slots, channels), 32 channels at a time: more at once do not fit into registers."""
    for i in tl.static_range((D + 31) // 32):
        x_part = load_channels(x, slots, seen, 32 * i, min(32, D - 32 * i), ROW, TILE)
        y_part = load_channels(y, slots, seen, 32 * i, min(32, D - 32 * i), ROW, TILE)
        z = product(x_part, tl.trans(y_part), PRECISION, z)
    return z


@triton.jit(do_not_specialize=["num_slots"])
def backward_kernel(
    grad, q, k, v, mask, directions, grad_q, grad_k, grad_v, grad_mask, grad_directions, num_slots,
    HEADS: tl.constexpr, D: tl.constexpr, SIZES: tl.constexpr, FIRSTS: tl.constexpr, LMAX: tl.constexpr,
    SCALE: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of ⟨G, O⟩ for a given G.

        R = G Vᵀ,    D = P ∘ (R − δ 1ᵀ),    δ = rows of P ∘ R, summed
        dV = Pᵀ G,    du = Dᵀ 1,    dQ_l = s (P_l ∘ D) K_l,    dK_l = s (P_l ∘ D)ᵀ Q_l
        T = D ∘ Σ_l P_l′ ∘ A_l,    dN = s (T + Tᵀ) N

    (P_l ∘ D)ᵀ is P_l ∘ Dᵀ, for C is symmetric: D is transposed once.

    Bytes: 4 K d w read, 3 K d w written. FLOPs: 2 K̂² (3 d̂ + 2 d + 48).
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
    slots = slots_of(num_slots, BLOCK, 0)
    seen, turned = load_kept(mask, directions, slots, num_slots, LMAX, NUMBER)
    c = tl.zeros([BLOCK, BLOCK], dtype=NUMBER)
    if LMAX > 0:
        c = cosines(directions, slots, seen, NUMBER, FULL)
    s = tl.zeros([BLOCK, BLOCK], dtype=NUMBER)
    t = tl.zeros([BLOCK, BLOCK], dtype=NUMBER)
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

    slots = slots_of(num_slots, BLOCK, 1)
    u, seen = load_mask(mask, slots, num_slots, NUMBER)
    p = probabilities(SCALE * s + u[None, :], seen)
    r = outer_product(grad + first, v + first, slots, seen, D, ROW, TILE, PRECISION)
    d = p * (r - tl.sum(p * r, axis=1)[:, None])

    slots = slots_of(num_slots, BLOCK, 2)
    there = slots < num_slots
    if LMAX > 0:
        t *= d
        order_full = left_slots(num_slots, BLOCK, 2, FULL)
        seen, _ = load_kept(mask, directions, order_full, num_slots, 0, NUMBER)
        n = load_directions(directions, order_full, seen, NUMBER)
        dn = product(left_operand(t + tl.trans(t), FULL), n, FULL)
        store_channels(grad_directions + 3 * line, SCALE * dn, slots, there, 0, 3, 3)
    order = left_slots(num_slots, BLOCK, 2, PRECISION)
    seen, _ = load_kept(mask, directions, order, num_slots, 0, NUMBER)
    g_tile = load_channels(grad + first, order, seen, 0, D, ROW, TILE)
    dv = product(left_operand(tl.trans(p), PRECISION), g_tile, PRECISION)
    store_channels(grad_v + first, dv, slots, there, 0, D, ROW)
    d_t = tl.trans(d)
    tl.store(grad_mask + line + slots, tl.sum(d_t, axis=1), mask=there)

    slots, order = slots_of(num_slots, BLOCK, 3), left_slots(num_slots, BLOCK, 3, PRECISION)
    there = slots < num_slots
    seen, turned = load_kept(mask, directions, slots, num_slots, LMAX, NUMBER)
    if LMAX > 0:
        c = cosines(directions, slots, seen, NUMBER, FULL)
    order_seen, order_turned = load_kept(mask, directions, order, num_slots, LMAX, NUMBER)
    for l in tl.static_range(LMAX + 1):
        if always(num_slots, 10 + l):
            k_l = load_group(k + first, order, order_seen, order_turned, SIZES, FIRSTS, l, ROW, TILE)
            q_l = load_group(q + first, order, order_seen, order_turned, SIZES, FIRSTS, l, ROW, TILE)
            dq = product(left_operand(d if l == 0 else legendre(c, l) * d, PRECISION), k_l, PRECISION)
            dk = product(left_operand(d_t if l == 0 else legendre(c, l) * d_t, PRECISION), q_l, PRECISION)
            store_group(grad_q + first, SCALE * dq, slots, there, turned, SIZES, FIRSTS, l, ROW)
            store_group(grad_k + first, SCALE * dk, slots, there, turned, SIZES, FIRSTS, l, ROW)
