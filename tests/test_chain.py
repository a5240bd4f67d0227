"""The stages of a pipeline in one thread, with the real delay edge."""

from dataclasses import replace

import pytest
from fakes import CollectingSink, FakeCompute, FakeOptions, FakeSource, mark

from lsd.lab.chain import Chain
from lsd.pipeline.config import FeedbackConfig, PipelineConfig
from lsd.pipeline.errors import ConfigError, StageError
from lsd.pipeline.frame import FrameFlag, Size
from lsd.pipeline.registry import Registry

SIDE = 64


def chain(compute, delay=1, **options):
    """Return a chain of fakes with the delay edge from and to `compute`."""
    ends = {"source": lambda name: FakeSource(), "sink": lambda name: CollectingSink()}
    kinds = Registry({**ends, "work": lambda name: compute})
    config = PipelineConfig.model_construct(
        name="fakes",
        size=Size(SIDE, SIDE),
        rate_hz=25.0,
        device="cpu",
        stages={
            "capture": FakeOptions(kind="source"),
            "blend": FakeOptions(kind="work"),
            "output": FakeOptions(kind="sink"),
        },
        feedback=FeedbackConfig(**{"from": "blend", "to": ["blend"], "delay": delay}),
    )
    return Chain(config, kinds, **options)


def test_chain_gives_each_frame_the_one_before():
    compute = FakeCompute()

    with chain(compute) as opened:
        frames = [opened.advance(opened.read()) for _ in range(3)]

    assert compute.previous == [None, *frames[:2]]
    assert [frame.seq for frame in frames] == [0, 1, 2]


def test_chain_marks_a_jump():
    compute = FakeCompute()

    with chain(compute) as opened:
        for jumps in (False, False, True, False):
            opened.advance(opened.read()._replace(discontinuity=jumps))

    marked = [FrameFlag.DISCONTINUITY in frame.flags for frame in compute.seen]
    assert marked == [True, False, True, False]


def test_chain_ends_at_a_stage_that_fails():
    def fail(frame, delayed):
        raise ValueError("no")

    with chain(FakeCompute(work=fail)) as opened, pytest.raises(StageError, match="ValueError: no"):
        opened.advance(opened.read())


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_a_disturbance_is_seen_by_the_next_frame_and_by_no_other(delay):
    compute = FakeCompute(work=lambda frame, _: mark(frame, f"made {frame.seq}"))

    with chain(compute, delay) as opened:
        for n in range(8):
            if n == 4:
                opened.disturb("disturbed")
            opened.advance(opened.read())

    seen = [None if frame is None else frame.data for frame in compute.previous]
    meant = [None] * delay + [f"made {n}" for n in range(8 - delay)]
    assert seen == [*meant[:4], "disturbed", *meant[5:]]


def test_a_disturbance_leaves_the_source_and_the_shown_frame_alone():
    compute = FakeCompute(work=lambda frame, _: mark(frame, f"made {frame.seq}"))

    with chain(compute) as opened:
        shown = opened.advance(opened.read())
        opened.disturb("disturbed")
        opened.advance(opened.read())

    assert shown.data == "made 0"
    assert compute.previous[1].source == shown.source


def test_before_the_first_frame_there_is_nothing_to_disturb():
    compute = FakeCompute()

    with chain(compute) as opened:
        opened.disturb("disturbed")
        opened.advance(opened.read())

    assert compute.previous == [None]


def test_a_picture_that_was_replaced_does_not_become_the_past():
    flags = iter([FrameFlag.NONE, FrameFlag.REPLACED, FrameFlag.NONE, FrameFlag.NONE])
    compute = FakeCompute(work=lambda frame, _: replace(frame, flags=next(flags)))

    with chain(compute) as opened:
        for _ in range(4):
            opened.advance(opened.read())

    assert [frame and frame.seq for frame in compute.previous] == [None, 0, 0, 2]


def test_options_change_from_the_next_frame_on():
    compute = FakeCompute()

    with chain(compute) as opened:
        opened.advance(opened.read())
        opened.set("blend", level=5)
        opened.advance(opened.read())
        with pytest.raises(ConfigError, match="level"):
            opened.set("blend", level=11)

    assert [frame.params.of("blend", FakeOptions).level for frame in compute.seen] == [1, 5]


def test_counters_are_those_of_the_stages():
    def count(frame, delayed):
        compute.context.counters["blend", "rejected"] += 1
        return frame

    compute = FakeCompute(work=count)

    with chain(compute) as opened:
        opened.advance(opened.read())
        assert dict(opened.counters()) == {("blend", "rejected"): 1}


def test_a_stage_that_cannot_open_is_closed_all_the_same():
    compute = FakeCompute()
    compute.fails_to_open = StageError("no")

    with pytest.raises(StageError, match="no"), chain(compute):
        pass

    assert compute.calls == ["open", "close"]
