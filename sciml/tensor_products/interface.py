"""What all backends of tensor products share: their interface, and what they need to convolve over a graph."""

from abc import abstractmethod
from typing import NamedTuple

from e3nn.o3 import Irreps
from torch import Tensor

from sciml.nn.constants import ConstantsModule
from sciml.tensor_products.problem import Path


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


class TensorProduct(ConstantsModule):
    """A bilinear equivariant map x ⊗ y → z with weights that are given at each call.

    Attributes:
        irreps_out: irreps of z.
        paths: the couplings, in the order of the weights.
        weight_numel: number of weights per sample.
        implementation: how it is computed.
    """

    irreps_out: Irreps
    paths: tuple[Path, ...]
    weight_numel: int
    implementation: str

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return z, (batch, irreps_out.dim).

        Args:
            x: (batch, irreps_in1.dim).
            y: (batch, irreps_in2.dim).
            weights: (batch, weight_numel), or (weight_numel,) shared by the batch, or None for ones.
        """

    def prepare(self, senders: Tensor, receivers: Tensor, num_nodes: int) -> ConvolutionGraph:
        """Prepare the edges of `convolve`; `receivers` must be ascending."""
        return ConvolutionGraph(senders, receivers, num_nodes)

    @abstractmethod
    def convolve(self, x: Tensor, y: Tensor, weights: Tensor | RadialWeights | None, graph: ConvolutionGraph) -> Tensor:
        """z_i = Σ_{edges j → i} (x_j ⊗ y_ij), (nodes, irreps_out.dim).

        Args:
            x: (nodes, irreps_in1.dim), node features.
            y: (edges, irreps_in2.dim), such as spherical harmonics.
            weights: as in `forward`, per edge; or `RadialWeights`.
            graph: from `prepare`.
        """
