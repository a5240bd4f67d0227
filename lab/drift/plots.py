"""Draws curves as SVG that lies inside a page: small, in the page's own colours and font.

matplotlib lays them out. It knows colours as numbers only: here stand-ins are
drawn with, and afterwards replaced by the page's variables, so that a plot
follows the page into dark mode and onto paper.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

MOST_POINTS = 400  # of a curve
COLOURS = 9  # that the page has for curves: --c0 to --c8

_INK, _RULE, _LIMIT = "#0101e0", "#0101e1", "#0101e2"
_VARIABLES = {_INK: "--soft", _RULE: "--rule", _LIMIT: "--limit"}
_VARIABLES |= {f"#0101f{n}": f"--c{n}" for n in range(COLOURS)}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, and found by a search
    "svg.hashsalt": "drift",  # the same curves give the same bytes
    "font.size": 7.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": _RULE,
    "axes.titlesize": 8,
    "axes.titlecolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,  # the grid shows where they are
    "ytick.major.size": 0,
    "lines.linewidth": 1.1,
    "path.simplify": True,
}
_PANEL_INCHES = 2.3, 1.65


@dataclass(frozen=True, slots=True)
class Curve:
    """One line.

    Attributes:
        x: float64 [N], rising.
        y: float64 [N]; where it is not finite there is no point.
        colour: 0 to COLOURS - 1.
    """

    x: Array
    y: Array
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Panel:
    """One set of axes.

    Attributes:
        title: above it.
        curves: in the order in which they are drawn.
        limits: values at which a gate's line is drawn.
        marks: places on the x axis that are marked.
        is_log: whether y is logarithmic.
        span: what y shows at the least.
    """

    title: str
    curves: Sequence[Curve]
    limits: tuple[float, ...] = ()
    marks: tuple[float, ...] = ()
    is_log: bool = False
    span: tuple[float, float] | None = None


def draw(panels: Sequence[Panel], columns: int, points: int = MOST_POINTS) -> str:
    """Draw panels in rows; "" where there is none.

    Args:
        panels: what to draw.
        columns: panels in a row; their width is a row's divided by this.
        points: of a curve, at the most MOST_POINTS.

    Returns:
        an `<svg>` element that asks for nothing from elsewhere.
    """
    if not panels:
        return ""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    wide, high = _PANEL_INCHES
    with rc_context(_STYLE):
        sheet = Figure(figsize=(wide * columns, high * rows), layout="constrained")
        for number, panel in enumerate(panels, start=1):
            _fill(sheet.add_subplot(rows, columns, number), panel, min(points, MOST_POINTS))
        text = io.StringIO()
        sheet.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _inlined(text.getvalue())


def thinned(curve: Curve, points: int) -> tuple[Array, Array]:
    """Return what is finite of a curve, at most `points`: medians of as many neighbours each."""
    known = np.isfinite(curve.y)
    x, y = curve.x[known], curve.y[known]
    if len(x) <= points:
        return x, y
    parts = np.array_split(np.arange(len(x)), points)
    return (
        np.array([np.mean(x[part]) for part in parts]),
        np.array([np.median(y[part]) for part in parts]),
    )


def _fill(axes: Any, panel: Panel, points: int) -> None:
    axes.set_title(panel.title, loc="left")
    axes.grid(axis="y", color=_RULE, linewidth=0.4)
    axes.set_axisbelow(True)
    if panel.is_log:
        axes.set_yscale("log")
    for curve in panel.curves:
        x, y = thinned(curve, points)
        colour = f"#0101f{curve.colour % COLOURS}"
        alone = "." if len(x) == 1 else None
        axes.plot(x, np.maximum(y, 1e-6) if panel.is_log else y, color=colour, marker=alone)
    for limit in panel.limits:
        axes.axhline(limit, color=_LIMIT, linewidth=0.9, linestyle=(0, (4, 2)))
    for mark in panel.marks:
        axes.axvline(mark, color=_LIMIT, linewidth=0.7, linestyle=(0, (1, 2)))
    if panel.span is not None:
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, panel.span[0]), max(high, panel.span[1]))
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if panel.is_log:
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.locator_params(axis="y", nbins=4)


def _inlined(svg: str) -> str:
    """Make a document an element of a page, without what the page has no use for."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:xmlns(?::\w+)?|version)="[^"]*"', "", svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    # names such as line2d_7 come again in every plot; those of shapes are made of their content
    svg = re.sub(r' id="[a-zA-Z.]+(?:2d)?_\d+"', "", svg)
    svg = svg.replace("xlink:href", "href").replace("<svg", '<svg role="img"', 1)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", svg)
    svg = re.sub(r" font-family: [^;\"]+;", "", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]+"', "", svg)
    svg = re.sub(r'(?<= [xy]=")[\d.]+(?=")', lambda n: f"{float(n[0]):.1f}", svg)
    svg = re.sub(r' d="([^"]+)"', lambda path: f' d="{_short(path[1])}"', svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"<g>\s*(<(?:use|text|path)[^<]*(?:/>|</text>))\s*</g>", r"\1", svg)
    return _classed(re.sub(r"\s*\n\s*", "\n", svg))


def _short(path: str) -> str:
    """Write a path of lines by its steps, in tenths of a point: nobody sees less.

    >>> _short("M 18.52 98.31 L 19.9 97.9 L 20.88 99")
    'm18.5 98.3 1.4-.4 1 1.1'
    """
    parts, last, start = [], (0, 0), (0, 0)
    for command, x, y in re.findall(r"([MLz])(?:\s+(-?[\d.]+)\s+(-?[\d.]+))?", path):
        if command == "z":
            parts.append("z")
            last = start
            continue
        now = round(10 * float(x)), round(10 * float(y))
        start = now if command == "M" else start
        # lines follow a move without a letter
        parts.append("m" if command == "M" else " ")
        parts.append(f"{_tenths(now[0] - last[0])} {_tenths(now[1] - last[1])}")
        last = now
    return "".join(parts).replace(" -", "-")


def _tenths(count: int) -> str:
    text = f"{count / 10:g}"
    return text.replace("0.", ".", 1) if abs(count) < 10 else text


def _classed(svg: str) -> str:
    """Name the styles, which come again and again, by what they say."""
    names = {
        style: f"p{hashlib.sha256(style.encode()).hexdigest()[:5]}"
        for style in dict.fromkeys(re.findall(r' style="([^"]*)"', svg))
    }
    for style, name in names.items():
        svg = svg.replace(f' style="{style}"', f' class="{name}"')
    rules = "".join(f".{name}{{{style}}}" for style, name in names.items())
    return svg.replace(">", f"><style>{rules}</style>", 1)
