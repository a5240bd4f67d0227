"""How the lab says numbers, and the verdict."""

from __future__ import annotations

import math

from lsd.lab.drift.gates import Verdict

_MINUTE_S, _HOUR_S = 60, 3600


def figure(value: float) -> str:
    """Write a measured value with three digits that count.

    >>> figure(31.4159), figure(0.00123), figure(12345.6), figure(float("nan"))
    ('31.4', '0.00123', '12,346', '–')
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−", 1) if value < 0 else text


def duration(seconds: float) -> str:
    """Write a time as a person would.

    >>> duration(12.3), duration(200), duration(5000)
    ('12 s', '3 min', '1 h 23 min')
    """
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    hours, rest = divmod(round(seconds / _MINUTE_S), 60)
    return f"{hours} h {rest:02d} min"


def plural(count: int, noun: str) -> str:
    """Count things.

    >>> plural(1, "gate"), plural(1200, "frame")
    ('1 gate', '1,200 frames')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def sentence(verdict: Verdict) -> str:
    """Say in plain words what was found."""
    failed = sum(not gate.passed for gate in verdict.gates)
    sound = [control.name for control in verdict.controls if control.passed]
    parts = []
    if not verdict.gates:
        parts.append("nothing could be judged")
    elif failed:
        parts.append(f"{failed:,} of {plural(len(verdict.gates), 'gate')} not met")
    else:
        total = len(verdict.gates)
        parts.append(f"{'all ' if total > 1 else ''}{plural(total, 'gate')} met")
    if sound:
        parts.append(f"{' and '.join(sound)} met every gate too, so that the gates prove nothing")
    elif verdict.controls:
        names = " and ".join(control.name for control in verdict.controls)
        parts.append(f"caught, as must be: {names}")
    elif any(figures.run.kind == "stream" for figures in verdict.figures):
        parts.append("no control took part")
    return f"{'pass' if verdict.passed else 'FAIL'}: {'; '.join(parts)}"
