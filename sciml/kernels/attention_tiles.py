"""What the kernels of neighbourhood attention load, multiply and store: tiles of slots by channels of one head."""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202 - Triton reads the annotations of kernels itself

import triton
import triton.language as tl


@triton.jit
def _split(x):
    """The nearest numbers of 11 bits, exact in TF32, and the rests."""
    high = ((x.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
    return high, x - high


@triton.jit
def product(x, y, PRECISION: tl.constexpr, z=None):
    """Matrix product x y + z.

    "tf32x3" is that of Triton without its care for infinities, which is a fifth of a kernel. "bf16" has a y in
    bfloat16: products with another such number are exact in float32, and a float32 x is two of them.
    """
    if PRECISION == "tf32x3":
        x_high, x_low = _split(x)
        y_high, y_low = _split(y)
        z = tl.dot(x_low, y_high, z, input_precision="tf32")
        z = tl.dot(x_high, y_low, z, input_precision="tf32")
        return tl.dot(x_high, y_high, z, input_precision="tf32")
    elif PRECISION == "bf16":
        if x.dtype == tl.bfloat16:
            return tl.dot(x, y, z)
        else:
            x_high = x.to(tl.bfloat16)
            z = tl.dot((x - x_high.to(tl.float32)).to(tl.bfloat16), y, z)
            return tl.dot(x_high, y, z)
    else:
        return tl.dot(x, y, z, input_precision=PRECISION, out_dtype=x.dtype)


@triton.jit
def left_operand(x, PRECISION: tl.constexpr):
    """A result of products as the left operand of one: its columns in the order of `left_slots`.

    In this order a thread of a tensor core in TF32 needs the very numbers that it has, and nothing has to move.
    """
    if PRECISION == "tf32x3":
        x = tl.reshape(x, [x.shape[0], x.shape[1] // 8, 4, 2])
        return tl.reshape(tl.permute(x, [0, 1, 3, 2]), [x.shape[0], x.shape[1] * 8])
    else:
        return x


@triton.jit
def slots_of(num_slots, BLOCK: tl.constexpr, STEP: tl.constexpr):
    """0, 1, … BLOCK − 1, of which the compiler does not know that they are those of another step: num_slots ≤ 64.

    Else it would keep, from their first use to their last, what follows from them: addresses of rows in each array, the
    masks, and even P_l. There are not nearly enough registers for that.
    """
    return tl.arange(0, BLOCK) + (num_slots >> (7 + STEP))


@triton.jit
def left_slots(num_slots, BLOCK: tl.constexpr, STEP: tl.constexpr, PRECISION: tl.constexpr):
    """The slots of the columns of a `left_operand`, and of the rows of what it is multiplied with."""
    slots = tl.arange(0, BLOCK)
    if PRECISION == "tf32x3":
        slots = slots // 8 * 8 + slots % 4 * 2 + slots % 8 // 4
    return slots + (num_slots >> (7 + STEP))


@triton.jit
def always(num_slots, STEP: tl.constexpr):
    """True, of which the compiler does not know: what is inside an `if` is scheduled by itself.

    Else it starts all loads and products of a kernel as early as their order permits, and leaves what is elementwise,
    and with it every matrix that this could have done with, for the end.
    """
    return num_slots != 1000 + STEP


@triton.jit
def channels_of(SIZE: tl.constexpr):
    """0, 1, … of a group, padded to a power of two that tensor cores take."""
    BLOCK: tl.constexpr = 16 if SIZE <= 16 else (32 if SIZE <= 32 else (64 if SIZE <= 64 else 128))
    return tl.arange(0, BLOCK)


@triton.jit
def load_channels(array, slots, keep, FIRST: tl.constexpr, SIZE: tl.constexpr, ROW: tl.constexpr, NUMBER: tl.constexpr):
    """Channels FIRST … FIRST + SIZE − 1, (slots, channels); zeros where `keep` is false."""
    channels = channels_of(SIZE)
    inside = keep[:, None] & (channels < SIZE)[None, :]
    return tl.load(array + (slots[:, None] * ROW + (FIRST + channels)[None, :]), mask=inside, other=0.0).to(NUMBER)


@triton.jit
def store_channels(array, x, slots, there, FIRST: tl.constexpr, SIZE: tl.constexpr, ROW: tl.constexpr):
    """Store (slots, channels) as channels FIRST … FIRST + SIZE − 1."""
    channels = channels_of(SIZE)
    inside = there[:, None] & (channels < SIZE)[None, :]
    tl.store(array + (slots[:, None] * ROW + (FIRST + channels)[None, :]), x.to(array.dtype.element_ty), mask=inside)


@triton.jit
def load_group(
    array, slots, seen, turned, SIZES: tl.constexpr, FIRSTS: tl.constexpr, l: tl.constexpr, ROW: tl.constexpr,
    NUMBER: tl.constexpr,
):  # fmt: skip
    """The channels of degree l, zeros for l > 0 where `turned` is false.

    Sizes and first channels of the groups are packed into integers, 10 bits each.
    """
    keep = seen if l == 0 else turned
    return load_channels(array, slots, keep, (FIRSTS >> (10 * l)) & 1023, (SIZES >> (10 * l)) & 1023, ROW, NUMBER)


@triton.jit
def load_groups(
    q, k, slots, seen, turned, SIZES: tl.constexpr, FIRSTS: tl.constexpr, l: tl.constexpr, ROW: tl.constexpr,
    NUMBER: tl.constexpr,
):  # fmt: skip
    """The channels of degree l of two arrays."""
    q_l = load_group(q, slots, seen, turned, SIZES, FIRSTS, l, ROW, NUMBER)
    return q_l, load_group(k, slots, seen, turned, SIZES, FIRSTS, l, ROW, NUMBER)


@triton.jit
def store_group(
    array, x, slots, there, turned, SIZES: tl.constexpr, FIRSTS: tl.constexpr, l: tl.constexpr, ROW: tl.constexpr
):
    """Store the channels of degree l; zeros for l > 0 where `turned` is false."""
    kept = x if l == 0 else tl.where(turned[:, None], x, 0.0)
    store_channels(array, kept, slots, there, (FIRSTS >> (10 * l)) & 1023, (SIZES >> (10 * l)) & 1023, ROW)


@triton.jit
def load_mask(mask, slots, num_slots, NUMBER: tl.constexpr):
    """u, and which slots take part."""
    u = tl.load(mask + slots, mask=slots < num_slots, other=float("-inf")).to(NUMBER)
    return u, u > float("-inf")


@triton.jit
def load_kept(mask, directions, slots, num_slots, LMAX: tl.constexpr, NUMBER: tl.constexpr):
    """Which slots take part, and which of these have a direction."""
    _, seen = load_mask(mask, slots, num_slots, NUMBER)
    turned = seen
    if LMAX > 0:
        x = tl.load(directions + 3 * slots, mask=seen, other=0.0).to(NUMBER)
        y = tl.load(directions + 3 * slots + 1, mask=seen, other=0.0).to(NUMBER)
        z = tl.load(directions + 3 * slots + 2, mask=seen, other=0.0).to(NUMBER)
        turned = seen & (x * x + y * y + z * z > 0.0)
    return seen, turned


@triton.jit
def load_directions(directions, slots, keep, NUMBER: tl.constexpr):
    """Vectors (slots, 3), padded to 16 components that tensor cores take; zeros where `keep` is false."""
    return load_channels(directions, slots, keep, 0, 3, 3, NUMBER)


@triton.jit
def cosines(directions, slots, keep, NUMBER: tl.constexpr, PRECISION: tl.constexpr):
    """N Nᵀ: from tensor cores, which spares registers for the components of every column."""
    n = load_directions(directions, slots, keep, NUMBER)
    return product(n, tl.trans(n), PRECISION)
