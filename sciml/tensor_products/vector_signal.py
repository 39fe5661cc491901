"""The product of vector signals on the sphere: exactly the paths that the Gaunt product loses."""

from functools import partial

import torch
from torch import Tensor

from sciml.tensor_products.bilinear import Bilinear, OrbitFactors
from sciml.tensor_products.gaunt import SphereSignals, sphere_signals, vector_signal_coefficient
from sciml.tensor_products.problem import TensorProductProblem
from sciml.tensor_products.sphere import SphereGrid, reflected_grid, sphere_grid

path_weight = vector_signal_coefficient


class VectorSignal(Bilinear):
    """z^{l3} = P_{l3}[ n̂·(∇f × ∇g) ],  f = Σ x_lm Y_lm,  g = Σ y_lm Y_lm: a sum over all paths of odd l1+l2+l3.

    Two bilinear terms at each point, ∂f/∂β ∂g/∂α / sin β - ∂f/∂α ∂g/∂β / sin β. The bracket of polynomials of degrees
    L1 and L2 has degree L1+L2-1, so that a grid that is exact to S = L1+L2+L3-1 serves: rank 2 (⌊S/2⌋+1)(S+1), or
    twice that if x or y has irreps of both p(-1)^l.

    Args:
        problem: what to compute.
        layout: see `TensorProduct`.
        implementation: see `TensorProduct`.

    Attributes:
        weight_numel: one weight per (block, channel) of x, see `PointwiseProduct`; paths have none of their own.

    Source: the product of vector signals, Xie et al., arXiv:2506.13523 and arXiv:2602.21466.
    """

    def __init__(self, problem: TensorProductProblem, *, layout: str = "mul_ir", implementation: str = "auto") -> None:
        signals = sphere_signals(problem, vector_signal_coefficient, odd=True)
        degree = sum(signals.degrees) - 1
        super().__init__(
            problem,
            _factors(signals, sphere_grid(degree), slice(None)),
            partial(_orbits, signals, degree),
            irreps_out=signals.irreps_out,
            weights_per_block=True,
            layout=layout,
            implementation=implementation,
        )


def _orbits(signals: SphereSignals, degree: int) -> OrbitFactors:
    grid, places = reflected_grid(degree)
    factors = _factors(signals, grid, places.flatten())
    return OrbitFactors(factors, num_terms=2, orbit_size=8 * signals.num, num_planes=len(grid.heights) // 2)


def _factors(signals: SphereSignals, grid: SphereGrid, places: slice | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    l1, l2, l3 = signals.degrees
    polar1, azimuth1 = (values[places] for values in grid.gradients(l1))
    polar2, azimuth2 = (values[places] for values in grid.gradients(l2))
    values_out = (grid.harmonics(l3) * grid.weights[:, None])[places]
    first = signals.factors(polar1, azimuth2, values_out)
    second = signals.factors(azimuth1, -polar2, values_out)
    return (
        torch.cat([first[0], second[0]], dim=1),
        torch.cat([first[1], second[1]], dim=1),
        torch.cat([first[2], second[2]], dim=0),
    )
