"""What all backends of tensor products share: their interface, its checks, and what a convolution needs of a graph."""

from abc import abstractmethod
from typing import NamedTuple

from e3nn.o3 import Irreps
from torch import Tensor

from sciml.nn.constants import ConstantsModule
from sciml.tensor_products.problem import Path, TensorProductProblem

LAYOUTS = ("mul_ir", "ir_mul")


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

    `torch.compile(product, fullgraph=True)` takes forward and first backward pass. Its backward pass cannot be
    differentiated again: to train on forces, trace their computation with
    `torch.fx.experimental.proxy_tensor.make_fx` and compile what comes out, or run eagerly, to any order.

    Args:
        problem: what to compute.
        layout: of x, y and z: "mul_ir" (e3nn's, components contiguous) or "ir_mul" (channels contiguous).

    Attributes:
        problem: the same.
        layout: the same.
        irreps_out: irreps of z.
        paths: the couplings, sorted by (output irrep, block of x, block of y).
        weight_numel: number of weights per sample.
        implementation: how it is computed: "torch".

    Raises:
        ValueError: for an unknown layout.
    """

    irreps_out: Irreps
    weight_numel: int
    implementation: str = "torch"

    def __init__(self, problem: TensorProductProblem, *, layout: str = "mul_ir") -> None:
        super().__init__()
        if layout not in LAYOUTS:
            raise ValueError(f"got the layout {layout!r}; expected 'mul_ir' or 'ir_mul'")
        self.problem = problem
        self.layout = layout
        self.paths: tuple[Path, ...] = problem.paths
        # Plain values for what runs in `forward`: `torch.compile` cannot trace irreps.
        self.mode = problem.mode
        self.dim1, self.dim2 = problem.irreps_in1.dim, problem.irreps_in2.dim

    def forward(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return z, (batch, irreps_out.dim).

        Args:
            x: (batch, irreps_in1.dim).
            y: (batch, irreps_in2.dim).
            weights: (batch, weight_numel), or (weight_numel,) shared by the batch, or None for ones.

        Raises:
            ValueError: for shapes, dtypes or devices that do not fit.
        """
        self._check(x, y, weights, batch=x.shape[0])
        return self._product(x, y, weights)

    def prepare(self, senders: Tensor, receivers: Tensor, num_nodes: int) -> ConvolutionGraph:
        """Prepare the edges of `convolve`; `receivers` must be ascending."""
        return ConvolutionGraph(senders, receivers, num_nodes)

    def convolve(self, x: Tensor, y: Tensor, weights: Tensor | RadialWeights | None, graph: ConvolutionGraph) -> Tensor:
        """z_i = Σ_{edges j → i} (x_j ⊗ y_ij), (nodes, irreps_out.dim).

        Args:
            x: (nodes, irreps_in1.dim), node features.
            y: (edges, irreps_in2.dim), such as spherical harmonics.
            weights: as in `forward`, per edge; or `RadialWeights`.
            graph: from `prepare`.

        Raises:
            ValueError: for shapes, dtypes or devices that do not fit.
        """
        if isinstance(weights, RadialWeights):
            weights = weights.dense()
        self._check(x, y, weights, batch=graph.senders.shape[0], of="edges")
        return self._convolve(x, y, weights, graph)

    @abstractmethod
    def _product(self, x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        """`forward` of checked inputs."""

    @abstractmethod
    def _convolve(self, x: Tensor, y: Tensor, weights: Tensor | None, graph: ConvolutionGraph) -> Tensor:
        """`convolve` of checked inputs."""

    def _check(self, x: Tensor, y: Tensor, weights: Tensor | None, *, batch: int, of: str = "samples") -> None:
        for name, given, dim in (
            ("x", x, self.dim1),
            ("y", y, self.dim2),
            ("weights", weights, self.weight_numel),
        ):
            if given is None:
                continue
            constants = next(self.buffers(), x)
            if given.dtype != constants.dtype:
                if not given.dtype.is_floating_point:
                    raise ValueError(f"got {name} of {given.dtype}; expected floating-point numbers, {constants.dtype}")
                raise ValueError(
                    f"got {name} of {given.dtype}, but the product computes in {constants.dtype}; convert one of them, "
                    f"such as by product.to({given.dtype})"
                )
            if given.device != constants.device:
                raise ValueError(
                    f"got {name} on {given.device}, but the product is on {constants.device}; move one of them"
                )
            if given.shape[-1:] != (dim,) or given.dim() not in ((1, 2) if name == "weights" else (2,)):
                raise ValueError(f"got {name} of shape {tuple(given.shape)}; expected ({of}, {dim}){self._hint(name)}")
        if y.shape[0] != batch or (weights is not None and weights.dim() == 2 and weights.shape[0] != batch):
            shape = None if weights is None else tuple(weights.shape)
            raise ValueError(
                f"got x, y and weights of shapes {tuple(x.shape)}, {tuple(y.shape)} and {shape}; expected {batch} {of}"
            )

    def _hint(self, name: str) -> str:
        if name == "weights":
            return f", or ({self.weight_numel},) for weights that all share"
        irreps = self.problem.irreps_in1 if name == "x" else self.problem.irreps_in2
        return f" for {irreps}"


def sum_over_edges(messages: Tensor, graph: ConvolutionGraph) -> Tensor:
    """Σ over the edges of each receiver: (edges, ...) → (nodes, ...)."""
    zeros = messages.new_zeros(graph.num_nodes, *messages.shape[1:])
    return zeros.index_add(0, graph.receivers, messages)


def as_batch(weights: Tensor | None) -> Tensor | None:
    """Weights (batch, weight_numel), or (1, weight_numel) if all samples share them."""
    return weights.unsqueeze(0) if weights is not None and weights.dim() == 1 else weights
