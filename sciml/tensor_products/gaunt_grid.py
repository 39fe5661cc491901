"""The Gaunt product on a grid: functions on the sphere, multiplied point by point."""

from sciml.tensor_products.bilinear import Bilinear
from sciml.tensor_products.gaunt import gaunt_coefficient, sphere_signals
from sciml.tensor_products.problem import TensorProductProblem
from sciml.tensor_products.sphere import sphere_grid

path_weight = gaunt_coefficient


class GauntGrid(Bilinear):
    """z^{l3} = P_{l3}[ f(n) g(n) ],  f = Σ x_lm Y_lm,  g = Σ y_lm Y_lm: a sum over all paths of even l1+l2+l3.

    The integrand has degree S = L1+L2+L3, for which ⌊S/2⌋+1 heights and S+1 azimuths are exact: the grid is an exact CP
    decomposition of the Gaunt tensor, of rank (⌊S/2⌋+1)(S+1), or twice that if x or y has irreps of both p(-1)^l.

    Args:
        problem: what to compute.
        layout: see `TensorProduct`.

    Attributes:
        weight_numel: one weight per (block, channel) of x, see `PointwiseProduct`; paths have none of their own.

    Source: Luo et al., arXiv:2401.10216; on a grid, Xie et al., The Price of Freedom, arXiv:2506.13523.
    """

    def __init__(self, problem: TensorProductProblem, *, layout: str = "mul_ir") -> None:
        signals = sphere_signals(problem, gaunt_coefficient)
        grid = sphere_grid(sum(signals.degrees))
        values1, values2, values_out = (grid.harmonics(l) for l in signals.degrees)
        factors = signals.factors(values1, values2, values_out * grid.weights[:, None])
        super().__init__(problem, factors, irreps_out=signals.irreps_out, weights_per_block=True, layout=layout)
