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
def product(x, y, PRECISION: tl.constexpr):
    """Matrix product; "tf32x3" is that of Triton without its care for infinities, which is a fifth of a kernel."""
    if PRECISION == "tf32x3":
        x_high, x_low = _split(x)
        y_high, y_low = _split(y)
        z = tl.dot(x_low, y_high, input_precision="tf32")
        z = tl.dot(x_high, y_low, z, input_precision="tf32")
        return tl.dot(x_high, y_high, z, input_precision="tf32")
    else:
        return tl.dot(x, y, input_precision=PRECISION, out_dtype=x.dtype)


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
    """The channels of degree l; sizes and first channels of the groups are packed into integers, 10 bits each."""
    keep = seen if l == 0 else turned
    return load_channels(array, slots, keep, (FIRSTS >> (10 * l)) & 1023, (SIZES >> (10 * l)) & 1023, ROW, NUMBER)


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
def load_vectors(vectors, slots, keep, NUMBER: tl.constexpr):
    """x, y and z of vectors (slots, 3); zeros where `keep` is false."""
    x = tl.load(vectors + 3 * slots, mask=keep, other=0.0).to(NUMBER)
    y = tl.load(vectors + 3 * slots + 1, mask=keep, other=0.0).to(NUMBER)
    z = tl.load(vectors + 3 * slots + 2, mask=keep, other=0.0).to(NUMBER)
    return x, y, z


@triton.jit
def store_vectors(vectors, x, y, z, slots, there):
    """Store vectors (slots, 3)."""
    tl.store(vectors + 3 * slots, x, mask=there)
    tl.store(vectors + 3 * slots + 1, y, mask=there)
    tl.store(vectors + 3 * slots + 2, z, mask=there)


@triton.jit
def scalar_products(x, y, z, s, t, w):
    """Scalar products of the vectors (x, y, z) of rows with the vectors (s, t, w) of columns."""
    return x[:, None] * s[None, :] + y[:, None] * t[None, :] + z[:, None] * w[None, :]


@triton.jit
def weighted_sum(W, x):
    """W x."""
    return tl.sum(W * x[None, :], axis=1)
