"""Draws one run beside a load as SVG: latency over time, and the rungs below it."""

from __future__ import annotations

from html import escape

from lsd.lab.budget_runs import Observed

_WIDE, _HIGH, _LEFT, _TOP, _GAP = 720, 150, 150, 26, 24
_ROW = 18  # of a rung
_STYLE = (
    "text{font:11px sans-serif;fill:#333}.back{fill:#f6f6f6}.load{fill:#f2dcc0}"
    ".budget{stroke:#c22;stroke-dasharray:4 3}.frame{fill:#1f6fb2}.lost{fill:#c22}"
)


def drawn(run: Observed, budget_ms: float) -> str:
    """Return an SVG document.

    Args:
        run: with a load.
        budget_ms: a line in the upper part; twice as much is its height. Frames that were
            dropped, or took longer than is drawn, are red and lie at the top.
    """
    end_s = max((at_s for at_s, _, _ in run.frames), default=1.0) or 1.0
    rows = len(run.rungs)
    below = _TOP + _HIGH + _GAP
    height = below + rows * _ROW + 30

    def x(at_s: float) -> float:
        return _LEFT + max(0.0, at_s) / end_s * _WIDE

    parts = [
        f'<rect class="back" x="{_LEFT}" y="{_TOP}" width="{_WIDE}" height="{_HIGH}"/>',
        f'<rect class="back" x="{_LEFT}" y="{below}" width="{_WIDE}" height="{rows * _ROW}"/>',
    ]
    if run.load_s is not None:
        left, right = map(x, run.load_s)
        span = f'x="{left:.1f}" width="{right - left:.1f}"'
        parts.append(f'<rect class="load" {span} y="{_TOP}" height="{_HIGH}"/>')
        parts.append(f'<rect class="load" {span} y="{below}" height="{rows * _ROW}"/>')
        parts.append(f'<text x="{left:.1f}" y="16">another process takes a core</text>')
    line = _TOP + _HIGH / 2
    parts.append(f'<path class="budget" d="M{_LEFT} {line}h{_WIDE}"/>')
    parts.append(f'<text x="4" y="{line + 4}">budget {budget_ms:g} ms</text>')
    parts.append(f'<text x="4" y="{_TOP + 12}">latency of each frame</text>')
    for number, rung in enumerate(run.rungs):
        parts.append(f'<text x="4" y="{below + number * _ROW + 13}">{escape(rung)}</text>')
    for at_s, latency_ms, place in run.frames:
        shown = 2 * budget_ms if latency_ms is None else min(latency_ms, 2 * budget_ms)
        kind = "lost" if latency_ms is None or latency_ms > 2 * budget_ms else "frame"
        y = _TOP + _HIGH * (1 - shown / (2 * budget_ms))
        parts.append(f'<circle class="{kind}" cx="{x(at_s):.1f}" cy="{y:.1f}" r="1.2"/>')
        if place is not None:
            top = below + place * _ROW + 4
            parts.append(f'<rect class="frame" x="{x(at_s):.1f}" y="{top}" width="1" height="10"/>')
    for second in range(0, int(end_s) + 1, 5):
        parts.append(f'<text x="{x(second):.1f}" y="{height - 12}">{second} s</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDE + 20} {height}">',
            f"<style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )
