"""The common style of all figures, and their two formats, PNG and SVG.

Figures are drawn without pyplot, so that there is no global state and no backend.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Literal

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from assl_lightning.base.atomic import open_atomic
from assl_lightning.report.views import Picture

# Okabe and Ito 2008: distinguishable without red-green vision. Their yellow is left out: it is too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_YELLOW, _GREY = "#F0E442", "#999999"
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "X", "P")
INK = "#444444"
FAINT = "#BBBBBB"
LABEL_SIZE = 9.0  # points


@dataclass(frozen=True)
class Style:
    """The look of a method's line, which can be recognised without colour too."""

    colour: str
    line: str
    marker: str


def style_of(number: int) -> Style:
    """Return the style of the method with this number in its setting; 28 styles differ in line or marker."""
    return Style(COLOURS[number % len(COLOURS)], LINES[number % len(LINES)], MARKERS[number % len(MARKERS)])


def colours_of(count: int) -> list[str]:
    """Return a colour for each of `count` areas side by side; more than 8 come in pairs of a dark and a light one."""
    if count <= 8:
        return [*COLOURS[:6], _YELLOW, _GREY][:count]
    pairs = [to_hex(colour) for colour in colormaps["tab20"].colors]  # type: ignore[attr-defined]
    return [pairs[number % len(pairs)] for number in range(count)]


def ink_on(colour: str) -> str:
    """Return black or white, whichever is easier to read on `colour`."""
    red, green, blue = to_rgb(colour)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def plain(text: str) -> str:
    """Escape dollar signs, between which Matplotlib would read a formula."""
    return text.replace("$", r"\$")


def wrapped(names: Iterable[str], width: int = 26) -> list[str]:
    """Wrap the names beside the rows of a figure."""
    return [plain(fill(name, width)) for name in names]


def rows_height(names: Iterable[str], row: float) -> float:
    """Return the height in inches of rows with these names: `row` for each, or what the longest name needs."""
    lines = [name.count("\n") + 1 for name in wrapped(names)]
    return len(lines) * max(row, 0.17 * max(lines))


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; sizes are in inches."""
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def quieten(
    axes: Axes,
    *,
    frame: Collection[str] = ("left", "bottom"),
    grid: Literal["both", "x"] | None = "both",
    label_size: float = LABEL_SIZE,
) -> None:
    """Keep only the named sides of the frame and the named grid lines, drawn behind the data.

    `label_size` is the size of the tick labels, in points.
    """
    for side, spine in axes.spines.items():
        spine.set_visible(side in frame)
        spine.set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=label_size, length=0)
    if grid is not None:
        axes.grid(axis=grid, color="#E6E6E6", linewidth=0.8)
        axes.set_axisbelow(True)


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format of the path's suffix, and make its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix(".") or "png")


def png(figure: Figure) -> bytes:
    """Return the content of a PNG file of the figure."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def svg(figure: Figure) -> Picture:
    """Return the figure as SVG, which is sharp at any size; the same figure gives the same bytes."""
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "assl_lightning"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return Picture(file.getvalue(), "image/svg+xml")
