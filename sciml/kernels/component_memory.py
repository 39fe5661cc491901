"""Source that brings components of irreps to registers and back, from either layout and for any multiplicities."""

from collections.abc import Sequence

from sciml.kernels.orbits import Writer
from sciml.kernels.point_form import Form, Pass, Result, Side


class ComponentMemory:
    """Loads and stores of a kernel, whose variables are `u`, channels, and rows of each tensor by name.

    Args:
        form: where components lie.
        wanted: what the kernel reads and writes.
    """

    def __init__(self, form: Form, wanted: Pass) -> None:
        self.form, self.wanted = form, wanted
        self.writer = Writer()
        self.over_nodes = wanted.rows in ("receivers", "senders")
        self.names = list(dict.fromkeys(operand.name for result in wanted.results for operand in result.operands))
        self.sides = {operand.name: operand.side for result in wanted.results for operand in result.operands}
        if any(result.name == "weights" for result in wanted.results) and "x" not in self.names:
            self.names.append("x")
            self.sides["x"] = 0
        self.tile = (1, form.tile[1]) if self.over_nodes else form.tile
        self.full_blocks = form.num_channels % self.tile[1] == 0
        self.rows_of: dict[str, str] = {}

    def _zeros(self, result: Result) -> list[str]:
        rows = len(self.form.sides[result.side].factor.characters[0])
        return [self.writer.let(f"tl.zeros({list(self.tile)}, ACC)") for _ in range(rows)]

    def _mask(self, rows: str | None, mul: int | None) -> str:
        """Name of an int32 mask; "" for a number that all threads share."""
        masks = [rows] if rows else []
        if mul is not None and (not self.full_blocks or mul < self.form.num_channels or not rows):
            masks.append(f"(u < {min(mul, self.form.num_channels)})")
        return self.writer.let(f"({' & '.join(masks)}).to(tl.int32)") if masks else ""

    def _read_from(self, pointer: str, mask: str) -> str:
        return self.writer.let(f"{f'read({pointer}, {mask}, DIRECT)' if mask else f'tl.load({pointer})'}.to(ACC)")

    def _pointers(self, base: str, side: Side, rows: str | None) -> list[tuple[str, str]]:
        """Pointer and mask of each component."""
        found, start = [], 0
        for mul, dim in side.sizes:
            ir_mul = self.form.layout == "ir_mul"
            channel = "" if side.shared else (" + u" if ir_mul else f" + u * {dim}")
            pointer = self.writer.let(f"{base} + {start}{channel}")
            mask = self._mask(rows, None if side.shared else mul)
            step = (1 if side.shared else mul) if ir_mul else 1
            found += [(f"{pointer} + {j * step}", mask) for j in range(dim)]
            start += mul * dim
        return found

    def _read(self, again: str = "") -> dict[str, list[str]]:
        rows = None if self.over_nodes else "mask"
        return {name: self._load(name, self.rows_of[name], rows, again) for name in self.names}

    def _load(self, name: str, row: str, rows: str | None, again: str) -> list[str]:
        base = self.writer.let(f"{name} + {row} * {name}_stride{again}")
        side = self.form.sides[self.sides[name]]
        return [self._read_from(pointer, mask) for pointer, mask in self._pointers(base, side, rows)]

    def _store(self, result: Result, components: Sequence[str], row: str, rows: str | None) -> None:
        base = self.writer.let(f"{result.name}_out + {row} * {result.name}_out_stride")
        pointers = self._pointers(base, self.form.sides[result.side], rows)
        for (pointer, mask), component in zip(pointers, components, strict=True):
            self.writer.line(f"write({pointer}, {component}, {mask}, DIRECT)")

    def _weight_pointers(self, base: str, rows: str | None) -> list[tuple[str, str]]:
        found, start = [], 0
        for mul in self.form.weight_muls:
            found.append((f"{base} + {start} + u", self._mask(rows, mul)))
            start += mul
        return found

    def _load_weights(self, row: str, rows: str | None) -> list[str]:
        """One for each component of x."""
        base = self.writer.let(f"weights + {row} * weights_stride")
        found = [self._read_from(pointer, mask) for pointer, mask in self._weight_pointers(base, rows)]
        dims = [dim for _, dim in self.form.sides[0].sizes]
        if len(found) == 1:
            return found * sum(dims)
        return [weight for weight, dim in zip(found, dims, strict=True) for _ in range(dim)]

    def _products_of_blocks(self, left: Sequence[str], right: Sequence[str]) -> list[str]:
        """Σ_i left_i right_i for each weight."""
        dims = [dim for _, dim in self.form.sides[0].sizes]
        if len(self.form.weight_muls) == 1:
            dims = [sum(dims)]
        found, start = [], 0
        for dim in dims:
            products = [
                f"{a} * {b}" for a, b in zip(left[start : start + dim], right[start : start + dim], strict=True)
            ]
            total = self.writer.let(products[0])
            for product in products[1:]:
                total = self.writer.let(f"{total} + {product}")
            found.append(total)
            start += dim
        return found

    def _store_weights(self, components: Sequence[str]) -> None:
        base = self.writer.let("weights_out + n * weights_out_stride")
        for (pointer, mask), component in zip(self._weight_pointers(base, "mask"), components, strict=True):
            self.writer.line(f"write({pointer}, {component}, {mask}, DIRECT)")
