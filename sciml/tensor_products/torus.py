"""Spherical harmonics as 2D Fourier series, both ways, with analytic coefficients."""

import math

import torch
from torch import Tensor

from sciml.nn.constants import ConstantsModule
from sciml.tensor_products.sphere import normalised_legendre


class TorusTransform(ConstantsModule):
    """Σ_lm x_lm Y_lm to its values on a uniform grid of the torus (θ, φ), and the projection of such values back.

    For the order v = |m|, P̄_l^v(cos θ) is a series in cos(uθ) if v is even, in sin(uθ) if v is odd. With the real
    coefficients r of Σ_u r_u e^{iuθ} (times -i for odd v), and e^{ivφ} for cos and sin of vφ,

        F̂[u, v] = (1/√2) (x_{l,v} - i x_{l,-v}) (-i)^{v mod 2} r^{lv}_u        (without 1/√2 for v = 0),
        x_{l,±v} ∝ Σ_u Re, Im F̂[u, v] ∫_0^π (cos or sin)(uθ) P̄_l^v(cos θ) sin θ dθ.

    Of the real and the imaginary part of F̂, each order v takes one component m = ±v with a sign: one table of indices
    serves both directions, and everything but the FFT is a batch of real matrix products, one per order.

    Args:
        lmax: largest degree.
        size: points in θ and φ. To be exact for a product of degree L, θ needs 2L+1, and φ L+lmax+1.

    Source: the series by the recursions of `normalised_legendre` applied to coefficients; integrals of e^{inθ} sin θ
        in closed form.
    """

    series_real: Tensor
    series_imag: Tensor
    integrals_real: Tensor
    integrals_imag: Tensor
    index: Tensor
    places: Tensor

    def __init__(self, lmax: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.lmax = lmax
        self.size = size
        legendre = _legendre_series(lmax)  # (l, v, 2 lmax + 1), complex
        frequencies = torch.arange(-lmax, lmax + 1)
        series = torch.zeros(lmax + 1, lmax + 1, size[0], dtype=torch.float64)  # (v, l, u)
        integrals = torch.zeros(lmax + 1, size[0], lmax + 1, dtype=torch.float64)  # (v, u, l)
        wrapped = torch.fft.fftfreq(size[0], 1 / size[0]).round().long()
        integral = _integrals(wrapped[:, None] + frequencies)  # (u, 2 lmax + 1)
        sign_real, sign_imag = torch.ones(lmax + 1), -torch.ones(lmax + 1)
        index = torch.zeros(2, lmax + 1, lmax + 1, dtype=torch.int64)  # (real or imaginary, v, l)
        for v in range(lmax + 1):
            odd = v % 2
            sign_real[v] = -1 if odd else 1
            for l in range(v, lmax + 1):
                coefficients = legendre[l, v]
                series[v, l, frequencies % size[0]] = (coefficients.imag * -1 if odd else coefficients.real) * (
                    1 if v == 0 else 1 / math.sqrt(2)
                )
                whole = integral @ coefficients  # ∫ e^{iuθ} P sin θ
                integrals[v, :, l] = (whole.imag if odd else whole.real) * (1 if v == 0 else math.sqrt(2)) * 2 * math.pi
                centre = l * l + l
                index[0, v, l] = centre - v if odd else centre + v
                index[1, v, l] = centre + v if odd else centre - v
        imaginary = series.clone()
        imaginary[0] = 0
        self.register_constant("series_real", series * sign_real[:, None, None])
        self.register_constant("series_imag", imaginary * sign_imag[:, None, None])
        self.register_constant("integrals_real", integrals * sign_real[:, None, None])
        self.register_constant("integrals_imag", integrals * sign_imag[:, None, None])
        self.register_buffer("index", index.flatten(1), persistent=False)
        places = torch.zeros((lmax + 1) ** 2, dtype=torch.int64)  # where component (l, m) stands among the results
        for part in (1, 0):  # for v = 0 the real part
            for v in range(lmax + 1):
                for l in range(v, lmax + 1):
                    places[index[part, v, l]] = (part * (lmax + 1) + v) * (lmax + 1) + l
        self.register_buffer("places", places, persistent=False)

    def to_torus(self, x: Tensor) -> Tensor:
        """Coefficients (..., (lmax+1)²) → values (..., points in θ · points in φ)."""
        if x.numel() == 0:  # FFT libraries refuse empty batches
            return x.new_zeros(*x.shape[:-1], self.size[0] * self.size[1])
        real, imag = (
            torch.einsum("...vl,vlu->...uv", x[..., index].unflatten(-1, (self.lmax + 1, self.lmax + 1)), series)
            for index, series in ((self.index[0], self.series_real), (self.index[1], self.series_imag))
        )
        return torch.fft.irfft2(torch.complex(real, imag), s=self.size, norm="forward").flatten(-2)

    def from_torus(self, values: Tensor) -> Tensor:
        """Values (..., points in θ · points in φ) → projections (..., (lmax+1)²) on the harmonics."""
        if values.numel() == 0:
            return values.new_zeros(*values.shape[:-1], (self.lmax + 1) ** 2)
        series = torch.fft.rfft2(values.unflatten(-1, self.size), norm="forward")[..., : self.lmax + 1]
        real = torch.einsum("...uv,vul->...vl", series.real, self.integrals_real)
        imag = torch.einsum("...uv,vul->...vl", series.imag, self.integrals_imag)
        return torch.cat([real.flatten(-2), imag.flatten(-2)], dim=-1)[..., self.places]


def _legendre_series(lmax: int) -> Tensor:
    """Fourier coefficients of P̄_l^m(cos θ), frequencies -lmax … lmax, (lmax + 1, lmax + 1, 2 lmax + 1), complex128."""
    one = torch.zeros(2 * lmax + 1, dtype=torch.complex128)
    one[lmax] = 1

    def shifted(p: Tensor, by: int) -> Tensor:
        # Coefficients that leave at one end are zero: degree l has frequencies up to l.
        return p.roll(by)

    return normalised_legendre(
        lmax,
        one,
        lambda p: (shifted(p, 1) + shifted(p, -1)) / 2,
        lambda p: (shifted(p, 1) - shifted(p, -1)) / 2j,
    )


def _integrals(n: Tensor) -> Tensor:
    """∫_0^π e^{inθ} sin θ dθ = (1 + (-1)^n) / (1 - n²), or ±iπ/2 for n = ±1."""
    even = (n % 2 == 0).double() * 2 / (1 - n.double() ** 2).where(n.abs() != 1, torch.ones(1, dtype=torch.float64))
    return torch.complex(even, (n.abs() == 1).double() * n.double() * math.pi / 2)
