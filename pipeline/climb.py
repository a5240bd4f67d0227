"""Where on the ladder a stream stands: down fast, up slowly."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from lsd.pipeline.ladder import CostModel


@dataclass(frozen=True, slots=True)
class Rules:
    """When to climb; shares are of the budget, seconds are of the stream.

    Attributes:
        down_share: a predicted cost above this, `down_frames` in a row, leads down.
        down_frames: as many.
        down_dwell_s: how long such a move waits for the one before to show.
        up_share: a better rung's predicted cost below this leads up,
        up_dwell_s: when it has held so long.
        up_dwell_most_s: what that wait grows to at the most; it doubles with every
            way up that ended below within `oscillation_s`,
        oscillation_s: and halves with every such time in which none did.
        soon_s: the wait where a surge of the load could do no harm, or a miss is to spare:
            the rung's calibrated cost at the worst load
        surge_s: of so long
        safe_share: was below this share. Above 1, as that load is a p90 and has the noise in it.
        miss_share: the error budget: so many of the frames may miss their deadline,
        miss_first: how many at once at the start,
        miss_most: and how many at the most, when they have been saved up.
    """

    down_share: float = 0.95
    down_frames: int = 3
    down_dwell_s: float = 0.25
    up_share: float = 0.80
    up_dwell_s: float = 1.0
    up_dwell_most_s: float = 8.0
    oscillation_s: float = 5.0
    soon_s: float = 0.2
    surge_s: float = 8.0
    safe_share: float = 1.05
    miss_share: float = 0.0095
    miss_first: float = 1.0
    miss_most: float = 3.0


class Climb:
    """The rung on which frames are made when nothing special is the matter with them.

    Time is counted in frames served, at the stream's rate: a stream that stands still
    shows nothing about what frames cost, and so neither calms nor worries.

    Nothing announces a surge of the load, and what stands high is late when it comes. So
    the way up is ruled by an error budget (Beyer et al., Site Reliability Engineering, 2016,
    ch. 3): as long as frames may still miss, better rungs are tried soon, and as far up as
    they fit at all; when they may not, only what is affordable by a margin, and slowly.

    Args:
        costs: of all rungs; read only.
        lowest: number of the last rung that a stream may stay on.
        rate_hz: frames a second.
        rules: when to move.
    """

    def __init__(
        self, costs: CostModel, lowest: int, rate_hz: float, rules: Rules | None = None
    ) -> None:
        self.level = 0
        self.changes = 0
        self.oscillations = 0  # ways up that ended below within `oscillation_s`
        self._costs = costs
        self._lowest = lowest
        self._rate_hz = rate_hz
        self._rules = rules or Rules()
        self._dwell_s = self._rules.up_dwell_s
        self._over = 0  # frames in a row that a down move counts
        self._calm = [0] * lowest  # and that speak for each better rung: by a margin,
        self._fits = [0] * lowest  # or barely
        self._misses_left = self._rules.miss_first
        self._since_change = self._since_halved = 0
        self._since_up: int | None = None
        self._surges: deque[float] = deque(maxlen=max(1, round(self._rules.surge_s * rate_hz)))

    @property
    def up_dwell_s(self) -> float:
        """How long the way up waits at present, for a rung that the worst load would forbid."""
        return self._dwell_s

    @property
    def may_miss(self) -> bool:
        """Whether the error budget has a frame to spare."""
        return self._misses_left >= 1

    def missed(self) -> None:
        """Note a frame that was late, or that was dropped."""
        self._misses_left = max(-self._rules.miss_most, self._misses_left - 1)

    def served(self, budget_ns: int) -> None:
        """Judge the rung, after the costs have heard of one more frame.

        Args:
            budget_ns: what a frame may take so that it and all behind it are on time.
        """
        self._since_change += 1
        self._since_halved += 1
        if self._since_up is not None:
            self._since_up += 1
        self._relax()
        rules = self._rules
        self._misses_left = min(rules.miss_most, self._misses_left + rules.miss_share)
        self._surges.append(self._costs.change)
        cost_ns = self._costs.predict(self.level)
        self._over = self._over + 1 if cost_ns > rules.down_share * budget_ns else 0
        is_over = self._over >= rules.down_frames and self._has_passed(
            self._since_change, rules.down_dwell_s
        )
        if self.level < self._lowest and (cost_ns > budget_ns or is_over):
            self._down(budget_ns)
        else:
            self._up(budget_ns)

    def stand_on(self, place: int) -> None:
        """Move to rung number `place`, as the user says; no oscillation comes of it."""
        if place != self.level:
            self._move(place)
        self._since_up = None

    def _down(self, budget_ns: int) -> None:
        """Go straight to the best rung that fits: one late frame is enough."""
        limit_ns = self._rules.down_share * budget_ns
        below = range(self.level + 1, self._lowest + 1)
        fitting = (place for place in below if self._costs.predict(place) <= limit_ns)
        if self._since_up is not None and not self._has_passed(
            self._since_up, self._rules.oscillation_s
        ):
            self.oscillations += 1
            self._dwell_s = min(2 * self._dwell_s, self._rules.up_dwell_most_s)
            self._since_halved = 0
        self._since_up = None
        self._move(next(fitting, self._lowest))

    def _up(self, budget_ns: int) -> None:
        """Go to the best rung that has looked affordable for long enough."""
        rules = self._rules
        surge = max(self._surges) if self.level else 1.0
        for place in range(self.level):
            share = self._costs.predict(place) / budget_ns
            self._calm[place] = self._calm[place] + 1 if share <= rules.up_share else 0
            self._fits[place] = self._fits[place] + 1 if share <= rules.down_share else 0
            is_safe = surge * self._costs.calibrated_ns[place] <= rules.safe_share * budget_ns
            dwell_s = rules.soon_s if is_safe or self.may_miss else self._dwell_s
            is_calm = self._calm[place] and self._has_passed(self._calm[place], dwell_s)
            is_tried = self.may_miss and self._fits[place]
            if is_calm or (is_tried and self._has_passed(self._fits[place], self._dwell_s)):
                self._move(place)
                self._since_up = 0
                return

    def _relax(self) -> None:
        if self._has_passed(self._since_halved, self._rules.oscillation_s):
            self._dwell_s = max(self._dwell_s / 2, self._rules.up_dwell_s)
            self._since_halved = 0

    def _move(self, place: int) -> None:
        self.level = place
        self.changes += 1
        self._over = self._since_change = 0
        self._calm = [0] * len(self._calm)
        self._fits = [0] * len(self._fits)

    def _has_passed(self, frames: int, seconds: float) -> bool:
        return frames >= seconds * self._rate_hz
