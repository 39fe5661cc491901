"""Source of the kernels of one channelwise convolution and its derivatives, with every non-zero as a literal.

Everything is a derivative of one form that is linear in each of its arguments. For an edge with the sender's features
x (rows i, channels u), harmonics y (j), weights w (paths p, channels) and a cotangent g (rows k, channels) of z,

    F = Σ_u Σ_p w_pu Σ_ijk C^p_ijk x_iu y_j g_ku .

The convolution is ∂F/∂g summed by receiver, its backward pass the other three derivatives; the double backward pass
has those of ∂F/∂(x, y, w) · (ẋ, ẏ, ẇ), with tangents marked by a dot here and by `t` in the source. With

    m_ik = Σ_j C_ijk y_j    (numbers of an edge, shared by its channels and, where equal, by paths)
    q_i  = Σ_k m_ik g_k ,   B_ij = Σ_k C_ijk g_k ,   v_i = w x_i ,   u_i = w ẋ_i + ẇ x_i

    ∂F/∂g_k = Σ_i m_ik v_i      and of the tangent    Σ_i m_ik u_i + ṁ_ik v_i
    ∂F/∂x_i = w q_i                                   w q̇_i + ẇ q_i
    ∂F/∂w   = Σ_i x_i q_i                             Σ_i ẋ_i q_i + x_i q̇_i
    ∂F/∂y_j = Σ_iu B_ij v_i                           Σ_iu B_ij u_i

Weights are given per edge, or w_pu = Σ_q b_q M_qpu from a radial basis b of the edge and a matrix M, or are ones.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sciml.kernels.channelwise_couplings import Couplings, PathCoupling

Term = tuple[int, str]  # sign and product


class Pass(NamedTuple):
    """What a kernel computes; letters are g, x, y, w (of the form above), b and m (basis and matrix).

    Attributes:
        wants: derivatives.
        tangents: those given; none for the derivatives of F itself.
        weights: "ones", "dense" or "radial".
        num_basis: of radial weights.
    """

    wants: str
    tangents: str = ""
    weights: str = "dense"
    num_basis: int = 0


class Tuning(NamedTuple):
    """How it is computed.

    Attributes:
        block: channels of a program.
        warps: of a program.
        groups: parts of the paths, each in programs of its own.
        unroll: edges at a time.
        hold: whether g stays in registers, or is read again for each edge.
        stages: of Triton's software pipeline over edges; 1 for none.
    """

    block: int
    warps: int
    groups: int = 1
    unroll: int = 1
    hold: bool = False
    stages: int = 1


def node_kernel(couplings: Couplings, what: Pass, tuning: Tuning) -> str:
    """Source of `kernel`: programs (receiver, channel block, group of paths) that loop over the edges of a receiver.

    It stores ∂/∂g of the receiver once, from registers; ∂/∂x of each edge, to be summed by sender; ∂/∂w of each edge;
    and ∂/∂y and ∂/∂b of each edge and channel block, to be summed over blocks. Nothing is added to memory, so that
    results are equal bit by bit from run to run. What an edge stores comes after all that it loads: loads do not wait
    for stores then.
    """
    return _Source(couplings, what, tuning).node_kernel()


def matrix_kernel(couplings: Couplings, what: Pass, tuning: Tuning) -> str:
    """Source of `kernel`: programs (slice of edges, channel block, group of paths) for the gradient of M.

    The gradient stays in registers and is stored once per slice, to be summed over slices.
    """
    return _Source(couplings, what, tuning).matrix_kernel()


class _Source:
    def __init__(self, couplings: Couplings, what: Pass, tuning: Tuning) -> None:
        self.c, self.what, self.tuning = couplings, what, tuning
        self.lines: list[str] = []
        self.depth = 0
        self.masked = couplings.channels % tuning.block != 0
        self.needs_g = bool(set(what.wants) - {"g"})
        self.scales, paths = [], []
        for path in couplings.paths:
            scale = 1.0 if what.weights == "ones" else _commonest(path)
            self.scales.append(scale)
            paths.append(path._replace(entries=tuple((i, j, k, value / scale) for i, j, k, value in path.entries)))
        self.c = couplings._replace(paths=tuple(paths))
        self.m_names: dict[tuple, str] = {}

    # --- text ---------------------------------------------------------------------------------------------------------

    def put(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def add(self, name: str, terms: Sequence[Term], *, fresh: bool = False) -> None:
        """`name += Σ terms`, or `name = Σ terms`."""
        if not terms:
            if fresh:
                self.put(f"{name} = 0.0")
            return
        first = not fresh
        text = f"{name} = {name}" if first else f"{name} ="
        for number, (sign, product) in enumerate(terms):
            if number == 0 and fresh:
                text += f" {'-' if sign < 0 else ''}{product}"
            else:
                text += f" {'-' if sign < 0 else '+'} {product}"
        self.put(text)

    def load(self, pointer: str, *, channels: bool = True, valid: str = "") -> str:
        """A load in the dtype of sums; of all channels of the block or one number."""
        conditions = [valid] if valid else ["inside"] if channels and self.masked else []
        mask = f", mask={' & '.join(conditions)}, other=0.0" if conditions else ""
        return f"tl.load({pointer}{mask}).to(SUM)"

    def store(self, pointer: str, value: str, *, channels: bool = True) -> None:
        mask = ", mask=inside" if channels and self.masked else ""
        self.put(f"tl.store({pointer}, {value}{mask})")

    # --- kernels ------------------------------------------------------------------------------------------------------

    def node_kernel(self) -> str:
        what, channels = self.what, self.c.channels
        self._header(
            "programs (receiver, channel block, group of paths); loops over the edges of the receiver",
            ["receiver_starts"],
        )
        self.put("node = tl.program_id(0).to(tl.int64)")
        self._channels()
        self.put("first = tl.load(receiver_starts + node)")
        self.put("last = tl.load(receiver_starts + node + 1)")
        if "g" in what.wants:
            self.put(f"z_row = z_ptr + node * {self.c.num_rows_out * channels} + channel")
        if self.needs_g:
            self.put(f"g_row = g_ptr + node * {self.c.num_rows_out * channels} + channel")
        for group in self._each_group():
            rows = [k for path in group for k in path.rows_out]
            if self.tuning.hold and self.needs_g:
                for k in rows:
                    self.put(f"g{k} = {self.load(f'g_row + {k * channels}')}")
            if "g" in what.wants:
                for k in rows:
                    self.put(f"z{k} = tl.zeros([BLOCK], dtype=SUM)")
            unroll = self.tuning.unroll
            stages = f", num_stages={self.tuning.stages}" if self.tuning.stages > 1 else ""
            self.put(f"for edge in tl.range(first, last, {unroll}{stages}):")
            self.depth += 1
            self._edges(group)
            self.depth -= 1
            if "g" in what.wants:
                for k in rows:
                    self.store(f"z_row + {k * channels}", f"z{k}")
        return "\n".join(self.lines) + "\n"

    def matrix_kernel(self) -> str:
        channels, num_basis = self.c.channels, self.what.num_basis
        stride = len(self.c.paths) * channels
        self._header(
            "programs (slice of edges, channel block, group of paths)",
            ["receivers", "num_edges", "edges_per_slice"],
        )
        self.put("slice = tl.program_id(0).to(tl.int64)")
        self._channels()
        self.put("first = slice * edges_per_slice")
        self.put("last = tl.minimum(first + edges_per_slice, num_edges)")
        for group in self._each_group():
            rows = [(q, self.c.paths.index(path)) for path in group for q in range(num_basis)]
            for q, p in rows:
                self.put(f"dm{q}_{p} = tl.zeros([BLOCK], dtype=SUM)")
            self.put("for edge in range(first, last):")
            self.depth += 1
            self.put("receiver = tl.load(receivers + edge)")
            self.put(f"g_row = g_ptr + receiver * {self.c.num_rows_out * channels} + channel")
            self._edges(group)
            self.depth -= 1
            for q, p in rows:
                row = f"dm_ptr + (slice * {num_basis} + {q}) * {stride} + {p * channels} + channel"
                self.store(row, f"dm{q}_{p}")
        return "\n".join(self.lines) + "\n"

    def _header(self, programs: str, more: list[str]) -> None:
        what = self.what
        tensors = ["x", "y", *{"ones": "", "dense": "w", "radial": "bm"}[what.weights]]
        tensors += ["g"] if self.needs_g else []
        tensors += [f"t{letter}" for letter in what.tangents]
        tensors += ["z" if letter == "g" else f"d{letter}" for letter in what.wants]
        arguments = [*more, "senders", *(f"{tensor}_ptr" for tensor in tensors)]
        numbers = [name for name in more if name.startswith(("num", "edges_per"))]
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
        self.put("")
        self.put("")
        self.put(f"@triton.jit(do_not_specialize={numbers!r})" if numbers else "@triton.jit")
        self.put(f"def kernel({', '.join(arguments)}, SUM: tl.constexpr, BLOCK: tl.constexpr):")
        self.depth += 1

    def _channels(self) -> None:
        self.put("channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)")
        if self.masked:
            self.put(f"inside = channel < {self.c.channels}")

    def _each_group(self) -> Iterable[list[PathCoupling]]:
        groups = split_paths(self.c.paths, self.tuning.groups)
        for number, group in enumerate(groups):
            if len(groups) > 1:
                self.put(f"{'if' if number == 0 else 'elif'} tl.program_id(2) == {number}:")
                self.depth += 1
            yield group
            if len(groups) > 1:
                self.depth -= 1

    # --- an edge ------------------------------------------------------------------------------------------------------

    def _edges(self, group: list[PathCoupling]) -> None:
        self.m_names = {}
        for n in range(self.tuning.unroll):
            self._read_edge(group, n)
        for path in group:
            p = self.c.paths.index(path)
            self.put(f"# path {p}: {path.name}")
            self._read_weights(p)
            if self.needs_g and not self.tuning.hold:
                for k in path.rows_out:
                    self.put(f"g{k} = {self.load(f'g_row + {k * self.c.channels}')}")
            for n in range(self.tuning.unroll):
                self._path(path, p, n)
        for n in range(self.tuning.unroll):
            self._write_edge(group, n)

    def _read_edge(self, group: list[PathCoupling], n: int) -> None:
        """Numbers and features of edge number n of those at a time; zeros beyond the last."""
        what, channels, s = self.what, self.c.channels, _suffix(n)
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
        used1 = sorted({i for path in group for i in path.rows1})
        used2 = sorted({j for path in group for j, _ in _by(path, 1)})
        tangents = set(what.tangents)
        for name, wanted in (("y", True), ("ty", "y" in tangents)):
            if wanted:
                for j in used2:
                    self.put(
                        f"{name}{j}{s} = {self.load(f'{name}_ptr + {edge} * {self.c.num_rows2} + {j}', channels=False, valid=valid)}"
                    )
        for name, wanted in (("x", True), ("tx", "x" in tangents)):
            if wanted:
                self.put(f"{name}_row{s} = {name}_ptr + sender{s} * {self.c.num_rows1 * channels} + channel")
                for i in used1:
                    self.put(f"{name}{i}{s} = {self.load(f'{name}_row{s} + {i * channels}')}")
        stride = len(self.c.paths) * channels
        if what.weights == "dense":
            for name, wanted in (("w", True), ("tw", "w" in tangents)):
                if wanted:
                    self.put(f"{name}_row{s} = {name}_ptr + {edge} * {stride} + channel")
        if what.weights == "radial":
            for name, wanted in (("b", True), ("tb", "b" in tangents)):
                if wanted:
                    for q in range(what.num_basis):
                        self.put(
                            f"{name}{q}{s} = {self.load(f'{name}_ptr + {edge} * {what.num_basis} + {q}', channels=False)}"
                        )
        if "w" in what.wants:
            self.put(f"dw_row{s} = dw_ptr + {edge} * {stride} + channel")
        if "x" in what.wants:
            for i in range(self.c.num_rows1):
                self.put(f"dx{i}{s} = tl.zeros([BLOCK], dtype=SUM)")
        if "y" in what.wants:
            for j in range(self.c.num_rows2):
                self.put(f"dy{j}{s} = tl.zeros([BLOCK], dtype=SUM)")
        if "b" in what.wants:
            for q in range(what.num_basis):
                self.put(f"db{q}{s} = tl.zeros([BLOCK], dtype=SUM)")

    def _read_weights(self, p: int) -> None:
        """w and ẇ of path p, for all edges at a time: a row of M is read once for them."""
        what, channels = self.what, self.c.channels
        if what.weights == "ones" or "m" in what.wants:
            return  # the gradient of M does not depend on the weights
        edges = range(self.tuning.unroll)
        scale = "" if self.scales[p] == 1.0 else f"{self.scales[p]!r} * "
        if what.weights == "dense":
            for n in edges:
                s = _suffix(n)
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
            s = _suffix(n)
            self.add(f"w{s}", [(1, f"b{q}{s} * m_{q}") for q in basis], fresh=True)
            if scale:
                self.put(f"w{s} = {scale}w{s}")
            terms = [(1, f"tb{q}{s} * m_{q}") for q in basis if "b" in what.tangents]
            terms += [(1, f"b{q}{s} * tm_{q}") for q in basis if "m" in what.tangents]
            if terms:
                self.add(f"tw{s}", terms, fresh=True)
                if scale:
                    self.put(f"tw{s} = {scale}tw{s}")

    def _path(self, path: PathCoupling, p: int, n: int) -> None:
        what, s = self.what, _suffix(n)
        wants, tangents = set(what.wants), set(what.tangents)
        has_w, has_tw = what.weights != "ones", bool(tangents & {"w", "b", "m"})
        of_matrix = bool(wants & {"b", "m"})
        m = self._numbers(path, "y", s)
        tm = self._numbers(path, "ty", s) if "y" in tangents else None
        rows1 = [i for i, _ in _by(path, 0)]
        weigh_last = wants == {"g"} and not tangents and has_w and len(path.rows_out) < len(rows1)

        # v and u, products of weights and features
        if wants & {"g", "y"}:
            if (not tangents and not weigh_last) or (tm is not None and "g" in wants):
                for i in rows1:
                    self.put(f"v{i} = {f'w{s} * ' if has_w else ''}x{i}{s}")
            if tangents & {"x", "w", "b", "m"}:
                for i in rows1:
                    terms = [(1, f"w{s} * tx{i}{s}" if has_w else f"tx{i}{s}")] if "x" in tangents else []
                    terms += [(1, f"tw{s} * x{i}{s}")] if has_tw else []
                    self.add(f"u{i}", terms, fresh=True)
        first = "v" if not tangents else "u" if tangents & {"x", "w", "b", "m"} else None  # multiplies m and B

        if "g" in wants and weigh_last:
            for k in path.rows_out:
                self.add("part", [(sign, f"{name} * x{i}{s}") for i, (sign, name) in _column(m, k)], fresh=True)
                self.add(f"z{k}", [(1, f"w{s} * part")])
        elif "g" in wants:
            for k in path.rows_out:
                terms = [(sign, f"{name} * {first}{i}") for i, (sign, name) in _column(m, k)] if first else []
                terms += [(sign, f"{name} * v{i}") for i, (sign, name) in _column(tm, k)] if tm is not None else []
                self.add(f"z{k}", terms)

        # q and q̇
        second_q = tm is not None and wants & {"x", "w", "b", "m"}
        needs_q = (wants & {"x", "w", "b", "m"} and (not tangents or tangents & {"x"} or of_matrix)) or (
            "x" in wants and has_tw
        )
        for name, table, needed in (("q", m, needs_q), ("tq", tm, second_q)):
            if needed and table is not None:
                for i in rows1:
                    self.add(f"{name}{i}", [(sign, f"{n_} * g{k}") for k, (sign, n_) in _row(table, i)], fresh=True)

        if "x" in wants:
            for i in rows1:
                if not tangents:
                    terms = [(1, f"w{s} * q{i}" if has_w else f"q{i}")]
                else:
                    terms = [(1, f"w{s} * tq{i}" if has_w else f"tq{i}")] if tm is not None else []
                    terms += [(1, f"tw{s} * q{i}")] if has_tw else []
                self.add(f"dx{i}{s}", terms)
        if wants & {"w", "b", "m"}:
            plain = [(1, f"x{i}{s} * q{i}") for i in rows1]
            terms = plain
            if tangents:
                terms = [(1, f"tx{i}{s} * q{i}") for i in rows1] if "x" in tangents else []
                terms += [(1, f"x{i}{s} * tq{i}") for i in rows1] if tm is not None else []
            name = f"dw{p}{s}"
            self.add(name, terms, fresh=True)
            if self.scales[p] != 1.0 and terms:
                self.put(f"{name} = {self.scales[p]!r} * {name}")
            if of_matrix and has_tw:
                self.add("dtw", plain, fresh=True)
                if self.scales[p] != 1.0:
                    self.put(f"dtw = {self.scales[p]!r} * dtw")
        if of_matrix:
            self._radial_gradients(p, s)
        if "y" in wants and first:
            self._gradient_of_y(path, first, s)

    def _radial_gradients(self, p: int, s: str) -> None:
        what = self.what
        has_plain = not what.tangents or set(what.tangents) & {"x", "y"}
        for q in range(what.num_basis):
            if "m" in what.wants:
                terms = [(1, f"b{q}{s} * dw{p}{s}")] if has_plain else []
                terms += [(1, f"tb{q}{s} * dtw")] if "b" in what.tangents else []
                self.add(f"dm{q}_{p}", terms)
            if "b" in what.wants:
                terms = [(1, f"m_{q} * dw{p}{s}")] if has_plain else []
                terms += [(1, f"tm_{q} * dtw")] if "m" in what.tangents else []
                self.add(f"db{q}{s}", terms)

    def _gradient_of_y(self, path: PathCoupling, first: str, s: str) -> None:
        """Σ_ik C_ijk g_k v_i, summed first over k or over i, whichever leaves fewer products."""
        over_k: dict[tuple[int, int], list[Term]] = {}
        over_i: dict[tuple[int, int], list[Term]] = {}
        for i, j, k, value in path.entries:
            over_k.setdefault((i, j), []).append(_literal(value, f"g{k}"))
            over_i.setdefault((k, j), []).append(_literal(value, f"{first}{i}"))
        other, table = (first, over_k) if len(over_k) <= len(over_i) else ("g", over_i)
        for (row, j), terms in table.items():
            self.add("part", terms, fresh=True)
            self.add(f"dy{j}{s}", [(1, f"part * {other}{row}")])

    def _write_edge(self, group: list[PathCoupling], n: int) -> None:
        what, channels, s = self.what, self.c.channels, _suffix(n)
        valid = f"valid{s}" if n else ""
        edge = f"edge{s}" if n else "edge"
        mask = f", mask=there{s}" if n else ", mask=inside" if self.masked else ""
        number = f", mask={valid}" if valid else ""
        if "w" in what.wants:
            for path in group:
                p = self.c.paths.index(path)
                zeros = " + tl.zeros([BLOCK], dtype=SUM)"  # where it is a plain 0
                self.put(f"tl.store(dw_row{s} + {p * channels}, dw{p}{s}{zeros}{mask})")
        if "x" in what.wants:
            self.put(f"dx_row = dx_ptr + {edge} * {self.c.num_rows1 * channels} + channel")
            for i in range(self.c.num_rows1):
                self.put(f"tl.store(dx_row + {i * channels}, dx{i}{s}{mask})")
        sums = {"y": ("dy", self.c.num_rows2), "b": ("db", what.num_basis)}
        for name, size in (sums[letter] for letter in "yb" if letter in what.wants):
            self.put("num_edges = tl.load(receiver_starts + tl.num_programs(0))")
            self.put(f"row = {name}_ptr + (tl.program_id(1) * num_edges + {edge}) * {size}")
            for j in range(size):
                self.put(f"tl.store(row + {j}, tl.sum({name}{j}{s}){number})")

    def _numbers(self, path: PathCoupling, name: str, s: str) -> dict[tuple[int, int], Term]:
        """m_ik of a path as names of numbers with signs; equal ones are computed once."""
        sums: dict[tuple[int, int], list[tuple[int, float]]] = {}
        for i, j, k, value in path.entries:
            sums.setdefault((i, k), []).append((j, value))
        found: dict[tuple[int, int], Term] = {}
        for (i, k), terms in sums.items():
            terms = sorted(terms)
            sign = 1 if terms[0][1] > 0 else -1
            key = (name, s, tuple((j, round(sign * value, 13)) for j, value in terms))
            if len(terms) == 1 and abs(abs(terms[0][1]) - 1.0) < 1e-13:
                found[i, k] = (sign, f"{name}{terms[0][0]}{s}")
                continue
            if key not in self.m_names:
                self.m_names[key] = f"{name}_m{len(self.m_names)}"
                self.add(self.m_names[key], [_literal(sign * value, f"{name}{j}{s}") for j, value in terms], fresh=True)
            found[i, k] = (sign, self.m_names[key])
        return found


def split_paths(paths: Sequence[PathCoupling], groups: int) -> list[list[PathCoupling]]:
    """Consecutive paths in groups of about equal work."""
    costs = [len(path.entries) + len(path.rows_out) for path in paths]
    target, found, reached = sum(costs) / min(groups, len(paths)), [[]], 0.0
    for path, cost in zip(paths, costs, strict=True):
        if found[-1] and reached + cost / 2 > target * len(found) and len(found) < groups:
            found.append([])
        found[-1].append(path)
        reached += cost
    return found


def _commonest(path: PathCoupling) -> float:
    """The size that most coefficients of a path have: the path's weight takes it on, and they become ±1."""
    sizes: dict[float, int] = {}
    for _, _, _, value in path.entries:
        size = next((known for known in sizes if abs(known - abs(value)) < 1e-13), abs(value))
        sizes[size] = sizes.get(size, 0) + 1
    return max(sizes, key=lambda size: (sizes[size], size))


def _literal(value: float, name: str) -> Term:
    sign = 1 if value > 0 else -1
    return sign, name if abs(abs(value) - 1.0) < 1e-13 else f"{abs(value)!r} * {name}"


def _by(path: PathCoupling, axis: int) -> list[tuple[int, int]]:
    """Rows along an axis that have non-zeros, with their numbers of them."""
    rows: dict[int, int] = {}
    for entry in path.entries:
        rows[int(entry[axis])] = rows.get(int(entry[axis]), 0) + 1
    return sorted(rows.items())


def _column(table: dict[tuple[int, int], Term], k: int) -> list[tuple[int, Term]]:
    return [(i, term) for (i, k_), term in sorted(table.items()) if k_ == k]


def _row(table: dict[tuple[int, int], Term], i: int) -> list[tuple[int, Term]]:
    return [(k, term) for (i_, k), term in sorted(table.items()) if i_ == i]


def _suffix(n: int) -> str:
    return "" if n == 0 else f"_e{n}"


def _span(rows: range) -> str:
    return f"{rows.start}" if len(rows) == 1 else f"{rows.start} to {rows.stop - 1}"
