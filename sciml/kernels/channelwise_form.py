"""What the kernels of a channelwise convolution compute for one path of one edge, as lines of source.

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

from collections.abc import Sequence
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
        hold: whether g stays in registers, or is read again for each edge; in node kernels.
        stages: of Triton's software pipeline over edges; 1 for none.
        prefetch: whether dense weights of the next edge are read before those of this one are used; with unroll 1.
        edges: of a program of an edge kernel.
        direct: whether channels go through `registers`, for one channel a thread, which compiles faster.
    """

    block: int
    warps: int
    groups: int = 1
    unroll: int = 1
    hold: bool = False
    stages: int = 1
    prefetch: bool = False
    edges: int = 8
    direct: bool = False


class PathAlgebra:
    """Lines of source for the formulas above; the kernels around them are in `channelwise_source`.

    A path's weight takes on the commonest size of its coefficients, which leaves many of them ±1.
    """

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
        """Append a line."""
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
        if channels and self.tuning.direct and not valid:
            return f"read({pointer}, here, DIRECT).to(SUM)"
        conditions = [valid] if valid else ["inside"] if channels and self.masked else []
        mask = f", mask={' & '.join(conditions)}, other=0.0" if conditions else ""
        return f"tl.load({pointer}{mask}).to(SUM)"

    def store(self, pointer: str, value: str, valid: str = "") -> None:
        """Append a store of all channels of the block."""
        if self.tuning.direct and not valid:
            self.put(f"write({pointer}, {value}, here, DIRECT)")
            return
        mask = f", mask={valid}" if valid else ", mask=inside" if self.masked else ""
        self.put(f"tl.store({pointer}, {value}{mask})")

    # --- a path of an edge --------------------------------------------------------------------------------------------

    def path(self, path: PathCoupling, p: int, n: int) -> None:
        """Append all that is wanted of path number p for edge number n of those at a time."""
        what, s = self.what, suffix(n)
        wants, tangents = set(what.wants), set(what.tangents)
        has_w, has_tw = what.weights != "ones", bool(tangents & {"w", "b", "m"})
        of_matrix = bool(wants & {"b", "m"})
        m = self._numbers(path, "y", s)
        tm = self._numbers(path, "ty", s) if "y" in tangents else None
        rows1 = sorted({i for i, _, _, _ in path.entries})
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


def suffix(n: int) -> str:
    """Of the names that belong to edge number n of those at a time."""
    return "" if n == 0 else f"_e{n}"


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


def _column(table: dict[tuple[int, int], Term], k: int) -> list[tuple[int, Term]]:
    return [(i, term) for (i, k_), term in sorted(table.items()) if k_ == k]


def _row(table: dict[tuple[int, int], Term], i: int) -> list[tuple[int, Term]]:
    return [(k, term) for (i_, k), term in sorted(table.items()) if i_ == i]
