"""What all backends of tensor products share: their interface, its checks, and what a convolution needs of a graph."""

import logging
from abc import abstractmethod
from functools import lru_cache
from typing import NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor

from sciml.kernels.available import check_device, check_kernels
from sciml.nn.constants import ConstantsModule
from sciml.tensor_products.problem import Path, TensorProductProblem

LAYOUTS = ("mul_ir", "ir_mul")
IMPLEMENTATIONS = ("auto", "torch", "triton")

logger = logging.getLogger("sciml.tensor_products")


class ConvolutionGraph(NamedTuple):
    """Edges of a convolution, prepared once per neighbour list.

    Attributes:
        senders: (edges,), int64.
        receivers: (edges,), int64, ascending.
        num_nodes: number of rows of the result.
        receiver_starts: (num_nodes + 1,), int64, the edges of receiver i are those from `receiver_starts[i]` up to
            `receiver_starts[i + 1]`. This and the next two are there if kernels want them.
        sender_order: (edges,), int64, the edges sorted by sender.
        sender_starts: (num_nodes + 1,), int64, where those of each sender begin in `sender_order`.
    """

    senders: Tensor
    receivers: Tensor
    num_nodes: int
    receiver_starts: Tensor | None = None
    sender_order: Tensor | None = None
    sender_starts: Tensor | None = None


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
        implementation: "torch"; "triton" for kernels, or a reason why there are none; "auto" for kernels where the
            tensors are on a CUDA device, the problem has kernels and they were measured to be faster; else torch.

    Attributes:
        problem: the same.
        layout: the same.
        irreps_out: irreps of z.
        paths: the couplings, sorted by (output irrep, block of x, block of y).
        weight_numel: number of weights per sample.

    Raises:
        ValueError: for an unknown layout or implementation, or kernels that there are not.
    """

    irreps_out: Irreps
    weight_numel: int

    def __init__(self, problem: TensorProductProblem, *, layout: str = "mul_ir", implementation: str = "auto") -> None:
        super().__init__()
        if layout not in LAYOUTS:
            raise ValueError(f"got the layout {layout!r}; expected 'mul_ir' or 'ir_mul'")
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(
                f"got the implementation {implementation!r} of {type(self).__name__}; available: "
                f"{', '.join(IMPLEMENTATIONS)}"
            )
        lacking = self.no_kernels(problem)
        if implementation == "triton":
            if lacking:
                raise ValueError(f"{type(self).__name__} has no kernels for this problem: {lacking}")
            check_kernels()
        self.requested = "torch" if lacking else implementation
        self.problem = problem
        self.layout = layout
        self.paths: tuple[Path, ...] = problem.paths
        # Plain values for what runs in `forward`: `torch.compile` cannot trace irreps.
        self.mode = problem.mode
        self.dim1, self.dim2 = problem.irreps_in1.dim, problem.irreps_in2.dim

    @staticmethod
    def no_kernels(problem: TensorProductProblem) -> str | None:  # noqa: ARG004
        """Why there are no kernels for a problem, or None if there are."""
        return "none are written"

    @property
    def implementation(self) -> str:
        """What runs where the product is now: "torch" or "triton"."""
        if self.requested == "triton":  # which does not run on a CPU, and says so when it is called there
            return "triton"
        return "triton" if self._on_kernels(next(self.buffers())) else "torch"

    @property
    def _may_use_kernels(self) -> bool:
        """Whether there is a device on which kernels would run."""
        return self.requested == "triton" or (self.requested == "auto" and torch.cuda.is_available())

    def _on_kernels(self, x: Tensor) -> bool:
        if self.requested == "triton":
            check_device(x.device)
            return True
        if self.requested == "torch":
            return False
        chosen = self._may_use_kernels and x.is_cuda and self._has_kernels()
        if not torch.compiler.is_compiling():
            _log_choice(type(self).__name__, x.device.type, "triton" if chosen else "torch")
        return chosen

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

    def prepare(self, senders: Tensor, receivers: Tensor, num_nodes: int, *, check: bool = True) -> ConvolutionGraph:
        """Prepare the edges of `convolve`, once per neighbour list.

        Args:
            senders: (edges,), int64.
            receivers: (edges,), int64, ascending.
            num_nodes: number of nodes.
            check: whether to make sure of the edges where kernels rely on them, which waits for the device.

        Raises:
            ValueError: for receivers that do not ascend, or nodes that are not there, where kernels rely on it.
        """
        graph = ConvolutionGraph(senders, receivers, num_nodes)
        return sorted_by_sender(graph, check=check) if self._on_kernels(senders) else graph

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
        num_edges = graph.senders.shape[0]
        if isinstance(weights, RadialWeights):
            if self.takes_radial_weights and self._on_kernels(x):
                self._check(x, y, None, batch=num_edges, of="edges")
                self._check_radial(weights, num_edges)
                return self._convolve_radial(x, y, weights, graph)
            weights = weights.dense()
        self._check(x, y, weights, batch=num_edges, of="edges")
        return self._convolve(x, y, weights, graph)

    def _prepared(self, x: Tensor, graph: ConvolutionGraph) -> ConvolutionGraph:
        """The graph with the fields that kernels want, if it comes from elsewhere.

        Raises:
            ValueError: for x of another number of nodes, of which kernels would read what is not there.
        """
        if x.shape[0] != graph.num_nodes:
            raise ValueError(f"got x of {x.shape[0]} nodes and a graph of {graph.num_nodes}; kernels expect as many")
        return sorted_by_sender(graph) if graph.receiver_starts is None else graph

    def _has_kernels(self) -> bool:
        """Whether they are ready: those of some products are made at construction, where there is a CUDA device."""
        return True

    takes_radial_weights = False  # whether kernels form them

    def _convolve_radial(self, x: Tensor, y: Tensor, weights: RadialWeights, graph: ConvolutionGraph) -> Tensor:
        """`convolve` of checked inputs, by kernels that form the weights."""
        raise NotImplementedError

    @abstractmethod
    def _product(self, x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        """`forward` of checked inputs."""

    @abstractmethod
    def _convolve(self, x: Tensor, y: Tensor, weights: Tensor | None, graph: ConvolutionGraph) -> Tensor:
        """`convolve` of checked inputs."""

    def _check(self, x: Tensor, y: Tensor, weights: Tensor | None, *, batch: int, of: str = "samples") -> None:
        constants = next(self.buffers(), x)
        for name, given, dim in (
            ("x", x, self.dim1),
            ("y", y, self.dim2),
            ("weights", weights, self.weight_numel),
        ):
            if given is None:
                continue
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

    def _check_radial(self, weights: RadialWeights, num_edges: int) -> None:
        basis, matrix = weights
        constants = next(self.buffers())
        if (
            basis.dim() != 2
            or not basis.shape[1]
            or matrix.shape != (basis.shape[1], self.weight_numel)
            or basis.shape[0] != num_edges
        ):
            raise ValueError(
                f"got radial weights of shapes {tuple(basis.shape)} and {tuple(matrix.shape)}; expected "
                f"({num_edges} edges, basis functions) and (basis functions, {self.weight_numel})"
            )
        for name, given in (("basis", basis), ("matrix", matrix)):
            if given.dtype != constants.dtype or given.device != constants.device:
                raise ValueError(
                    f"got a radial {name} of {given.dtype} on {given.device}; the product computes in "
                    f"{constants.dtype} on {constants.device}"
                )

    def _hint(self, name: str) -> str:
        if name == "weights":
            return f", or ({self.weight_numel},) for weights that all share"
        irreps = self.problem.irreps_in1 if name == "x" else self.problem.irreps_in2
        return f" for {irreps}"


@lru_cache(maxsize=64)
def _log_choice(product: str, device: str, implementation: str) -> None:
    """Say once what "auto" chose."""
    logger.info("%s on %s: computed by %s", product, device, implementation)


def sorted_by_sender(graph: ConvolutionGraph, *, check: bool = True) -> ConvolutionGraph:
    """The graph with all its fields.

    Raises:
        ValueError: for indices that are not int64 or not as many; and, if asked to check and not while it is traced,
            for receivers that do not ascend, or nodes that are not there.
    """
    senders, receivers, num_nodes = graph[:3]
    if senders.dim() != 1 or senders.shape != receivers.shape:
        shapes = f"{tuple(senders.shape)} and {tuple(receivers.shape)}"
        raise ValueError(f"got senders and receivers of shapes {shapes}; expected (edges,) for both")
    if senders.dtype != torch.int64 or receivers.dtype != torch.int64:
        raise ValueError(f"got edges of {senders.dtype} and {receivers.dtype}; kernels take int64: convert by .long()")
    senders, receivers = senders.contiguous(), receivers.contiguous()
    if check and senders.numel() and not torch.compiler.is_compiling():
        ascending = (receivers[1:] >= receivers[:-1]).all() & (receivers[0] >= 0) & (receivers[-1] < num_nodes)
        if not bool(ascending & (senders >= 0).all() & (senders < num_nodes).all()):
            raise ValueError(
                f"got edges whose receivers do not ascend from 0 to below {num_nodes}, or senders that are not among "
                "the nodes; sort the edges once: order = receivers.argsort(stable=True)"
            )
    nodes = torch.arange(num_nodes + 1, device=senders.device)
    order = senders.argsort(stable=True)
    return graph._replace(
        senders=senders,
        receivers=receivers,
        receiver_starts=torch.searchsorted(receivers, nodes),
        sender_order=order,
        sender_starts=torch.searchsorted(senders[order], nodes),
    )


def sum_over_edges(messages: Tensor, graph: ConvolutionGraph) -> Tensor:
    """Σ over the edges of each receiver: (edges, ...) → (nodes, ...)."""
    zeros = messages.new_zeros(graph.num_nodes, *messages.shape[1:])
    return zeros.index_add(0, graph.receivers, messages)


def as_batch(weights: Tensor | None) -> Tensor | None:
    """Weights (batch, weight_numel), or (1, weight_numel) if all samples share them."""
    return weights.unsqueeze(0) if weights is not None and weights.dim() == 1 else weights
