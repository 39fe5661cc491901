"""The full Clebsch-Gordan tensor product: every path that the selection rules allow, each with its own weights."""

from itertools import groupby

import torch
from e3nn.o3 import Irreps
from torch import Tensor

from sciml.kernels.channelwise_couplings import couplings, problem_key, why_not_channelwise
from sciml.tensor_products.channels import blocks_of, join_blocks, split_blocks
from sciml.tensor_products.couplings import (
    every_path,
    path_tensor,
    separate_coefficients,
    summed_coefficients,
    summed_irreps,
)
from sciml.tensor_products.interface import ConvolutionGraph, RadialWeights, TensorProduct, as_batch, sum_over_edges
from sciml.tensor_products.problem import Path, TensorProductProblem

WAYS = ("auto", "channelwise", "dense", "sparse")

# Non-zero coefficients of a problem up to which "auto" adds their products one by one.
_FEW_NONZEROS = 16


path_weight = every_path


class ClebschGordan(TensorProduct):
    """z^p = α_p w^p C^{l1 l2 l3} x y for every path p, channels as the mode says (`TensorProductProblem`).

    Three ways, which compute the same; any order of derivative; float32 and float64; CPU and CUDA:

    - "channelwise", for "uvu" with one channel of y: for each output irrep the couplings of its paths form one matrix,
      (rows of z) x (rows of x), that is linear in y and applied to the channels of x by one batched product. Per sample
      and channel 2·K·d1 FLOP with K = Σ_p (2 l3 + 1), plus 2·K·d1·d2 per sample to form the matrices.
    - "dense": for each pair of blocks the products x_i y_j, formed once for all their paths, times a matrix of
      coefficients. Per sample and channel pair 2·(2 l1 + 1)(2 l2 + 1)·Σ(2 l3 + 1) FLOP.
    - "sparse": literal non-zeros, one fused multiply-add of all samples and channels each. Fast for few of them, or
      when compiled into one kernel.

    Args:
        problem: what to compute.
        layout: see `TensorProduct`.
        implementation: see `TensorProduct`.
        way: one of these, or "auto" by size.

    Attributes:
        irreps_out: one block per path, in their order; in mode "uvw" one per irrep, its paths summed.
        weight_numel: number of weights per sample, in the order of `paths`: mul1 · mul2 for each ("uvu"),
            min(mul1, mul2) ("uuu"), or mul1 · mul2 · mul_out ("uvw").

    Raises:
        ValueError: for an unknown way, or "channelwise" where it does not apply.
    """

    def __init__(
        self, problem: TensorProductProblem, *, layout: str = "mul_ir", implementation: str = "auto", way: str = "auto"
    ) -> None:
        super().__init__(problem, layout=layout, implementation=implementation)
        if way not in WAYS:
            raise ValueError(f"got the way {way!r}; available: {', '.join(WAYS)}")
        channels = {mul for mul, _ in problem.irreps_in1}
        channelwise = problem.mode == "uvu" and len(channels) == 1 and all(mul == 1 for mul, _ in problem.irreps_in2)
        if way == "channelwise" and not channelwise:
            raise ValueError(
                f"got {problem.irreps_in1} ⊗ {problem.irreps_in2} in mode {problem.mode}; 'channelwise' needs the mode "
                "uvu, equal multiplicities of x, and one channel of y. 'dense' and 'sparse' take all"
            )
        if problem.mode == "uvw":
            self.irreps_out = summed_irreps(problem, path_weight)
            coefficients = summed_coefficients(problem, path_weight)
        else:
            self.irreps_out = Irreps([(problem.channels_out(path), path.irrep_out) for path in self.paths])
            coefficients = separate_coefficients(problem)
        self.sizes1, self.sizes2 = blocks_of(problem.irreps_in1), blocks_of(problem.irreps_in2)
        self.dims_out = [path.irrep_out.dim for path in self.paths]
        self.channels_out = [problem.channels_out(path) for path in self.paths]
        self.weight_shapes = [self._weight_shape(path) for path in self.paths]
        self.weight_sizes = [torch.Size(shape).numel() for shape in self.weight_shapes]
        self.weight_numel = sum(self.weight_sizes)
        tensors = [c * path_tensor(problem, path) for c, path in zip(coefficients, self.paths, strict=True)]
        if way == "auto":
            nonzeros = sum(int((tensor.abs() > 1e-12).sum()) for tensor in tensors)
            way = "channelwise" if channelwise else "sparse" if nonzeros <= _FEW_NONZEROS else "dense"
        self.way = way
        self.key = problem_key(problem)
        if self._may_use_kernels:
            couplings(self.key)  # numbers that tracing could not compute
        if way == "channelwise":
            (self.channels,) = channels
            self._register_channelwise(tensors)
        else:
            self._register_pairs(tensors)

    def _weight_shape(self, path: Path) -> tuple[int, ...]:
        mul1, mul2 = self.problem.irreps_in1[path.block1].mul, self.problem.irreps_in2[path.block2].mul
        if self.problem.mode == "uuu":
            return (min(mul1, mul2),)
        return (mul1, mul2) if self.problem.mode == "uvu" else (mul1, mul2, self.problem.channels_out(path))

    # --- one matrix per sample ----------------------------------------------------------------------------------------

    def _register_channelwise(self, tensors: list[Tensor]) -> None:
        self.rows1 = self.dim1 // self.channels
        # Paths into one irrep stand side by side; their rows of the coupling matrix form a group (paths, 2 l3 + 1).
        self.groups = [(ir.dim, len(list(paths))) for ir, paths in groupby(self.paths, key=lambda path: path.irrep_out)]
        starts1 = [s.start // self.channels for s in self.problem.irreps_in1.slices()]
        starts2 = [s.start for s in self.problem.irreps_in2.slices()]
        first = 0
        for g, (dim, num_paths) in enumerate(self.groups):
            coupling = torch.zeros(self.dim2, num_paths, dim, self.rows1, dtype=torch.float64)
            for p in range(num_paths):
                path, tensor = self.paths[first + p], tensors[first + p]
                i, j = starts1[path.block1], starts2[path.block2]
                coupling[j : j + tensor.shape[1], p, :, i : i + tensor.shape[0]] = tensor.permute(1, 2, 0)
            self.register_constant(f"coupling{g}", coupling.flatten(1))  # y @ coupling is the matrix that acts on x
            first += num_paths

    def _channelwise(self, x: Tensor, y: Tensor, weights: Tensor | None) -> list[Tensor]:
        """Weighted products of each group, (batch, paths, 2 l3 + 1, channels), of x (batch, components, channels)."""
        if weights is not None:
            per_group = weights.view(-1, len(self.dims_out), self.channels).split([n for _, n in self.groups], dim=1)
        products = []
        for g, (dim, num_paths) in enumerate(self.groups):
            matrix = (y @ getattr(self, f"coupling{g}")).view(-1, num_paths * dim, self.rows1)
            z = torch.bmm(matrix, x).view(-1, num_paths, dim, self.channels)
            products.append(z if weights is None else z * per_group[g][:, :, None, :])
        return products

    def _to_rows(self, x: Tensor) -> Tensor:
        """(batch, components, channels)."""
        if self.layout == "ir_mul":
            return x.view(-1, self.rows1, self.channels)
        return torch.cat([block.transpose(1, 2) for block in split_blocks(x, self.sizes1, self.layout)], dim=1)

    def _from_groups(self, products: list[Tensor]) -> Tensor:
        if self.layout == "mul_ir":
            products = [z.transpose(2, 3) for z in products]
        return torch.cat([z.flatten(1) for z in products], dim=1)

    # --- pairs of blocks ----------------------------------------------------------------------------------------------

    def _register_pairs(self, tensors: list[Tensor]) -> None:
        self.pairs: dict[tuple[int, int], list[int]] = {}  # blocks of x and y: their paths
        for p, path in enumerate(self.paths):
            self.pairs.setdefault((path.block1, path.block2), []).append(p)
        # Paths into one irrep stand side by side: from each first one to the next.
        firsts = [p for p, path in enumerate(self.paths) if p == 0 or path.irrep_out != self.paths[p - 1].irrep_out]
        self.runs = list(zip(firsts, [*firsts[1:], len(self.paths)], strict=True))
        self.nonzeros: list[list[list[tuple[int, int, float]]]] = []  # of each pair and k: i, j and the coefficient
        for n, numbers in enumerate(self.pairs.values()):
            stacked = torch.cat([tensors[p] for p in numbers], dim=2)  # (2 l1 + 1, 2 l2 + 1, Σ (2 l3 + 1))
            if self.way == "dense":
                self.register_constant(f"coupling{n}", stacked.flatten(0, 1))
            else:
                entries = stacked.where(stacked.abs() > 1e-12, torch.zeros(1, dtype=torch.float64))
                self.nonzeros.append(
                    [
                        [(i, j, entries[i, j, k].item()) for i, j in entries[:, :, k].nonzero().tolist()]
                        for k in range(entries.shape[2])
                    ]
                )
        if self.way == "sparse":
            # Never used, but tells the module's dtype and device.
            self.register_constant("coupling", torch.zeros(0, dtype=torch.float64))

    def _couple(self, n: int, x: Tensor, y: Tensor) -> Tensor:
        """All paths of pair n: x (..., 2 l1 + 1), y (..., 2 l2 + 1) → (..., Σ (2 l3 + 1))."""
        if self.way == "dense":
            return (x.unsqueeze(-1) * y.unsqueeze(-2)).flatten(-2) @ getattr(self, f"coupling{n}")
        xs, ys = x.unbind(-1), y.unbind(-1)
        zeros = torch.zeros_like(xs[0] * ys[0])
        components = []
        for entries in self.nonzeros[n]:
            z = zeros
            for i, j, value in entries:
                z = torch.addcmul(z, xs[i], ys[j], value=value)
            components.append(z)
        return torch.stack(components, dim=-1)

    def _pairwise(self, x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        blocks1 = split_blocks(x, self.sizes1, self.layout)
        blocks2 = split_blocks(y, self.sizes2, self.layout)
        per_path = None if weights is None else weights.split(self.weight_sizes, 1)
        results: list[Tensor] = [x] * len(self.dims_out)
        for n, ((block1, block2), numbers) in enumerate(self.pairs.items()):
            x_, y_ = self._meet(blocks1[block1], blocks2[block2], ones=weights is None)
            z = self._couple(n, x_, y_)
            for p, part in zip(numbers, z.split([self.dims_out[p] for p in numbers], -1), strict=True):
                w = None if per_path is None else per_path[p].unflatten(1, self.weight_shapes[p])
                results[p] = self._weigh(p, part, w)
        if self.mode == "uvw":
            results = [sum(results[p + 1 : end], results[p]) for p, end in self.runs]
        return join_blocks(results, self.layout)

    def _meet(self, x: Tensor, y: Tensor, *, ones: bool) -> tuple[Tensor, Tensor]:
        """Channels side by side, (batch, u, components), or all with all, (batch, u, v, components)."""
        if self.mode == "uuu":
            channels = min(x.shape[1], y.shape[1])
            return x[:, :channels], y[:, :channels]
        if ones:  # sums over channels can be taken first
            y = y.sum(dim=1, keepdim=True)
            x = x.sum(dim=1, keepdim=True) if self.mode == "uvw" else x
        return x[:, :, None], y[:, None]

    def _weigh(self, p: int, z: Tensor, w: Tensor | None) -> Tensor:
        """Weights of path p on its products, → (batch, channels, 2 l3 + 1)."""
        mode = self.mode
        if mode == "uuu":
            return z if w is None else z * w[:, :, None]
        if w is None:
            return z[:, :, 0] if mode == "uvu" else z[:, :, 0].expand(-1, self.channels_out[p], -1)
        return torch.einsum("buvk,buv->buk" if mode == "uvu" else "buvk,buvw->bwk", z, w)

    # --- kernels ------------------------------------------------------------------------------------------------------

    @staticmethod
    def no_kernels(problem: TensorProductProblem) -> str | None:
        """Why there are no kernels for a problem, or None if there are."""
        return why_not_channelwise(problem)

    takes_radial_weights = True

    def _by_kernels(
        self, x: Tensor, y: Tensor, weights: Tensor | None, matrix: Tensor | None, graph: ConvolutionGraph
    ) -> Tensor:
        from sciml.kernels.channelwise_operators import channelwise_convolution

        shared = weights is not None and weights.dim() == 1
        z = channelwise_convolution(
            self.key,
            self._to_rows(x).flatten(1),
            y,
            None if shared else weights,
            matrix,
            graph.senders,
            graph.receivers,
            graph.receiver_starts,
            graph.sender_order,
            graph.sender_starts,
        )
        if self.layout == "ir_mul" and not shared:
            return z
        paths = split_blocks(z, tuple((self.channels, dim) for dim in self.dims_out), "ir_mul")
        if shared and weights is not None:  # every path has an output of its own
            paths = [z * w[:, None] for z, w in zip(paths, weights.split(self.weight_sizes), strict=True)]
        return join_blocks(paths, self.layout)

    def _convolve_radial(self, x: Tensor, y: Tensor, weights: RadialWeights, graph: ConvolutionGraph) -> Tensor:
        return self._by_kernels(x, y, weights.basis, weights.matrix, self._prepared(x, graph))

    # --- interface ----------------------------------------------------------------------------------------------------

    def _product(self, x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        if self._on_kernels(x):  # every sample is a node with one edge from itself
            samples = torch.arange(x.shape[0] + 1, device=x.device)
            graph = ConvolutionGraph(samples[:-1], samples[:-1], x.shape[0], samples)
            return self._by_kernels(x, y, weights, None, graph)
        if self.way == "channelwise":
            return self._from_groups(self._channelwise(self._to_rows(x), y, weights))
        return self._pairwise(x, y, as_batch(weights))

    def _convolve(self, x: Tensor, y: Tensor, weights: Tensor | None, graph: ConvolutionGraph) -> Tensor:
        """The messages of all edges are formed and added, by kernels in registers."""
        if self._on_kernels(x):
            return self._by_kernels(x, y, weights, None, self._prepared(x, graph))
        if self.way == "channelwise":
            products = self._channelwise(self._to_rows(x).index_select(0, graph.senders), y, weights)
            return self._from_groups([sum_over_edges(z, graph) for z in products])
        return sum_over_edges(self._product(x.index_select(0, graph.senders), y, weights), graph)
