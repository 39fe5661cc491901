"""Source of the kernels of one channelwise convolution and its derivatives, with every non-zero as a literal."""

from collections.abc import Iterable, Sequence

from sciml.kernels.channelwise_couplings import Couplings, PathCoupling
from sciml.kernels.channelwise_form import Pass, PathAlgebra, Tuning, suffix


def node_kernel(couplings: Couplings, what: Pass, tuning: Tuning) -> str:
    """Source of `kernel`: programs (receiver, channel block, group of paths) that loop over the edges of a receiver.

    They store ∂/∂g of the receiver once, from registers, or add it to what is there if edges come in parts; and of each
    edge what `edge_kernel` stores.

    Raises:
        ValueError: for groups of paths where all paths add to what an edge stores.
    """
    _check_tuning(what, tuning)
    return _Source(couplings, what, tuning).node_kernel()


def edge_kernel(couplings: Couplings, what: Pass, tuning: Tuning) -> str:
    """Source of `kernel`: programs (a few edges, channel block) for derivatives that are of an edge.

    They store ∂/∂x of each edge, to be summed by sender; ∂/∂w; and ∂/∂y and ∂/∂b of each edge and channel block, to be
    summed over blocks. Nothing is added to memory, so that results are equal bit by bit from run to run. What an edge
    stores comes after all that it loads: loads do not wait for stores then.

    Raises:
        ValueError: for groups of paths.
    """
    _check_tuning(what, tuning)
    return _Source(couplings, what, tuning).edge_kernel()


def matrix_kernel(couplings: Couplings, what: Pass, tuning: Tuning) -> str:
    """Source of `kernel`: programs (slice of edges, channel block, group of paths) for the gradient of M.

    The gradient stays in registers and is stored once per slice, to be summed over slices.
    """
    return _Source(couplings, what, tuning).matrix_kernel()


def _check_tuning(what: Pass, tuning: Tuning) -> None:
    if tuning.prefetch and tuning.unroll > 1:
        raise ValueError(f"got {tuning}; the weights of the next edge are read ahead of one edge at a time: unroll=1")
    if tuning.groups > 1 and what.wants != "g":
        raise ValueError(
            f"got {tuning} for derivatives by {what.wants}; all paths add to what an edge stores: groups=1"
        )


