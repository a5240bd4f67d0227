"""`python -m lsd.lab.chaos --minutes 1`: an ordeal from its start to its verdict."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path

from lsd.lab.chaos import BrokenPromise
from lsd.lab.ordeal import HUNG_S, LATE_LEAST, LATE_S, LATE_SHARE, LONGEST_S, Deed, Ordeal
from lsd.pipeline.errors import LsdError
from lsd.pipeline.terminal import print_json, say

_END_S = 3.0  # for `livesd down`, and to look at what is left


def ordeal(minutes: float, seed: int, folder: Path) -> None:
    """Torment a run of our own, and print what came of it.

    Raises:
        BrokenPromise: what did not hold.
        LsdError: it did not come up.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left behind then, too
    until_s = time.monotonic() + minutes * 60 - _END_S
    folder.mkdir(parents=True, exist_ok=True)
    deeds: list[Deed] = []
    try:
        with Ordeal(folder, seed, say) as trial:
            deeds.append(trial.kill_supervisor())
            _say(deeds[-1])
            # A worker is up in less than the supervisor and all of them, and is found hung before.
            for deed in trial.deeds(until_s, longest_s=deeds[0].took_s / 2 + HUNG_S):
                deeds.append(deed)
                _say(deed)
            frames = trial.end()
    except LsdError as error:
        done = ", ".join(deed.what for deed in deeds) or "none"
        raise type(error)(f"{error} (seed {seed}; acts before: {done}; logs: {folder})") from error
    told = judged(deeds)
    say(f"{frames}; nothing left behind; {told}")
    print_json({"seed": seed, "acts": [deed._asdict() for deed in deeds], "frames": frames})


def judged(deeds: Sequence[Deed]) -> str:
    """Hold the output's gaps to their limits, and say how they were.

    The promise is two periods. Beside other work, a viewer's thread itself comes late now and
    then; so half of the acts may exceed it (two, where there were few), and none may last as long
    as an outage would.

    Raises:
        BrokenPromise: more did, or one did.
    """
    gaps = [(deed.gap_s, deed.what) for deed in deeds if deed.gap_s is not None]
    if not gaps:
        return "no act that the output had to bridge"
    late = [gap for gap in gaps if gap[0] > LATE_S]
    allowed = max(LATE_LEAST, int(LATE_SHARE * len(gaps)))
    longest_s, what = max(gaps)
    told = (
        f"{len(late)} of {len(gaps)} acts had a gap of more than two periods "
        f"({LATE_S * 1e3:.0f} ms; limit: {allowed} acts), the longest of "
        f"{longest_s * 1e3:.0f} ms, at {what} (limit: {LONGEST_S * 1e3:.0f} ms)"
    )
    if len(late) > allowed or longest_s > LONGEST_S:
        raise BrokenPromise(told)
    return told


def _say(deed: Deed) -> None:
    gap = "" if deed.gap_s is None else f", nothing went out for {deed.gap_s * 1e3:.0f} ms"
    say(f"{deed.what}: {deed.took_s:.1f} s{gap}")
