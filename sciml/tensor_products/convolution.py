"""What all backends share of a convolution over a graph: its edges, and weights that are linear in a radial basis."""

from typing import NamedTuple

from torch import Tensor


class ConvolutionGraph(NamedTuple):
    """Edges of a convolution, prepared once per neighbour list.

    Attributes:
        senders: (edges,), int64.
        receivers: (edges,), int64, ascending.
        num_nodes: number of rows of the result.
    """

    senders: Tensor
    receivers: Tensor
    num_nodes: int


class RadialWeights(NamedTuple):
    """Path weights w = basis @ matrix that need not be formed by a backend that can do without.

    Attributes:
        basis: (edges, basis functions).
        matrix: (basis functions, weight_numel).
    """

    basis: Tensor
    matrix: Tensor

    def dense(self) -> Tensor:
        """The weights themselves, (edges, weight_numel)."""
        return self.basis @ self.matrix
