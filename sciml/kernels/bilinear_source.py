"""Source of the kernels of z = C [(Aᵀ x) ⊙ (Bᵀ y)] and of all its derivatives, in registers.

With a cotangent g of z, everything is a derivative of one form that is linear in x, in y, in the weights and in g,

    F = Σ_r (Aᵀ (w x))_r (Bᵀ y)_r (C g)_r ,

and so is every derivative of these derivatives: the signals that are given go to the points, are multiplied there, and
what comes out returns by the matrix of what is asked for. A thread has one sample and channel; components, points and
sums are registers of its own, and orbits of reflections (`orbits`) take 2^-n of the FLOPs. Factors are literals of the
source where it is short; else it loops over planes, whose factors P are read from a small table that all threads share.
Nothing else but the inputs is read, and nothing but the result is written.
"""

from collections.abc import Sequence

from sciml.kernels.component_memory import ComponentMemory
from sciml.kernels.orbits import Signed, Writer
from sciml.kernels.point_form import Form, Operand, Pass, Result

_HELD_COMPONENTS = 150  # components that stay in registers beside the points of one orbit
_CHUNK = 4  # orbits at a time if there are more
_HELD_SUMS = 190  # components and sums over groups that stay in registers while planes pass
_HELD_POINTS = 96  # points of a receiver that stay in registers while its edges pass


def source(form: Form, wanted: Pass) -> tuple[list[str], str]:
    """Names of the arguments, and the source of a module with the function `kernel` of them."""
    kernel = _Kernel(form, wanted)
    return kernel.arguments(), kernel.text()


