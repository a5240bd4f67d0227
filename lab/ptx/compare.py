"""How far what a kernel made is from what was expected."""

from __future__ import annotations

import math

import numpy as np

from lsd.lab.ptx.case import Array, Case


def largest_error(case: Case, found: dict[str, Array]) -> tuple[float, float]:
    """Return the error that takes the largest share of its tolerance, and that tolerance.

    A NaN or an infinity must be where the twin has one.
    """
    worst = 0.0, 0.0
    for name, expected in case.expected.items():
        ours, theirs = (a.astype(np.float64) for a in (found[name], expected))
        is_same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        with np.errstate(invalid="ignore"):  # inf - inf, where both have it
            apart = np.where(is_same, 0.0, np.abs(ours - theirs))
        error = float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0.0))
        worst = max(worst, (error, case.tolerance.get(name, 0.0)), key=lambda each: share(*each))
    return worst


def share(error: float, tolerance: float) -> float:
    """Return an error as a share of what is allowed; infinite where nothing is."""
    if error == 0.0:
        return 0.0
    return error / tolerance if tolerance else math.inf
