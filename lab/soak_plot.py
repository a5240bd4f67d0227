"""Draws a soak as SVG: memory, latency and the pictures a second over time."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from lsd.lab.soak_samples import Recording

_WIDE, _HIGH, _LEFT, _TOP, _GAP = 720, 110, 150, 26, 34
_COLOURS = ("#1f6fb2", "#c22", "#2a7d3f", "#8a5fb0", "#b8860b")
_STYLE = (
    "text{font:11px sans-serif;fill:#333}.back{fill:#f6f6f6}.act{stroke:#c22;stroke-dasharray:2 3}"
    "polyline{fill:none;stroke-width:1.2}"
)

Line = tuple[str, Sequence[tuple[float, float]]]  # what it is, and points of minutes and values


def drawn(recording: Recording) -> str:
    """Return an SVG document; a dashed line is something that was done to the run."""
    panels = _panels(recording)
    end_min = max((sample["t_s"] for sample in recording.samples), default=60.0) / 60
    height = _TOP + len(panels) * (_HIGH + _GAP) + 20

    def x(minutes: float) -> float:
        return _LEFT + minutes / end_min * _WIDE

    parts = []
    for number, (title, lines) in enumerate(panels):
        top = _TOP + number * (_HIGH + _GAP)
        parts.append(f'<rect class="back" x="{_LEFT}" y="{top}" width="{_WIDE}" height="{_HIGH}"/>')
        parts.append(f'<text x="4" y="{top + 12}">{escape(title)}</text>')
        for act in recording.acts:
            parts.append(f'<path class="act" d="M{x(act["t_s"] / 60):.1f} {top}v{_HIGH}"/>')
        most = max((value for _, points in lines for _, value in points), default=1.0) * 1.05 or 1
        parts.append(f'<text x="{_LEFT + _WIDE + 4}" y="{top + 10}">{most:.3g}</text>')
        parts.append(f'<text x="{_LEFT + _WIDE + 4}" y="{top + _HIGH}">0</text>')
        for place, (name, points) in enumerate(lines):
            colour = _COLOURS[place % len(_COLOURS)]
            y = top + 28 + 14 * place
            parts.append(f'<text x="14" y="{y}" style="fill:{colour}">{escape(name)}</text>')
            path = " ".join(f"{x(t):.1f},{top + _HIGH * (1 - v / most):.1f}" for t, v in points)
            parts.append(f'<polyline style="stroke:{colour}" points="{path}"/>')
    step = max(1, round(end_min / 12))
    for minute in range(0, int(end_min) + 1, step):
        parts.append(f'<text x="{x(minute):.1f}" y="{height - 12}">{minute} min</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDE + 50} {height}">',
            f"<style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _panels(recording: Recording) -> list[tuple[str, list[Line]]]:
    samples = recording.samples
    names = samples[0]["processes"] if samples else ()
    memory: list[Line] = [
        (
            name,
            [
                (s["t_s"] / 60, s["processes"][name]["own_mb"])
                for s in samples
                if "own_mb" in s["processes"].get(name, {})
            ],
        )
        for name in names
    ]
    latency: list[Line] = [
        (name, [(s["t_s"] / 60, s[key]) for s in samples if s[key] is not None])
        for name, key in (("p99", "p99_ms"), ("p50", "p50_ms"))
    ]
    return [
        ("memory of its own, MB", memory),
        ("latency, ms", latency),
        ("a second", [("pictures out", _rate(recording, "pictures"))]),
        (
            "load average, 1 min",
            [("of the machine", [(s["t_s"] / 60, s["load"]) for s in samples])],
        ),
    ]


def _rate(recording: Recording, key: str) -> list[tuple[float, float]]:
    return [
        (after["t_s"] / 60, max(0.0, (after[key] - before[key]) / (after["t_s"] - before["t_s"])))
        for before, after in pairwise(recording.samples)
    ]
