"""Whether a run is well; what `/healthz` and `/readyz` say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lsd.pipeline.ledger import Counts

State = Literal["starting", "running", "stopping", "stalled", "failed", "ended"]
STATES: tuple[State, ...] = ("starting", "running", "stopping", "stalled", "failed", "ended")

# A frame of 1024x1024 in many steps takes seconds on a slow processor; a hung driver, for ever.
STALL_S = 10.0


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a run.

    Attributes:
        state: "stalled": frames are on their way, and for `STALL_S` none has come out. A run
            whose source has nothing to give is running.
        reason: one line for whoever is called out of bed.
        is_ready: frames have come out, and who shows them is there.
        troubles: how many stages are without their source or an output.
    """

    state: State
    reason: str
    is_ready: bool
    troubles: int = 0

    @property
    def is_alive(self) -> bool:
        """Whether the run does what it is there for; False: start it anew."""
        return self.state in ("starting", "running", "stopping")


def judge(
    counts: Counts,
    now_ns: int,
    *,
    error: BaseException | None,
    has_started: bool,
    is_stopping: bool,
    has_ended: bool,
    troubles: Sequence[str] = (),
) -> Health:
    """Judge a run.

    Args:
        counts: what became of its frames so far.
        now_ns: on the clock that the counts are of.
        error: what ends or has ended it.
        has_started: its stages are open, its loops run.
        is_stopping: nothing more is captured.
        has_ended: its loops have ended and its stages are closed.
        troubles: what its stages are without now, a line each.
    """
    state, reason = _state(counts, now_ns, error, has_started, is_stopping, has_ended)
    if state == "running":
        reason = "; ".join(troubles) or reason
    return Health(state, reason, is_ready=counts.emitted > 0, troubles=len(troubles))


def _state(
    counts: Counts,
    now_ns: int,
    error: BaseException | None,
    has_started: bool,
    is_stopping: bool,
    has_ended: bool,
) -> tuple[State, str]:
    if error is not None:
        return "failed", f"the run fails: {error}"
    if has_ended:
        return "ended", "the run has ended"
    if not has_started:
        return "starting", "the stages are being opened"
    silent_s = _silent_s(counts, now_ns)
    if silent_s > STALL_S:
        return "stalled", (
            f"nothing has come out for {silent_s:.0f} s (frames in flight: {counts.in_flight}); "
            "a stage or an output does not return"
        )
    if is_stopping:
        return "stopping", f"no more is captured, frames in flight: {counts.in_flight}"
    if counts.in_flight:
        return "running", f"frames in flight: {counts.in_flight}"
    return "running", "the source is waited for"


def _silent_s(counts: Counts, now_ns: int) -> float:
    """Return how long frames have been on their way without one coming out, in seconds."""
    if counts.busy_since_ns is None:
        return 0.0
    return (now_ns - max(counts.busy_since_ns, counts.last_ns or 0)) / 1e9
