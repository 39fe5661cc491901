"""Functions on the sphere: exact quadrature, and real spherical harmonics of any degree in e3nn's basis."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]


class SphereGrid(NamedTuple):
    """Gauss-Legendre x uniform grid; the points of one height stand side by side. The polar axis is y, as in e3nn.

    Attributes:
        heights: (n_β,), cos β, float64.
        polar_weights: (n_β,), which sum to 2.
        azimuths: (n_α,), α = atan2(x, z), uniform.
    """

    heights: Tensor
    polar_weights: Tensor
    azimuths: Tensor

    @property
    def points(self) -> Tensor:
        """(n_β n_α, 3), unit vectors."""
        heights = self.heights[:, None]
        radii = (1 - heights**2).sqrt()
        xyz = torch.broadcast_tensors(radii * self.azimuths.sin(), heights, radii * self.azimuths.cos())
        return torch.stack(xyz, dim=-1).reshape(-1, 3)

    @property
    def weights(self) -> Tensor:
        """(n_β n_α,); they sum to 4π."""
        return self.polar_weights.repeat_interleave(len(self.azimuths)) * (2 * math.pi / len(self.azimuths))

    def harmonics(self, lmax: int) -> Tensor:
        """Orthonormal harmonics up to `lmax` at the points, (n_β n_α, (lmax+1)²)."""
        polar = self.legendre(lmax)  # (l, m, n_β)
        azimuthal = trigonometric(lmax, self.azimuths)  # (2 lmax + 1, n_α)
        columns = [
            torch.outer(polar[l, abs(m)], azimuthal[lmax + m]).flatten()
            for l in range(lmax + 1)
            for m in range(-l, l + 1)
        ]
        return torch.stack(columns, dim=1)

    def gradients(self, lmax: int) -> tuple[Tensor, Tensor]:
        """∂Y/∂β and ∂Y/∂α / sin β of the harmonics up to `lmax` at the points, each (n_β n_α, (lmax+1)²).

        sin β dP̄_l^m/dβ = l cos β P̄_l^m - √((l²-m²)(2l+1)/(2l-1)) P̄_{l-1}^m
        """
        polar = self.legendre(lmax)
        radii = (1 - self.heights**2).sqrt()
        azimuthal = trigonometric(lmax, self.azimuths)
        by_polar, by_azimuth = [], []
        for l in range(lmax + 1):
            for m in range(-l, l + 1):
                slope = l * self.heights * polar[l, abs(m)]
                if l > abs(m):
                    slope = slope - math.sqrt((l**2 - m**2) * (2 * l + 1) / (2 * l - 1)) * polar[l - 1, abs(m)]
                by_polar.append(torch.outer(slope / radii, azimuthal[lmax + m]).flatten())
                # d/dα turns sin into cos and cos into -sin: component m into -m·(component -m)
                by_azimuth.append(torch.outer(-m * polar[l, abs(m)] / radii, azimuthal[lmax - m]).flatten())
        return torch.stack(by_polar, dim=1), torch.stack(by_azimuth, dim=1)

    def legendre(self, lmax: int) -> Tensor:
        """`normalised_legendre` at the heights, (lmax + 1, lmax + 1, n_β)."""
        radii = (1 - self.heights**2).sqrt()
        return normalised_legendre(lmax, torch.ones_like(radii), lambda p: p * self.heights, lambda p: p * radii)


def sphere_grid(degree: int, *, antipodal: bool = False) -> SphereGrid:
    """The smallest grid of its kind that integrates every polynomial up to `degree` exactly.

    ⌊S/2⌋+1 heights integrate polynomials of degree S in cos β (Gauss), S+1 azimuths the harmonics e^{imα}, |m| ≤ S.

    Args:
        degree: S.
        antipodal: take one azimuth more if their number is odd, so that the grid is its own image under inversion.
    """
    num_azimuths = degree + 1
    if antipodal:
        num_azimuths += num_azimuths % 2
    heights, polar_weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    azimuths = 2 * math.pi * torch.arange(num_azimuths, dtype=torch.float64) / num_azimuths
    return SphereGrid(torch.from_numpy(heights), torch.from_numpy(polar_weights), azimuths)


def reflected_grid(degree: int) -> tuple[SphereGrid, Tensor]:
    """A grid that integrates polynomials up to `degree` and is its own image under x → -x, under y → -y and z → -z.

    No point lies on a mirror: heights are even in number, azimuths a multiple of four, shifted by half a step. It has
    more points than `sphere_grid` (392 instead of 325 of degree 24), of which one in eight stands for all.

    Args:
        degree: as in `sphere_grid`.

    Returns:
        The grid, and the places of its points, (8, orbits): element g of the group reflects the height if bit 0 is set,
        sin α if bit 1 is, and cos α if bit 2 is.
    """
    num_heights, num_azimuths = degree // 2 + 1, degree + 1
    num_heights += num_heights % 2
    num_azimuths += -num_azimuths % 4
    heights, polar_weights = np.polynomial.legendre.leggauss(num_heights)
    azimuths = 2 * math.pi * (torch.arange(num_azimuths, dtype=torch.float64) + 0.5) / num_azimuths
    grid = SphereGrid(torch.from_numpy(heights), torch.from_numpy(polar_weights), azimuths)
    h, j = torch.arange(num_heights // 2), torch.arange(num_azimuths // 4)
    places = []
    for g in range(8):
        height = num_heights - 1 - h if g & 1 else h
        azimuth = -1 - j if g & 2 else j  # α → -α
        azimuth = num_azimuths // 2 - 1 - azimuth if g & 4 else azimuth  # α → π - α
        places.append((height[:, None] * num_azimuths + azimuth % num_azimuths).flatten())
    return grid, torch.stack(places)


def normalised_legendre(lmax: int, one: Tensor, times_cos: Operator, times_sin: Operator) -> Tensor:
    """Associated Legendre functions P̄_l^m(cos β), normalised over the sphere, without the Condon-Shortley sign.

        P̄_0^0 = 1/√(4π),  P̄_m^m = √((2m+1)/(2m)) sin β P̄_{m-1}^{m-1},
        P̄_l^m = √((4l²-1)/(l²-m²)) [ cos β P̄_{l-1}^m - √(((l-1)²-m²)/(4(l-1)²-1)) P̄_{l-2}^m ]

    Only multiplications by cos β and sin β appear: given as operators on values, the result is values; given as
    operators on Fourier coefficients, it is the exact Fourier coefficients.

    Args:
        lmax: largest degree.
        one: representation of the constant 1, (n,).
        times_cos: multiplication by cos β.
        times_sin: multiplication by sin β.

    Returns:
        (lmax + 1, lmax + 1, n) by l and m, zero for m > l.

    Source: forward column recursion, Holmes and Featherstone, J. Geodesy 76, 279 (2002), doi:10.1007/s00190-002-0216-2.
    """
    result = one.new_zeros(lmax + 1, lmax + 1, len(one))
    for m in range(lmax + 1):
        diagonal = one / math.sqrt(4 * math.pi)
        if m:
            diagonal = math.sqrt((2 * m + 1) / (2 * m)) * times_sin(result[m - 1, m - 1])
        result[m, m] = diagonal
        for l in range(m + 1, lmax + 1):
            value = times_cos(result[l - 1, m])
            if l > m + 1:
                value = value - math.sqrt(((l - 1) ** 2 - m**2) / (4 * (l - 1) ** 2 - 1)) * result[l - 2, m]
            result[l, m] = math.sqrt((4 * l**2 - 1) / (l**2 - m**2)) * value
    return result


def trigonometric(mmax: int, azimuths: Tensor) -> Tensor:
    """√2 sin(|m|α), 1, √2 cos(mα) for m = -mmax … mmax, (2 mmax + 1, azimuths)."""
    m = torch.arange(1, mmax + 1, dtype=azimuths.dtype)[:, None]
    sines, cosines = math.sqrt(2) * (m * azimuths).sin(), math.sqrt(2) * (m * azimuths).cos()
    return torch.cat([sines.flip(0), torch.ones_like(azimuths)[None], cosines])
