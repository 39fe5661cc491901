"""The full Clebsch-Gordan tensor product: every path that the selection rules allow, each with its own weights."""

from itertools import groupby

import torch
from e3nn.o3 import Irreps, wigner_3j
from torch import Tensor

from sciml.tensor_products.interface import ConvolutionGraph, RadialWeights, TensorProduct
from sciml.tensor_products.problem import Path, TensorProductProblem


class ClebschGordan(TensorProduct):
    """z^p = sqrt((2 l3 + 1) / V) Σ_v w^p_{uv} C^{l1 l2 l3} x_u y_v for every path p (`TensorProductProblem`).

    Dense: for each output irrep the couplings of its paths form one matrix, (rows of z) x (rows of x), that is linear
    in y and applied to the channels of x by one batched product. Cost per sample and channel: 2·K·d1 FLOP with
    K = Σ_p (2 l3 + 1) and d1 the rows of x, plus 2·K·d1·d2 per sample to form the matrices.
    Any order of derivative; float32 and float64; CPU and CUDA.

    Args:
        problem: what to compute.
        layout: "mul_ir" (e3nn's, components contiguous) or "ir_mul" (channels contiguous) for x, y and z.

    Attributes:
        irreps_out: one block per path, sorted as `paths`.
        paths: see `TensorProductProblem.paths`.
        weight_numel: number of weights per sample, Σ_p u·v, in the order of `paths`.
        implementation: "torch".

    Raises:
        ValueError: unknown layout; blocks of x with different multiplicities, or blocks of y with more than one
            channel, which this backend does not take yet.
    """

    implementation = "torch"

    def __init__(self, problem: TensorProductProblem, *, layout: str = "mul_ir") -> None:
        super().__init__()
        if layout not in ("mul_ir", "ir_mul"):
            raise ValueError(f"got the layout {layout!r}; expected 'mul_ir' or 'ir_mul'")
        multiplicities = {mul for mul, _ in problem.irreps_in1}
        if len(multiplicities) != 1 or any(mul != 1 for mul, _ in problem.irreps_in2):
            raise ValueError(
                f"got {problem.irreps_in1} ⊗ {problem.irreps_in2}; all blocks of x must have the same number of "
                "channels and those of y one"
            )
        (self.channels,) = multiplicities
        self.problem = problem
        self.layout = layout
        self.paths = problem.paths
        self.irreps_out = Irreps([(self.channels, path.irrep_out) for path in self.paths])
        self.weight_numel = self.channels * len(self.paths)
        self.dim1 = problem.irreps_in1.dim // self.channels
        self.dim2 = problem.irreps_in2.dim
        # Paths into one irrep stand side by side; their rows of the coupling matrix form a group (l3, paths).
        self.groups = [(ir, len(list(paths))) for ir, paths in groupby(self.paths, key=lambda path: path.irrep_out)]
        first = 0
        for g, (_, num_paths) in enumerate(self.groups):
            self.register_constant(f"coupling{g}", self._coupling(self.paths[first : first + num_paths]))
            first += num_paths

    def _coupling(self, paths: tuple[Path, ...]) -> Tensor:
        """Couplings of some paths, (dim2, rows · dim1): y @ coupling is the matrix that acts on x."""
        dim3 = paths[0].irrep_out.dim
        coupling = torch.zeros(self.dim2, len(paths), dim3, self.dim1, dtype=torch.float64)
        for p, path in enumerate(paths):
            ir1, ir2 = self.problem.irreps_in1[path.block1].ir, self.problem.irreps_in2[path.block2].ir
            i = sum(ir.dim for _, ir in self.problem.irreps_in1[: path.block1])
            j = sum(ir.dim for _, ir in self.problem.irreps_in2[: path.block2])
            block = wigner_3j(ir1.l, ir2.l, path.irrep_out.l, dtype=torch.float64) * dim3**0.5  # (dim1, dim2, dim3)
            coupling[j : j + ir2.dim, p, :, i : i + ir1.dim] = block.permute(1, 2, 0)
        return coupling.flatten(1)

    def forward(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `TensorProduct.forward`; one block of z per path."""
        return self._from_groups(self._products(self._to_rows(x), y, weights))

    def convolve(self, x: Tensor, y: Tensor, weights: Tensor | RadialWeights | None, graph: ConvolutionGraph) -> Tensor:
        """See `TensorProduct.convolve`; the messages of all edges are formed and added."""
        if isinstance(weights, RadialWeights):
            weights = weights.dense()
        products = self._products(self._to_rows(x).index_select(0, graph.senders), y, weights)
        return self._from_groups(
            [z.new_zeros(graph.num_nodes, *z.shape[1:]).index_add(0, graph.receivers, z) for z in products]
        )

    def _products(self, x: Tensor, y: Tensor, weights: Tensor | None) -> list[Tensor]:
        """Weighted products of each group, (batch, paths, 2 l3 + 1, channels)."""
        if weights is not None:
            per_group = weights.view(-1, len(self.paths), self.channels).split([n for _, n in self.groups], dim=1)
        products = []
        for g, (ir, num_paths) in enumerate(self.groups):
            matrix = (y @ getattr(self, f"coupling{g}")).view(-1, num_paths * ir.dim, self.dim1)
            z = torch.bmm(matrix, x).view(-1, num_paths, ir.dim, self.channels)
            products.append(z if weights is None else z * per_group[g][:, :, None, :])
        return products

    def _to_rows(self, x: Tensor) -> Tensor:
        if self.layout == "ir_mul":
            return x.view(-1, self.dim1, self.channels)
        blocks, start = [], 0
        for mul, ir in self.problem.irreps_in1:
            block = x[:, start : start + mul * ir.dim]
            blocks.append(block.reshape(-1, mul, ir.dim).transpose(1, 2))
            start += mul * ir.dim
        return torch.cat(blocks, dim=1)  # (batch, dim1, channels)

    def _from_groups(self, products: list[Tensor]) -> Tensor:
        if self.layout == "mul_ir":
            products = [z.transpose(2, 3) for z in products]
        return torch.cat([z.flatten(1) for z in products], dim=1)
