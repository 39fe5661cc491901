"""Loads and stores of one element a thread, which Triton's layout passes do not see.

Triton chooses a layout for every load and store by following all that depends on it. Kernels that are straight code of
thousands of lines with hundreds of loads take minutes in that pass, and need no layout: a thread has one element.
Addresses go as int64, because Triton 3.6 takes no pointers beside floats there.
"""

import triton
import triton.language as tl


@triton.jit
def read(pointer, mask, DIRECT: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Elements of float32 or float64, zero where the mask, int32, is zero; tl.load unless DIRECT."""
    if DIRECT:
        if pointer.dtype.element_ty == tl.float64:
            value = tl.inline_asm_elementwise(
                "{ .reg .pred p; setp.ne.s32 p, $2, 0; mov.f64 $0, 0d0000000000000000; @p ld.global.f64 $0, [$1]; }",
                "=&d,l,r",
                [pointer.to(tl.int64), mask],
                dtype=tl.float64,
                is_pure=False,
                pack=1,
            )
        else:
            value = tl.inline_asm_elementwise(
                "{ .reg .pred p; setp.ne.s32 p, $2, 0; mov.f32 $0, 0f00000000; @p ld.global.f32 $0, [$1]; }",
                "=&f,l,r",
                [pointer.to(tl.int64), mask],
                dtype=tl.float32,
                is_pure=False,
                pack=1,
            )
    else:
        value = tl.load(pointer, mask=mask != 0, other=0.0)
    return value


@triton.jit
def write(pointer, value, mask, DIRECT: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Store elements of float32 or float64 where the mask, int32, is not zero; tl.store unless DIRECT."""
    if DIRECT:
        if pointer.dtype.element_ty == tl.float64:
            tl.inline_asm_elementwise(
                "{ .reg .pred p; setp.ne.s32 p, $3, 0; @p st.global.f64 [$1], $2; mov.b32 $0, 0; }",
                "=r,l,d,r",
                [pointer.to(tl.int64), value, mask],
                dtype=tl.int32,
                is_pure=False,
                pack=1,
            )
        else:
            tl.inline_asm_elementwise(
                "{ .reg .pred p; setp.ne.s32 p, $3, 0; @p st.global.f32 [$1], $2; mov.b32 $0, 0; }",
                "=r,l,f,r",
                [pointer.to(tl.int64), value, mask],
                dtype=tl.int32,
                is_pure=False,
                pack=1,
            )
    else:
        tl.store(pointer, value, mask=mask != 0)
