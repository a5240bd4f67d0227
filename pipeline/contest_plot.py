"""Draws a contest as SVG: the load over time, and below it what each policy made of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from lsd.pipeline.contest import Outcome
from lsd.pipeline.scene import Scene
from lsd.pipeline.simulation import Passage

_WIDE, _HIGH, _LEFT, _TOP, _GAP = 640, 48, 134, 26, 16
_MOST_POINTS = 400  # of a curve
_STYLE = (
    "text{font:11px sans-serif;fill:#333}.frame{fill:#f6f6f6}"
    "polyline{fill:none;stroke:#1f6fb2;stroke-width:1.2}.load{stroke:#777}"
    ".missed{stroke:#c22;stroke-width:1}"
)


def drawn(scene: Scene, outcomes: Sequence[Outcome]) -> str:
    """Return an SVG document.

    Args:
        scene: what happened.
        outcomes: a row each. The curve is the quality on time, from 0 to 1, a mean over
            what lies closer together than can be drawn; a red line marks late and dropped
            frames.
    """
    seconds = scene.frames / scene.rate_hz
    times = [n * seconds / _MOST_POINTS for n in range(_MOST_POINTS)]
    factors = [scene.load.at(round(time * 1e9)).factor for time in times]
    top = max(2.0, *factors)
    rows = [_row(0, f"load, 0 to {top:g}", _curve([each / top for each in factors], "load"))]
    for number, outcome in enumerate(outcomes, start=1):
        label = f"{outcome.policy} {outcome.hit_rate:.1%}"
        rows.append(_row(number, label, _quality(outcome.passages), _missed(outcome.passages)))
    title = f"{scene.load.name}: {scene.rungs[0]}, {scene.rate_hz:g} Hz, {seconds:g} s"
    height = _TOP + len(rows) * (_HIGH + _GAP)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDE + 10} {height}">',
            f"<style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            f'<text x="{_LEFT}" y="16">{escape(title)}</text>',
            *rows,
            "</svg>\n",
        ]
    )


def _row(number: int, label: str, *inside: str) -> str:
    top = _TOP + number * (_HIGH + _GAP)
    return (
        f'<g transform="translate({_LEFT} {top})"><text x="-{_LEFT - 4}" y="28">{escape(label)}'
        f'</text><rect class="frame" width="{_WIDE}" height="{_HIGH}"/>{"".join(inside)}</g>'
    )


def _curve(shares: Sequence[float], kind: str) -> str:
    """Draw values from 0 to 1, evenly spread over the width."""
    step = _WIDE / max(1, len(shares))
    points = " ".join(
        f"{(n + 0.5) * step:.1f},{_HIGH * (1 - share):.1f}" for n, share in enumerate(shares)
    )
    return f'<polyline class="{kind}" points="{points}"/>'


def _quality(passages: Sequence[Passage]) -> str:
    values = [each.quality if each.is_on_time else 0.0 for each in passages]
    count = max(1, min(len(values), _MOST_POINTS))
    edges = [n * len(values) // count for n in range(count + 1)]
    means = [
        sum(values[a:b]) / (b - a) for a, b in pairwise(edges) if b > a
    ]  # fmt: skip
    return _curve(means, "quality")


def _missed(passages: Sequence[Passage]) -> str:
    """Mark what was late or dropped; what falls on the same tenth of a point is drawn once."""
    step = _WIDE / max(1, len(passages))
    places: Iterable[str] = dict.fromkeys(
        f"{(each.seq + 0.5) * step:.1f}" for each in passages if not each.is_on_time
    )
    path = "".join(f"M{x} {_HIGH - 6}v6" for x in places)
    return f'<path class="missed" d="{path}"/>' if path else ""
