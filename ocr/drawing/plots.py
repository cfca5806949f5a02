"""Tables of a pass or of a tuning as pictures: PNG files, which W&B gets as they are."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocr.drawing.polygons import FALSE, FOUND, MISSED, hex_code
from ocr.utils.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = Sequence[Mapping[str, Any]]
P, R, H = map(hex_code, (FOUND, MISSED, FALSE))  # precision, recall, hmean


def figure_of(columns: int, rows: int = 1, width: float | None = None) -> tuple[Figure, Any]:
    """A figure and its axes, (rows, columns); ``width`` in inches."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(width or 4.6 * columns, 3.6 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG."""
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names in scripts that the font lacks
        figure.savefig(picture, dpi=110, format="png")
    return write_atomic(path, picture.getbuffer())


def plot_breakdown(tables: Mapping[str, Sequence[Mapping[str, float]]], path: Path, title: str) -> Path:
    """Precision-recall curve, scores by text height and by aspect ratio: tables of :class:`Breakdown`."""
    figure, axes = figure_of(3)
    figure.suptitle(title)
    _curve(axes[0, 0], tables["curve"])
    _bars(axes[0, 1], tables["height"], "text height, pixels of the image")
    _bars(axes[0, 2], tables["aspect"], "width / height")
    return save(figure, path)


def _curve(axis: Axes, rows: Sequence[Mapping[str, float]]) -> None:
    axis.plot([r["recall"] for r in rows], [r["precision"] for r in rows], color=P, marker=".", markersize=3)
    if rows:
        best = max(rows, key=lambda r: r["hmean"])
        axis.plot(
            best["recall"],
            best["precision"],
            "o",
            color=H,
            label=f"hmean {best['hmean']:.4f} at score {best['threshold']:g}",
        )
        axis.legend(loc="lower left", fontsize=8)
    axis.set(xlabel="recall", ylabel="precision", title="over score thresholds (IoU 0.5)")
    axis.grid(alpha=0.3)


def _bars(axis: Axes, rows: Sequence[Mapping[str, float]], label: str) -> None:
    for k, (name, colour) in enumerate((("precision", P), ("recall", R), ("hmean", H))):
        axis.bar(
            [x + 0.27 * (k - 1) for x in range(len(rows))], [r[name] for r in rows], 0.25, color=colour, label=name
        )
    axis.set_xticks(range(len(rows)), [f"{r['from']:g}+\n{int(r['texts'])}" for r in rows], fontsize=8)
    low = min([r[n] for r in rows if r["texts"] for n in ("precision", "recall")], default=0)
    axis.set(xlabel=f"{label} (texts below)", ylim=(max(0, low - 0.1), 1), title=label)
    axis.legend(fontsize=8, loc="lower right")
    axis.grid(axis="y", alpha=0.3)


def plot_learning_curve(
    points: Sequence[tuple[int, float, bool]], curve: Callable[[int], Any], whole: int, path: Path, title: str
) -> Path:
    """Plot scores over the number of training images, with the fitted curve and its band up to twice the set.

    Args:
        points: of trainings: number of images, score, whether the curve was fitted to it.
        curve: gives ``value``, ``low`` and ``high`` of the score for a number of images.
        whole: number of images of the set.
    """
    figure, axes = figure_of(1)
    axis = axes[0, 0]
    smallest = min(images for images, _, _ in points)
    xs = [round(smallest * (2 * whole / smallest) ** (k / 60)) for k in range(61)]
    estimates = [curve(x) for x in xs]
    axis.plot(xs, [e.value for e in estimates], color=P)
    axis.fill_between(xs, [e.low for e in estimates], [e.high for e in estimates], color=P, alpha=0.15, lw=0)
    for fitted, colour, label in ((True, P, "trainings"), (False, H, "training that was not fitted")):
        of = [(images, score) for images, score, used in points if used == fitted]
        if of:
            axis.plot(*zip(*of), "o", color=colour, label=label)
    axis.axvline(whole, color="0.6", lw=1, ls=":")
    axis.set(xlabel=f"training images (dotted: all {whole})", xscale="log", title=title)
    ticks = sorted({images for images, _, _ in points} | {whole, 2 * whole})
    axis.set_xticks(ticks, [str(t) for t in ticks], fontsize=8)
    axis.set_xticks([], minor=True)
    axis.legend(fontsize=8, loc="lower right")
    axis.grid(alpha=0.3)
    return save(figure, path)


def plot_surface(table: Table, path: Path, title: str) -> Path:
    """Highest objective over the thresholds, over the kinds of unclipping, and over input sizes.

    The table has combinations of parameters, each with its ``objective``.
    """
    figure, axes = figure_of(3)
    figure.suptitle(title)
    _heat(axes[0, 0], table)
    for kind, colour, marker in (("ratio", P, "o"), ("exact", R, "s")):
        rows = [r for r in table if r["unclip"] == kind]
        if points := _best(rows, "unclip_ratio"):
            xs = [amount for (amount,) in points]
            axes[0, 1].plot(xs, list(points.values()), marker + "-", color=colour, label=f"unclip={kind}")
    axes[0, 1].set(xlabel="unclip_ratio", title="highest objective over all else")
    axes[0, 1].legend(fontsize=8)
    sides = _best(table, "long_side")
    axes[0, 2].plot([side for (side,) in sides], list(sides.values()), "o-", color=P)
    axes[0, 2].set(xlabel="long_side", title="highest objective over all else")
    for axis in axes[0, 1:]:
        axis.grid(alpha=0.3)
    return save(figure, path)


def _heat(axis: Axes, table: Table) -> None:
    cells = _best(table, "thresh", "box_thresh")
    xs, ys = sorted({x for x, _ in cells}), sorted({y for _, y in cells})
    grid = [[cells[x, y] for x in xs] for y in ys]
    top = max(map(max, grid))
    bottom = max(min(map(min, grid)), top - 0.1)
    axis.imshow(grid, origin="lower", aspect="auto", cmap="cividis", vmin=bottom, vmax=top)
    axis.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
    axis.set_yticks(range(len(ys)), [f"{y:g}" for y in ys])
    for row, y in enumerate(ys):
        for column, x in enumerate(xs):
            dark = cells[x, y] < (top + bottom) / 2
            axis.text(
                column, row, f"{cells[x, y]:.3f}"[1:], ha="center", va="center", fontsize=7, color="w" if dark else "k"
            )
    axis.set(xlabel="thresh", ylabel="box_thresh", title="highest objective over all else")


def _best(table: Table, *parameters: str) -> dict[tuple[Any, ...], float]:
    """The highest objective by the values of some parameters, in their order."""
    best: dict[tuple[Any, ...], float] = {}
    for row in table:
        key = tuple(row[name] for name in parameters)
        best[key] = max(best.get(key, 0.0), row["objective"])
    return dict(sorted(best.items()))