class _Kernel(ComponentMemory):
    def __init__(self, form: Form, wanted: Pass) -> None:
        super().__init__(form, wanted)
        self.sums_channels = any(form.sides[r.side].shared for r in wanted.results)
        held = sum(len(form.sides[side].factor.characters[0]) for side in self.sides.values())
        held += sum(len(form.sides[result.side].factor.characters[0]) for result in wanted.results)
        groups = sum(len(form.sides[side].factor.planes[0].places) for side in self.sides.values())
        groups += sum(len(form.sides[result.side].factor.planes[0].places) for result in wanted.results)
        # Rereading costs a warp one line if channels are contiguous, and 2l+1 if not: then the compiler may spill.
        self.rereads = form.by_planes and form.layout == "ir_mul" and held + groups > _HELD_SUMS
        self.height_names: dict[int, str] = {}
        self.chunk = 1 if held <= _HELD_COMPONENTS else _CHUNK

    # --- what the kernel is given ---

    def arguments(self) -> list[str]:
        """Names of pointers and numbers, in order."""
        reads = [*self.names, *(["weights"] if self.wanted.weighted else [])]
        indices: dict[str, list[str]] = {
            "samples": [],
            "edges": ["senders", "receivers"],
            "receivers": ["receiver_starts", "senders"],
            "senders": ["sender_starts", "sender_order", "receivers"],
        }
        return [
            *reads,
            *(f"{result.name}_out" for result in self.wanted.results),
            *indices[self.wanted.rows],
            *(f"{name}_stride" for name in reads),
            *(f"{result.name}_out_stride" for result in self.wanted.results),
            "num_rows",
            *(["heights", "zero"] if self.form.by_planes else []),
        ]

    def text(self) -> str:
        arguments = self.arguments()
        numbers = [name for name in arguments if name.endswith("_stride") or name in ("num_rows", "zero")]
        if self.over_nodes:
            self._over_nodes()
        else:
            self._over_rows()
        return "\n".join(
            [
                "import triton",
                "import triton.language as tl",
                "",
                "from sciml.kernels.registers import read, write",
                "",
                "",
                f"@triton.jit(do_not_specialize={numbers!r})",
                f"def kernel({', '.join(arguments)}, DOUBLE: tl.constexpr, DIRECT: tl.constexpr):",
                "    ACC: tl.constexpr = tl.float64 if DOUBLE else tl.float32",
                *self.writer.lines,
                "",
            ]
        )

    # --- rows of samples or edges ---

    def _over_rows(self) -> None:
        write, (rows, channels) = self.writer, self.tile
        write.line(f"n = tl.program_id(0).to(tl.int64) * {rows} + tl.arange(0, {rows})[:, None]")
        write.line("mask = n < num_rows")
        if self.wanted.rows == "edges":
            write.line("sender = tl.load(senders + n, mask=mask, other=0)")
            write.line("receiver = tl.load(receivers + n, mask=mask, other=0)")
        looped = self.sums_channels and self.form.num_channels > channels
        if not looped:
            first = "" if self.sums_channels else f"tl.program_id(1) * {channels} + "
            write.line(f"u = {first}tl.arange(0, {channels})[None, :]")
        sums = {r.name: self._zeros(r) for r in self.wanted.results if r.name != "weights"}
        if looped:
            write.line(f"for start in range(0, {self.form.num_channels}, {channels}):")
            write.indent = "        "
            write.line(f"u = start + tl.arange(0, {channels})[None, :]")
            # Results of their own channels start again with every block of them.
            for result in self.wanted.results:
                if result.name in sums and not self.form.sides[result.side].shared:
                    for name in sums[result.name]:
                        write.line(f"{name} = tl.zeros({list(self.tile)}, ACC)")
        self.rows_of = dict.fromkeys(self.names, "n")
        if self.wanted.rows == "edges":
            self.rows_of |= {"x": "sender", "z": "receiver"}
        loaded = self._read()
        weights = self._load_weights("n", "mask") if self.wanted.weighted else None
        self._evaluate(loaded, weights, sums, write)
        for result in self.wanted.results:
            if not self.form.sides[result.side].shared:
                self._finish(result, loaded, weights, sums)
        write.indent = "    "
        for result in self.wanted.results:
            if self.form.sides[result.side].shared:
                self._finish(result, loaded, weights, sums)

    def _finish(
        self,
        result: Result,
        loaded: dict[str, list[str]],
        weights: list[str] | None,
        sums: dict[str, list[str]],
    ) -> None:
        write, side = self.writer, self.form.sides[result.side]
        if result.name == "weights":
            components = self._products_of_blocks(sums["x~"], loaded["x"])
            self._store_weights(components)
            return
        components = sums[result.name]
        if result.name == "x" and weights is not None:
            components = [write.let(f"{c} * {w}") for c, w in zip(components, weights, strict=True)]
        if result.scale != 1:
            components = [write.let(f"{c} * {float(result.scale)!r}") for c in components]
        if side.shared:
            components = [write.let(f"tl.sum({c}, axis=1)[:, None]") for c in components]
        self._store(result, components, "n", "mask")

    # --- sums over the edges of a node ---

    def _over_nodes(self) -> None:
        write, (_, channels) = self.writer, self.tile
        (result,) = self.wanted.results
        by_receiver = self.wanted.rows == "receivers"
        starts = "receiver_starts" if by_receiver else "sender_starts"
        write.line("node = tl.program_id(0).to(tl.int64)")
        write.line(f"u = tl.program_id(1) * {channels} + tl.arange(0, {channels})[None, :]")
        write.line(f"first = tl.load({starts} + node)")
        write.line(f"last = tl.load({starts} + node + 1)")
        weighted_result = result.name == "x" and self.wanted.weighted
        points = self.form.num_orbits * self.form.orbit_size * len(self._result_groups(result))
        at_points = points <= _HELD_POINTS and not weighted_result and not self.form.by_planes
        held: dict[tuple[int, int, int], str] = {}
        if at_points:
            for group, _ in enumerate(self._result_groups(result)):
                for orbit in range(self.form.num_orbits):
                    for g in range(self.form.orbit_size):
                        held[group, orbit, g] = write.let(f"tl.zeros({list(self.tile)}, ACC)")
        sums = self._zeros(result)
        write.line("for k in range(first, last):")
        write.indent = "        "
        write.line("edge = k" if by_receiver else "edge = tl.load(sender_order + k)")
        other = "senders" if by_receiver else "receivers"
        write.line(f"other = tl.load({other} + edge)")
        self.rows_of = {name: "edge" if name == "y" else "other" for name in self.names}
        loaded = self._read()
        weights = self._load_weights("edge", None) if self.wanted.weighted else None
        if at_points:
            self._evaluate(loaded, weights, {}, write, held=held)
        elif weighted_result:
            assert weights is not None
            edge_sums = [write.let(f"tl.zeros({list(self.tile)}, ACC)") for _ in sums]
            self._evaluate(loaded, weights, {result.name: edge_sums}, write)
            for total, part, weight in zip(sums, edge_sums, weights, strict=True):
                write.line(f"{total} = {total} + {part} * {weight}")
        else:
            self._evaluate(loaded, weights, {result.name: sums}, write)
        write.indent = "    "
        if at_points:
            for group, (term, _) in enumerate(self._result_groups(result)):
                for orbit in range(self.form.num_orbits):
                    values = [Signed(1, held[group, orbit, g]) for g in range(self.form.orbit_size)]
                    write.from_points(values, self.form.sides[result.side].factor, term, orbit, sums)
        self._store(result, sums, "node", None)

    # --- to the points, products, and back ---

    def _result_groups(self, result: Result) -> list[tuple[int, tuple[int, ...]]]:
        """Terms that return by the same column are added first: (first of them, all of them)."""
        factor = self.form.sides[result.side].factor
        groups: dict[bytes, list[int]] = {}
        for term in range(self.form.num_terms):
            groups.setdefault(factor.values[term].tobytes() + factor.characters[term].tobytes(), []).append(term)
        return [(terms[0], tuple(terms)) for terms in groups.values()]

    def _evaluate(
        self,
        loaded: dict[str, list[str]],
        weights: list[str] | None,
        sums: dict[str, list[str]],
        write: Writer,
        held: dict[tuple[int, int, int], str] | None = None,
    ) -> None:
        form = self.form
        signals = self._weighted(loaded, weights)
        results = [result for result in self.wanted.results if result.name != "weights"]
        if len(results) < len(self.wanted.results):
            (of_weights,) = (result for result in self.wanted.results if result.name == "weights")
            if any(result.name == "x" for result in results):
                sums["x~"] = sums["x"]
            else:
                results.append(of_weights)
                sums["x~"] = sums["weights"] = self._zeros(of_weights)
        if form.by_planes:
            outer = write.indent
            write.line(f"for plane in range(0, {form.num_planes}):")
            write.indent = outer + "    "
            if self.rereads:
                signals = self._weighted(self._read(again=" + plane * zero"), weights)
            columns = sum(len(side.factor.planes) * len(side.factor.planes[0].group) for side in form.sides)
            write.line(f"row = heights + plane * {columns}")
            self.height_names.clear()
            self._evaluate_orbits(results, signals, sums, range(form.num_orbits // form.num_planes), None)
            write.indent = outer
        else:
            for start in range(0, form.num_orbits, self.chunk):
                orbits = range(start, min(start + self.chunk, form.num_orbits))
                self._evaluate_orbits(results, signals, sums, orbits, held)

    def _evaluate_orbits(
        self,
        results: Sequence[Result],
        signals: dict[str, list[str]],
        sums: dict[str, list[str]],
        orbits: range,
        held: dict[tuple[int, int, int], str] | None,
    ) -> None:
        """Of some orbits, or of those of the plane `plane`."""
        form, write = self.form, self.writer
        values: dict[tuple[str, bytes], list[list[Signed | None]]] = {}
        for result in results:
            factor = form.sides[result.side].factor
            for group, (first, terms) in enumerate(self._result_groups(result)):
                over_places: list[str | None] = [None] * len(factor.planes[first].places)
                signals_of = [
                    [(self._values(values, signals, o, term, orbits), o.exponent) for o in result.operands]
                    for term in terms
                ]
                for place, orbit in enumerate(orbits):
                    products = [
                        self._sum_of_products(
                            [[(v[place][g], e) for v, e in term] for term in signals_of],
                            None if held is None else held[group, orbit, g],
                        )
                        for g in range(form.orbit_size)
                    ]
                    if form.by_planes:
                        write.from_places(products, factor.planes[first], place, over_places)
                    elif held is None:
                        write.from_points(products, factor, first, orbit, sums[result.name])
                if form.by_planes:
                    heights = self._heights(result.side, first)
                    write.from_groups(over_places, factor.planes[first], heights, sums[result.name])

    def _weighted(self, loaded: dict[str, list[str]], weights: list[str] | None) -> dict[str, list[str]]:
        given = {operand.name for result in self.wanted.results for operand in result.operands}
        if weights is None or "x" not in given:
            return loaded
        return loaded | {"x": [self.writer.let(f"{x} * {w}") for x, w in zip(loaded["x"], weights, strict=True)]}

    def _heights(self, side: int, term: int) -> list[str | None]:
        """Names of the P of a plane, None where they are zero at all."""
        planes = self.form.sides[side].factor.planes[term]
        before = sum(len(s.factor.planes) * len(s.factor.planes[0].group) for s in self.form.sides[:side])
        first = before + term * len(planes.group)
        found: list[str | None] = []
        for i, row in enumerate(planes.heights):
            if row.any() and first + i not in self.height_names:
                self.height_names[first + i] = self.writer.let(f"tl.load(row + {first + i})")
            found.append(self.height_names.get(first + i))
        return found

    def _values(
        self,
        values: dict[tuple[str, bytes], list[list[Signed | None]]],
        signals: dict[str, list[str]],
        operand: Operand,
        term: int,
        orbits: range,
    ) -> list[list[Signed | None]]:
        factor = self.form.sides[operand.side].factor
        key = (operand.name, factor.values[term].tobytes() + factor.characters[term].tobytes())
        if key not in values:
            size, components = self.form.orbit_size, signals[operand.name]
            if self.form.by_planes:
                planes = factor.planes[term]
                sums = self.writer.over_groups(components, planes, self._heights(operand.side, term))
                values[key] = [self.writer.at_places(sums, planes, size, place) for place in range(len(orbits))]
            else:
                values[key] = self.writer.at_points(components, factor, size, term, orbits)
        return values[key]

    def _sum_of_products(self, terms: Sequence[Sequence[tuple[Signed | None, int]]], held: str | None) -> Signed | None:
        """Σ_terms Π v^e, or that added to a variable."""
        total = Signed(1, held) if held else None
        for operands in terms:
            names: list[str] = []
            sign = 1
            for value, exponent in operands:
                if value is None and exponent:
                    names = ["0"]
                    break
                if value is not None:
                    names += [value.name] * exponent
                    sign *= value.sign**exponent
            if names == ["0"]:
                continue
            product = " * ".join(names) or "1.0"
            if total is None:
                total = Signed(sign, self.writer.let(product))
            elif held:
                self.writer.line(f"{held} = {held} {'+' if sign == 1 else '-'} {product}")
            else:
                operator = "+" if sign == total.sign else "-"
                total = Signed(total.sign, self.writer.let(f"{total.name} {operator} {product}"))
        return total
