"""A measured value beside its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

from lsd.lab.drift.record import Record


class Finding(NamedTuple):
    """A measured value and the limits that it is held to."""

    metric: str
    value: float
    low: float = -np.inf
    high: float = np.inf
    unit: str = ""
    note: str = ""
    is_open: bool = False  # the upper limit itself is out

    @property
    def passed(self) -> bool:
        """Whether the value lies within; NaN does not."""
        below = self.value < self.high if self.is_open else self.value <= self.high
        return bool(self.low <= self.value and below)

    @property
    def limit(self) -> str:
        """The limits as a reader wants them.

        >>> Finding("lap", 31.0, low=30.0, unit=" dB").limit
        '>= 30 dB'
        """
        if np.isinf(self.high):
            return f">= {self.low:.3g}{self.unit}"
        if np.isinf(self.low):
            return f"{'<' if self.is_open else '<='} {self.high:.3g}{self.unit}"
        return f"{self.low:.3g} to {self.high:.3g}{self.unit}"


Rule: TypeAlias = Callable[[Record], Iterator[Finding]]