class _Source(PathAlgebra):
    # --- kernels ------------------------------------------------------------------------------------------------------

    def node_kernel(self) -> str:
        channels = self.c.channels
        self._header(
            "programs (receiver, channel block, group of paths); loops over the edges of the receiver",
            ["receiver_starts", "first_edge", "last_edge"],
            constants=["ADD"],
        )
        # Blocks and groups of one node side by side: what they read of an edge lies side by side in memory.
        num_blocks, num_groups = -(-channels // self.tuning.block), len(split_paths(self.c.paths, self.tuning.groups))
        self.put(f"node = (tl.program_id(0) // {num_blocks * num_groups}).to(tl.int64)")
        self.put(f"block = tl.program_id(0) % {num_blocks}")
        self.put(f"group = (tl.program_id(0) // {num_blocks}) % {num_groups}")
        self._channels()
        self.put("first = tl.maximum(tl.load(receiver_starts + node), first_edge)")
        self.put("last = tl.minimum(tl.load(receiver_starts + node + 1), last_edge)")
        self.put("if ADD:")
        self.put("    if first >= last:")
        self.put("        return")
        self.put(f"z_row = z_ptr + node * {self.c.num_rows_out * channels} + channel")
        if self.needs_g:
            self.put(f"g_row = g_ptr + node * {self.c.num_rows_out * channels} + channel")
        for group in self._each_group():
            rows = [k for path in group for k in path.rows_out]
            if self.tuning.hold and self.needs_g:
                for k in rows:
                    self.put(f"g{k} = {self.load(f'g_row + {k * channels}')}")
            for k in rows:
                self.put(f"z{k} = tl.zeros([BLOCK], dtype=SUM)")
            self._first_weights(group)
            self._loop_over_edges(group)
            for k in rows:
                self.put("if ADD:")
                self.put(f"    z{k} += {self.load(f'z_row + {k * channels}')}")
                self.store(f"z_row + {k * channels}", f"z{k}")
        return "\n".join(self.lines) + "\n"

    def edge_kernel(self) -> str:
        channels = self.c.channels
        self._header("programs (a few edges, channel block)", ["receivers", "first_edge", "last_edge"])
        num_blocks = -(-channels // self.tuning.block)
        self.put(f"block = tl.program_id(0) % {num_blocks}")
        self._channels()
        self.put(f"first = first_edge + (tl.program_id(0) // {num_blocks}).to(tl.int64) * {self.tuning.edges}")
        self.put(f"last = tl.minimum(first + {self.tuning.edges}, last_edge)")
        for group in self._each_group():
            self._first_weights(group)
            self._loop_over_edges(group)
        return "\n".join(self.lines) + "\n"

    def _loop_over_edges(self, group: list[PathCoupling]) -> None:
        unroll = self.tuning.unroll
        stages = f", num_stages={self.tuning.stages}" if self.tuning.stages > 1 else ""
        self.put(f"for edge in tl.range(first, last, {unroll}{stages}):")
        self.depth += 1
        self._edges(group)
        self.depth -= 1

    def matrix_kernel(self) -> str:
        channels, num_basis = self.c.channels, self.what.num_basis
        stride = len(self.c.paths) * channels
        self._header(
            "programs (slice of edges, channel block, group of paths)",
            ["receivers", "first_edge", "last_edge", "edges_per_slice"],
        )
        self.put("slice = tl.program_id(0).to(tl.int64)")
        self.put("block = tl.program_id(1)")
        self.put("group = tl.program_id(2)")
        self._channels()
        self.put("first = first_edge + slice * edges_per_slice")
        self.put("last = tl.minimum(first + edges_per_slice, last_edge)")
        for group in self._each_group():
            rows = [(q, self.c.paths.index(path)) for path in group for q in range(num_basis)]
            for q, p in rows:
                self.put(f"dm{q}_{p} = tl.zeros([BLOCK], dtype=SUM)")
            self._loop_over_edges(group)
            for q, p in rows:
                row = f"dm_ptr + (slice * {num_basis} + {q}) * {stride} + {p * channels} + channel"
                self.store(row, f"dm{q}_{p}")
        return "\n".join(self.lines) + "\n"

    def _header(self, programs: str, more: list[str], constants: Sequence[str] = ()) -> None:
        what = self.what
        tensors = ["x", "y", *{"ones": "", "dense": "w", "radial": "bm"}[what.weights]]
        tensors += ["g"] if self.needs_g else []
        tensors += [f"t{letter}" for letter in what.tangents]
        tensors += ["z" if letter == "g" else f"d{letter}" for letter in what.wants]
        arguments = [*more, "senders", *(f"{tensor}_ptr" for tensor in tensors)]
        numbers = [name for name in more if not name.startswith("receiver")]
        tangents = f" of its tangent by {', '.join(what.tangents)}" if what.tangents else ""
        self.put('"""Written by sciml.kernels.channelwise_source, which has the formulas.')
        self.put("")
        self.put(
            f"Derivatives by {', '.join(what.wants)}{tangents}; weights: {what.weights}; {self.c.channels} channels."
        )
        self.put(f"{self.tuning}")
        self.put(f"{programs}.")
        for p, path in enumerate(self.c.paths):
            self.put(
                f"path {p}: {path.name}, rows {_span(path.rows1)} of x, {_span(path.rows2)} of y, "
                f"{_span(path.rows_out)} of z, {len(path.entries)} non-zeros"
            )
        self.put('"""')
        self.put("")
        self.put("import triton")
        self.put("import triton.language as tl")
        if self.tuning.direct:
            self.put("")
            self.put("from sciml.kernels.registers import read, write")
        self.put("")
        self.put("")
        # Rows of one array of an odd number of edges are not aligned alike, which shall compile nothing anew.
        indices = ["senders", *(name for name in more if name.startswith("receiver"))]
        options = [f"do_not_specialize={numbers!r}"] if numbers else []
        options += [f"do_not_specialize_on_alignment={indices!r}"]
        self.put(f"@triton.jit({', '.join(options)})")
        constants = ["SUM", "BLOCK", *constants, *(["DIRECT"] if self.tuning.direct else [])]
        arguments += [f"{name}: tl.constexpr" for name in constants]
        self.put(f"def kernel({', '.join(arguments)}):")
        self.depth += 1

    def _channels(self) -> None:
        self.put("channel = block * BLOCK + tl.arange(0, BLOCK)")
        if self.masked:
            self.put(f"inside = channel < {self.c.channels}")
        if self.tuning.direct:
            self.put(f"here = (channel < {self.c.channels}).to(tl.int32)")

    def _each_group(self) -> Iterable[list[PathCoupling]]:
        groups = split_paths(self.c.paths, self.tuning.groups)
        for number, group in enumerate(groups):
            if len(groups) > 1:
                self.put(f"{'if' if number == 0 else 'elif'} group == {number}:")
                self.depth += 1
            yield group
            if len(groups) > 1:
                self.depth -= 1

    # --- an edge ------------------------------------------------------------------------------------------------------

    def _edges(self, group: list[PathCoupling]) -> None:
        self.m_names = {}
        for n in range(self.tuning.unroll):
            self._read_edge(group, n)
        self._next_weights(group)
        for path in group:
            p = self.c.paths.index(path)
            self.put(f"# path {p}: {path.name}")
            self._read_weights(p)
            for n in range(self.tuning.unroll):
                if self.needs_g and not (self.by_node and (self.tuning.hold or n)):
                    for k in path.rows_out:
                        self.put(f"g{k} = {self.load(f'g_row{suffix(n)} + {k * self.c.channels}')}")
                self.path(path, p, n)
        for n in range(self.tuning.unroll):
            self._write_edge(group, n)

    def _read_edge(self, group: list[PathCoupling], n: int) -> None:
        """Numbers and features of edge number n of those at a time; zeros beyond the last."""
        what, channels, s = self.what, self.c.channels, suffix(n)
        edge, valid = "edge", ""
        if n:
            edge, valid = f"edge{s}", f"valid{s}"
            # Beyond the last edge, that one again, with harmonics of zero.
            self.put(f"{valid} = edge + {n} < last")
            self.put(f"{edge} = tl.minimum(edge + {n}, last - 1)")
            # The same for all channels, written so that it is a block of booleans for Triton's interpreter as well.
            inside = "inside & " if self.masked else ""
            self.put(f"there{s} = {inside}(channel * 0 + edge + {n} < last)")
        self.put(f"sender{s} = tl.load(senders + {edge})")
        if self.needs_g and not self.by_node:
            self.put(f"receiver{s} = tl.load(receivers + {edge})")
            self.put(f"g_row{s} = g_ptr + receiver{s} * {self.c.num_rows_out * channels} + channel")
        used1 = sorted({i for path in group for i in path.rows1})
        used2 = sorted({j for path in group for _, j, _, _ in path.entries})
        for name in self._given("y"):
            for j in used2:
                pointer = f"{name}_ptr + {edge} * {self.c.num_rows2} + {j}"
                self.put(f"{name}{j}{s} = {self.load(pointer, channels=False, valid=valid)}")
        for name in self._given("x"):
            self.put(f"{name}_row{s} = {name}_ptr + sender{s} * {self.c.num_rows1 * channels} + channel")
            for i in used1:
                self.put(f"{name}{i}{s} = {self.load(f'{name}_row{s} + {i * channels}')}")
        stride = len(self.c.paths) * channels
        if what.weights == "dense" and not self._prefetched():
            for name in self._given("w"):
                self.put(f"{name}_row{s} = {name}_ptr + ({edge} - first_edge) * {stride} + channel")
        if what.weights == "radial":
            for name in self._given("b"):
                for q in range(what.num_basis):
                    pointer = f"{name}_ptr + {edge} * {what.num_basis} + {q}"
                    self.put(f"{name}{q}{s} = {self.load(pointer, channels=False)}")
        if "w" in what.wants:
            self.put(f"dw_row{s} = dw_ptr + ({edge} - first_edge) * {stride} + channel")
        if "x" in what.wants:
            for i in range(self.c.num_rows1):
                self.put(f"dx{i}{s} = tl.zeros([BLOCK], dtype=SUM)")
        if "y" in what.wants:
            for j in range(self.c.num_rows2):
                self.put(f"dy{j}{s} = tl.zeros([BLOCK], dtype=SUM)")
        if "b" in what.wants:
            for q in range(what.num_basis):
                self.put(f"db{q}{s} = tl.zeros([BLOCK], dtype=SUM)")

    def _given(self, letter: str) -> list[str]:
        """An argument and its tangent, if there is one."""
        return [letter, f"t{letter}"] if letter in self.what.tangents else [letter]

    @property
    def by_node(self) -> bool:
        """Whether the edges of a program have one receiver."""
        return "g" in self.what.wants

    def _prefetched(self) -> list[str]:
        """Names of the weights that are read an edge ahead."""
        return self._given("w") if self.tuning.prefetch and self.what.weights == "dense" else []

    def _first_weights(self, group: list[PathCoupling]) -> None:
        stride = len(self.c.paths) * self.c.channels
        for name in self._prefetched():
            # A receiver without edges reads those of another.
            self.put(f"{name}_row = {name}_ptr + (tl.minimum(first, last_edge - 1) - first_edge) * {stride} + channel")
            for p in (self.c.paths.index(path) for path in group):
                self.put(f"next_{name}{p} = {self.load(f'{name}_row + {p * self.c.channels}')}")

    def _next_weights(self, group: list[PathCoupling]) -> None:
        """Move the weights of this edge over, and read those of the next; of the last one again after it."""
        stride = len(self.c.paths) * self.c.channels
        for name in self._prefetched():
            self.put(f"{name}_row = {name}_ptr + (tl.minimum(edge + 1, last - 1) - first_edge) * {stride} + channel")
            for p in (self.c.paths.index(path) for path in group):
                self.put(f"{name}_{p} = next_{name}{p}")
                self.put(f"next_{name}{p} = {self.load(f'{name}_row + {p * self.c.channels}')}")

    def _read_weights(self, p: int) -> None:
        """Weights w and ẇ of path p, for all edges at a time: a row of M is read once for them."""
        what, channels = self.what, self.c.channels
        if what.weights == "ones" or "m" in what.wants:
            return  # the gradient of M does not depend on the weights
        edges = range(self.tuning.unroll)
        scale = "" if self.scales[p] == 1.0 else f"{self.scales[p]!r} * "
        if self._prefetched():
            for name in self._prefetched():
                self.put(f"{name} = {scale}{name}_{p}")
            return
        if what.weights == "dense":
            for n in edges:
                s = suffix(n)
                self.put(f"w{s} = {scale}{self.load(f'w_row{s} + {p * channels}')}")
                if "w" in what.tangents:
                    self.put(f"tw{s} = {scale}{self.load(f'tw_row{s} + {p * channels}')}")
            return
        stride = len(self.c.paths) * channels
        for q in range(what.num_basis):
            self.put(f"m_{q} = {self.load(f'm_ptr + {q * stride + p * channels} + channel')}")
            if "m" in what.tangents:
                self.put(f"tm_{q} = {self.load(f'tm_ptr + {q * stride + p * channels} + channel')}")
        basis = range(what.num_basis)
        for n in edges:
            s = suffix(n)
            self.add(f"w{s}", [(1, f"b{q}{s} * m_{q}") for q in basis], fresh=True)
            if scale:
                self.put(f"w{s} = {scale}w{s}")
            terms = [(1, f"tb{q}{s} * m_{q}") for q in basis if "b" in what.tangents]
            terms += [(1, f"b{q}{s} * tm_{q}") for q in basis if "m" in what.tangents]
            if terms:
                self.add(f"tw{s}", terms, fresh=True)
                if scale:
                    self.put(f"tw{s} = {scale}tw{s}")

    def _write_edge(self, group: list[PathCoupling], n: int) -> None:
        what, channels, s = self.what, self.c.channels, suffix(n)
        valid = f"valid{s}" if n else ""
        edge = f"edge{s}" if n else "edge"
        there = f"there{s}" if n else ""
        number = f", mask={valid}" if valid else ""
        if "w" in what.wants:
            for path in group:
                p = self.c.paths.index(path)
                zeros = " + tl.zeros([BLOCK], dtype=SUM)"  # where it is a plain 0
                self.store(f"dw_row{s} + {p * channels}", f"dw{p}{s}{zeros}", there)
        if "x" in what.wants:
            self.put(f"dx_row = dx_ptr + ({edge} - first_edge) * {self.c.num_rows1 * channels} + channel")
            for i in range(self.c.num_rows1):
                self.store(f"dx_row + {i * channels}", f"dx{i}{s}", there)
        sums = {"y": ("dy", self.c.num_rows2), "b": ("db", what.num_basis)}
        for name, size in (sums[letter] for letter in "yb" if letter in what.wants):
            rows = f"block.to(tl.int64) * (last_edge - first_edge) + {edge} - first_edge"
            self.put(f"row = {name}_ptr + ({rows}) * {size}")
            for j in range(size):
                self.put(f"tl.store(row + {j}, tl.sum({name}{j}{s}){number})")


def split_paths(paths: Sequence[PathCoupling], groups: int) -> list[list[PathCoupling]]:
    """Consecutive paths in groups of about equal work."""
    costs = [len(path.entries) + len(path.rows_out) for path in paths]
    target, reached = sum(costs) / min(groups, len(paths)), 0.0
    found: list[list[PathCoupling]] = [[]]
    for path, cost in zip(paths, costs, strict=True):
        if found[-1] and reached + cost / 2 > target * len(found) and len(found) < groups:
            found.append([])
        found[-1].append(path)
        reached += cost
    return found


def _span(rows: range) -> str:
    return f"{rows.start}" if len(rows) == 1 else f"{rows.start} to {rows.stop - 1}"
