"""Scenes for the tests of the scheduler's simulation."""

from functools import cache

from hypothesis import strategies as st

from lsd.pipeline.clairvoyant import optimum
from lsd.pipeline.contest import NO_HYSTERESIS, outcome, scheduler_for
from lsd.pipeline.frame import Size
from lsd.pipeline.ladder import Rung
from lsd.pipeline.load import Load, Piece, load_of
from lsd.pipeline.scene import Cost, Scene, noise_of, scene_of
from lsd.pipeline.simulation import Uncontrolled

MS = 1_000_000
S = 1000 * MS
STILL = Load("still", [Piece(0, 1.0)])
BIG, SMALL = Rung(1, Size(256, 256), 1.0), Rung(1, Size(128, 128), 0.5)
TWICE, AGAIN = Rung(2, Size(256, 256), 1.0), Rung(0, Size(256, 256), 0.8)


@cache
def full_scene(trace, side=384, steps=1, rate=25, latency=40, seconds=60, seed=0):
    return scene_of(
        Size(side, side), steps, rate_hz=rate, latency_ms=latency,
        load=load_of(trace, seconds, seed), seconds=seconds, seed=seed,
    )  # fmt: skip


def small_scene(rungs, costs_ms, frames, *, load=STILL, rate=25, latency=40, noise=None, tail=1):
    costs = tuple(each if isinstance(each, Cost) else Cost(each * MS) for each in costs_ms)
    return Scene(
        tuple(rungs), costs, load, rate, latency * MS, frames,
        tuple(noise or [1.0] * frames), tail * MS,
    )  # fmt: skip


@cache
def best_quality(scene):
    return optimum(scene).quality / scene.frames


def ours(scene, rules=None):
    return outcome(scene, "ladder", scheduler_for(scene, rules))


loads = st.lists(
    st.tuples(st.integers(1, 400), st.floats(0.3, 6), st.sampled_from([0.0, 1.0])), max_size=6
)
scenes = st.builds(
    lambda parts, rate, latency, seed, steps, reuse: any_scene(
        parts, rate, latency, seed, steps, reuse
    ),
    loads, st.sampled_from([10, 25, 60]), st.integers(16, 120), st.integers(0, 99),
    st.integers(1, 3), st.booleans(),
)  # fmt: skip


def any_scene(parts, rate, latency, seed, steps, reuse):
    now, pieces = 0.0, [Piece(0, 1.0)]
    for length, factor, motion in parts:
        now += length / 1000
        pieces.append(Piece(now, factor, motion))
    rungs = [Rung(n, Size(256, 256), 1 - 0.1 / n) for n in range(steps, 0, -1)]
    costs = [Cost(15 * MS, 6 * MS, 2 * MS)] * steps
    rungs += [Rung(1, Size(128, 128), 0.5)] + ([Rung(0, Size(256, 256), 0.9)] if reuse else [])
    costs += [Cost(7 * MS, 2 * MS, 1 * MS)] + ([Cost(4 * MS)] if reuse else [])
    return Scene(
        tuple(rungs), tuple(costs), Load("any", pieces), rate, latency * MS, 60,
        noise_of(60, seed, 0.2), MS,
    )  # fmt: skip


policies = st.sampled_from(["ladder", "no hysteresis", "drop-oldest", "fifo"])


def policy_of(name, scene):
    if name in ("drop-oldest", "fifo"):
        return Uncontrolled(scene.rungs, 4 if name == "drop-oldest" else None)
    return scheduler_for(scene, NO_HYSTERESIS if name == "no hysteresis" else None)
