"""The scheduler beside four others on one scene, and what became of each one's stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lsd.pipeline.clairvoyant import Foreseen, optimum
from lsd.pipeline.climb import Rules
from lsd.pipeline.scene import Scene
from lsd.pipeline.scheduler import Scheduler
from lsd.pipeline.simulation import Passage, Policy, Simulation, Uncontrolled

SETTLING_NS = 1_000_000_000  # after the load first changes, or the start: not counted as misses
OLDEST_OF = 4  # frames that wait for "drop-oldest"
# Whatever fits is taken, at once.
NO_HYSTERESIS = Rules(
    down_frames=1, down_dwell_s=0, up_share=0.95, up_dwell_s=0, up_dwell_most_s=0, soon_s=0
)
OURS, BEST = "ladder", "clairvoyant"
_OSCILLATION_NS = 5_000_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """A stream under one policy.

    Attributes:
        policy: its name.
        passages: what became of every frame.
        captured: frames.
        emitted: of them, late ones too.
        dropped: reason -> frames.
        repeated: pictures that the pacer repeated.
        hit_rate: of the frames after the settling second, on time; drops are misses.
        quality: mean over all frames, nothing for one that was late or dropped.
        reused: frames that warp the last output; `similar` among them, for a still input.
        similar: see `reused`.
        stopped_early: frames that took fewer steps than planned.
        changes_hz: changes of rung a second, those for a still input left out.
        oscillations: changes for the better that were taken back within 5 s.
        latency_p50_ms: from capture to hand-over.
        latency_p99_ms: likewise.
    """

    policy: str
    passages: Sequence[Passage]
    captured: int
    emitted: int
    dropped: Mapping[str, int]
    repeated: int
    hit_rate: float
    quality: float
    reused: int
    similar: int
    stopped_early: int
    changes_hz: float
    oscillations: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return {
            "policy": self.policy,
            "frames": {
                "captured": self.captured,
                "emitted": self.emitted,
                "repeated": self.repeated,
                "dropped": dict(self.dropped),
                "reused": self.reused,
                "similar": self.similar,
                "stopped_early": self.stopped_early,
            },
            "hit_rate": self.hit_rate,
            "quality": self.quality,
            "changes_hz": self.changes_hz,
            "oscillations": self.oscillations,
            "latency_ms": {"p50": self.latency_p50_ms, "p99": self.latency_p99_ms},
        }


def scheduler_for(scene: Scene, rules: Rules | None = None) -> Scheduler:
    """Return the scheduler that a run of the scene's pipeline would have."""
    return Scheduler(
        scene.rungs,
        scene.calibrated_ns(),
        rate_hz=scene.rate_hz,
        latency_ns=scene.latency_ns,
        rules=rules,
    )


def contenders(scene: Scene) -> dict[str, Policy]:
    """Return the policies that know what a run knows; ours comes first."""
    return {
        OURS: scheduler_for(scene),
        "no hysteresis": scheduler_for(scene, NO_HYSTERESIS),
        "drop-oldest": Uncontrolled(scene.rungs, OLDEST_OF),
        "fifo": Uncontrolled(scene.rungs, None),
    }


def contest(scene: Scene) -> list[Outcome]:
    """Run the scene under every policy; ours comes first, the optimum last."""
    policies = {**contenders(scene), BEST: Foreseen(scene, optimum(scene).places)}
    return [outcome(scene, name, policy) for name, policy in policies.items()]


def outcome(scene: Scene, name: str, policy: Policy) -> Outcome:
    """Run the scene under one policy."""
    simulation = Simulation(scene, policy)
    passages = simulation.run()
    counts = simulation.ledger.counts()
    why = Counter(each.plan.why for each in passages if each.plan)
    settled = [each for each in passages if each.captured_ns >= settled_ns(scene)]
    quality = sum(each.quality for each in passages if each.is_on_time)
    chosen = [each for each in passages if each.plan and each.plan.why != "similar"]
    changes = sum(_place(a) != _place(b) for a, b in pairwise(chosen))
    latencies = sorted(
        each.emitted_ns - each.captured_ns for each in passages if each.emitted_ns is not None
    )
    return Outcome(
        policy=name,
        passages=passages,
        captured=counts.captured,
        emitted=counts.emitted,
        dropped=counts.dropped,
        repeated=counts.repeated,
        hit_rate=sum(each.is_on_time for each in settled) / max(1, len(settled)),
        quality=quality / max(1, len(passages)),
        reused=sum(each.plan.rung.is_reuse for each in passages if each.plan),
        similar=why["similar"],
        stopped_early=sum(each.steps < each.plan.rung.steps for each in passages if each.plan),
        changes_hz=changes * scene.rate_hz / max(1, len(passages)),
        oscillations=_oscillations(passages),
        latency_p50_ms=_percentile_ms(latencies, 0.5),
        latency_p99_ms=_percentile_ms(latencies, 0.99),
    )


def settled_ns(scene: Scene) -> int:
    """Return from when on the hit rate counts."""
    return next(iter(scene.load.changes_ns), 0) + SETTLING_NS


def _place(passage: Passage) -> int:
    assert passage.plan is not None
    return passage.plan.place


def _oscillations(passages: Sequence[Passage]) -> int:
    """Count the ways up that ended below within 5 s; a frame that was reused is no way."""
    made = [each.plan for each in passages if each.plan and not each.plan.rung.is_reuse]
    count, up_ns = 0, None
    for before, after in pairwise(made):
        if after.place < before.place:
            up_ns = after.start_ns
        elif after.place > before.place:
            count += up_ns is not None and after.start_ns - up_ns < _OSCILLATION_NS
            up_ns = None
    return count


def _percentile_ms(sorted_ns: Sequence[int], share: float) -> float | None:
    if not sorted_ns:
        return None
    return sorted_ns[min(len(sorted_ns) - 1, int(share * len(sorted_ns)))] / 1e6
