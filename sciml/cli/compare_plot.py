"""The plot of `sciml compare`: error against cost, and the front as a step line."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from sciml.cli.figures import new_figure

# Where a label may stand beside its point: offset in points, horizontal and vertical alignment; the first that is free.
_PLACES = (
    ((7, 5), "left", "bottom"),
    ((-7, -5), "right", "top"),
    ((7, -5), "left", "top"),
    ((-7, 5), "right", "bottom"),
    ((0, 9), "center", "bottom"),
    ((0, -9), "center", "top"),
    ((7, 18), "left", "bottom"),
    ((-7, -18), "right", "top"),
)


class Point(NamedTuple):
    """A run: its label, ms per evaluation, RMSE of the forces in meV/Å, and whether it is on the front."""

    label: str
    cost: float
    error: float
    on_front: bool


def plot_front(points: Sequence[Point], *, errors_on: str, where: str) -> Figure:
    """Log-log plot of the points, labelled, with the front; `errors_on` and `where` say what was measured on."""
    figure = new_figure(7, 4.8)
    axes = figure.subplots()
    axes.set(
        xscale="log", yscale="log", xlim=_limits([p.cost for p in points]), ylim=_limits([p.error for p in points])
    )
    front = sorted(point[1:3] for point in points if point.on_front)
    x, y = [*(cost for cost, _ in front), axes.get_xlim()[1]], [*(error for _, error in front), front[-1][1]]
    axes.step([x[0], *x], [axes.get_ylim()[1], *y], where="post", color="C0", linewidth=1.2, zorder=1, label="front")
    for best, face, edge in ((True, "C0", "C0"), (False, "white", "0.45")):
        chosen = [point for point in points if point.on_front is best]
        axes.scatter(
            [p.cost for p in chosen], [p.error for p in chosen], s=42, zorder=3, facecolors=face, edgecolors=edge
        )
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(alpha=0.3)
    axes.set_xlabel("ms per evaluation of energy and forces")
    axes.set_ylabel(f"RMSE of forces ({errors_on}), meV/Å")
    axes.set_title(where, fontsize=10)
    figure.draw_without_rendering()  # fixes the layout, so that labels know what they would cover
    _label(axes, points)
    return figure


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The values' range with a margin for labels, at least a factor of four wide in all."""
    low, high = min(values), max(values)
    margin = max((high / low) ** 0.2, 2 * (low / high) ** 0.5, 1.3)
    return low / margin, high * margin


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Write each label at the first place where it covers no point and no other label and stays inside."""
    inside = axes.get_window_extent()
    markers = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in
               (axes.transData.transform((p.cost, p.error)) for p in points)]  # fmt: skip
    taken = list(markers)
    for point in sorted(points, key=lambda point: not point.on_front):
        candidates: list[tuple[int, int, Annotation]] = []
        for offset, horizontal, vertical in _PLACES:
            text = axes.annotate(
                point.label, (point.cost, point.error), xytext=offset, textcoords="offset points", ha=horizontal,
                va=vertical, fontsize=8, color="C0" if point.on_front else "0.35", zorder=4,
            )  # fmt: skip
            extent = text.get_window_extent()
            outside = not (inside.x0 <= extent.x0 and extent.x1 <= inside.x1 and inside.y0 <= extent.y0
                           and extent.y1 <= inside.y1)  # fmt: skip
            candidates.append((sum(extent.overlaps(other) for other in taken) + 2 * outside, len(candidates), text))
            if candidates[-1][0] == 0:
                break
        _, _, kept = min(candidates, key=lambda candidate: candidate[:2])
        for _, _, text in candidates:
            if text is not kept:
                text.remove()
        taken.append(kept.get_window_extent())
