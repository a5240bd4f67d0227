"""A pipeline in three parts with rings between them makes what one process makes."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from fakes import CollectingSink, FakeCompute, FakeSource, run

from lsd.pipeline.checkpoint import Checkpoint, checkpoint_bytes
from lsd.pipeline.clock import ManualClock
from lsd.pipeline.config import load_config
from lsd.pipeline.crossing import Arriving, FlightCodec, Leaving
from lsd.pipeline.frame import PIXELS, TENSOR, Frame, FrameFlag, Size
from lsd.pipeline.graph import FeedbackEdge
from lsd.pipeline.launch import build_runner
from lsd.pipeline.lineage import BYTES, Lineage
from lsd.pipeline.links import memory
from lsd.pipeline.links.parcel import frame_bytes, owned
from lsd.pipeline.links.ring import Ring
from lsd.pipeline.links.ring_reader import RingReader
from lsd.pipeline.links.ring_writer import RingWriter
from lsd.pipeline.links.snapshots import Snapshots
from lsd.pipeline.overrides import SetPath
from lsd.pipeline.params import ParamStore
from lsd.pipeline.part import EPOCHS, Part
from lsd.pipeline.session import Flight

FRAMES = 12
SIZE = Size(64, 64)


def configured(folder, **changes):
    settings = {
        "size": str(SIZE),
        "live": "false",
        "device": "cpu",
        "stages.capture.input": f"test://moving?frames={FRAMES}",
        "stages.diffusion.engine": "torch",
        "stages.diffusion.styles": "{hatch: 1.0}",
        "stages.output.outputs": f"[{folder}/%03d.png]",
        **changes,
    }
    return load_config("demo", [SetPath(f"{name}={value}") for name, value in settings.items()])


def pictures(folder):
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


def ring(name, spec):
    made = Ring.create(name, pixel_bytes=frame_bytes(SIZE, spec), capacity=2, policy="block")
    return made, spec


def run_parts(config, parts):
    """Run every part in threads of this process; `parts` are lists of stages."""
    told = []
    with ExitStack() as stack:
        specs = [PIXELS if part[-1] in ("capture", "recall") else TENSOR for part in parts[:-1]]
        rings = [ring(part[-1], spec) for part, spec in zip(parts[:-1], specs, strict=True)]
        runners = []
        for number, part in enumerate(parts):
            snapshots = Snapshots(ParamStore(config.stages).snapshot().stages)
            incoming = outgoing = None
            if number > 0:
                made, spec = rings[number - 1]
                codec = FlightCodec("demo", spec, snapshots)
                incoming = Arriving(partial(RingReader, made, "demo", codec), told.append)
                stack.callback(incoming.leave)
            if number < len(parts) - 1:
                made, spec = rings[number]
                codec = FlightCodec("demo", spec, snapshots)
                outgoing = Leaving(RingWriter(made, "demo", codec), told.append)
            runner = build_runner(config, part=Part(frozenset(part), incoming, outgoing))
            runners.append((runner, outgoing))
        for runner, _ in runners:
            runner.start()
        for runner, outgoing in runners:
            assert runner.wait(60)
            if outgoing is not None:
                outgoing.leave()  # the end of the stream
    assert told == []
    return [runner.report() for runner, _ in runners]


@pytest.mark.parametrize(
    "parts",
    [
        (["capture"], ["recall", "diffusion", "memory", "blend"], ["output"]),
        (["capture", "recall"], ["diffusion", "memory", "blend", "output"]),
        (["capture", "recall", "diffusion", "memory", "blend"], ["output"]),
    ],
)
def test_parts_make_what_one_process_makes(tmp_path, parts):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = build_runner(configured(tmp_path / "whole"))
    whole.start()
    assert whole.wait(60)
    reports = run_parts(configured(tmp_path / "parts"), parts)
    assert len(pictures(tmp_path / "whole")) == FRAMES
    assert pictures(tmp_path / "parts") == pictures(tmp_path / "whole")
    assert reports[0].counts.captured == FRAMES
    assert reports[-1].counts.emitted == FRAMES
    served = [{name for name, s in r.stages.items() if s.frames} for r in reports]
    assert served == [set(part) for part in parts]


# The checkpoint


@pytest.fixture
def kept():
    fd = memory.create("checkpoint", checkpoint_bytes(SIZE))
    store = ParamStore(configured("/nowhere").stages)
    snapshots = Snapshots(store.snapshot().stages)

    def opened():
        return Checkpoint(fd, SIZE, snapshots)

    return opened, store.snapshot()


def frame(params, seq):
    data = torch.full((1, 3, 64, 64), seq / 100)
    source = torch.full((1, 64, 64, 3), seq, dtype=torch.uint8)
    motion = torch.zeros((1, 64, 64, 2))
    return Frame(seq, 0, 0, None, data, source, motion, params, FrameFlag.DISCONTINUITY)


class Saved:
    """A checkpoint that keeps what it was given."""

    def __init__(self):
        self.frames = []

    def load(self):
        return None

    def save(self, frame, epoch, states):
        self.frames.append(frame)


def test_each_picture_that_is_fed_back_is_left_to_a_successor_and_its_history_to_nobody():
    sink = CollectingSink()
    blend = FakeCompute(work=lambda frame, _: replace(frame, history="the past"))
    stages = (FakeSource(4), blend, sink)
    saved = Saved()
    part = Part(frozenset(stage.name for stage in stages), checkpoint=saved)
    run(*stages, feedback=FeedbackEdge("blend", ("blend",)), part=part)
    assert [frame.seq for frame in saved.frames] == sink.seqs == [0, 1, 2, 3]
    assert {frame.history for frame in sink.frames} == {None}


def test_a_fresh_checkpoint_holds_nothing(kept):
    opened, _ = kept
    assert opened().load() is None


def test_the_last_picture_is_there_for_the_next_process(kept):
    opened, params = kept
    first = opened()
    for seq in range(5):
        first.save(frame(params, seq), epoch=3)
    found, epoch, _ = opened().load()
    assert (found.seq, epoch) == (4, 3)
    assert torch.equal(found.data, torch.full((1, 3, 64, 64), 0.04))
    assert torch.equal(found.source, torch.full((1, 64, 64, 3), 4, dtype=torch.uint8))
    opened().save(frame(params, 9), epoch=4)
    assert opened().load().frame.seq == 9


@pytest.mark.parametrize("saved", [1, 2, 5])
def test_a_picture_half_written_leaves_the_one_before(kept, monkeypatch, saved):
    opened, params = kept
    checkpoint = opened()
    for seq in range(saved):
        checkpoint.save(frame(params, seq), epoch=1)

    def dies(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("lsd.pipeline.checkpoint.views", dies)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(frame(params, 99), epoch=1)
    monkeypatch.undo()
    assert opened().load().frame.seq == saved - 1


def test_what_was_loaded_is_a_copy(kept):
    opened, params = kept
    checkpoint = opened()
    checkpoint.save(frame(params, 1), epoch=1)
    found = checkpoint.load().frame
    for seq in (2, 3):
        checkpoint.save(frame(params, seq), epoch=1)
    assert np.allclose(found.data.numpy(), 0.01)


@pytest.mark.parametrize("saved", [1, 2, 3])
def test_what_is_read_while_another_process_writes_is_whole(kept, monkeypatch, saved):
    opened, params = kept
    writer, reader, times = opened(), opened(), iter(range(saved))

    def overtaken(parcel):
        for seq in times:  # behind the header and before the pixels, once
            writer.save(frame(params, 10 + seq), epoch=1)
        return owned(parcel)

    writer.save(frame(params, 1), epoch=1)
    monkeypatch.setattr("lsd.pipeline.checkpoint.owned", overtaken)
    found = reader.load().frame
    assert found.seq == 9 + saved
    assert torch.equal(found.data, torch.full((1, 3, 64, 64), found.seq / 100))


# A source, a model, or a sink that was started again


class Handed:
    """A link whose frames a test has put together."""

    def __init__(self, flights=()):
        self.flights, self.put_there = list(flights), []
        self.closed = threading.Event()

    def get(self, timeout_s=None):
        from lsd.pipeline.errors import LinkClosed

        if not self.flights:
            raise LinkClosed("drained")
        return self.flights.pop(0)

    def put(self, item):
        self.put_there.append(item)

    def wait_for_peer(self, stopping):
        pass

    def stop(self): ...

    def kill(self): ...

    def close(self):
        self.closed.set()

    def stats(self):
        from lsd.pipeline.link import LinkStats

        return LinkStats(0, 0, 0, 0)


def test_a_source_that_was_started_again_goes_on_counting_and_is_a_cut(tmp_path):
    out = Handed()
    lineage = Lineage(memory.create("lineage", BYTES))
    for _ in range(3):
        lineage.born()
    for _ in range(40):
        lineage.capture()
    part = Part(frozenset(["capture"]), None, out, lineage=lineage)
    film = f"test://moving?frames={40 + FRAMES}"
    runner = build_runner(configured(tmp_path, **{"stages.capture.input": film}), part=part)
    runner.start()
    assert runner.wait(60)
    assert [flight.frame.seq for flight in out.put_there] == list(range(40, 40 + FRAMES))
    assert out.put_there[0].epoch == 2 * EPOCHS + 1
    assert out.put_there[0].frame.flags & FrameFlag.DISCONTINUITY
    assert lineage.captured == 40 + FRAMES


def test_the_page_of_the_last_worker_tells_what_came_out_and_what_was_on_time(tmp_path):
    config = configured(tmp_path, **{"stages.output.outputs": "[null://]"})
    params, now_ns = ParamStore(config.stages).snapshot(), time.monotonic_ns()
    deadlines = (now_ns + 60_000_000_000, now_ns - 1)
    frames = [
        replace(frame(params, seq), deadline_ns=deadline_ns, captured_ns=now_ns)
        for seq, deadline_ns in enumerate(deadlines)
    ]
    lineage = Lineage(memory.create("lineage", BYTES))
    incoming = Handed([Flight(each, 1, now_ns) for each in frames])
    part = Part(frozenset(["output"]), incoming, None, lineage=lineage)
    runner = build_runner(config, part=part)
    runner.start()
    assert runner.wait(60)
    assert (lineage.emitted, lineage.on_time) == (2, 1)


@pytest.mark.parametrize("stages", [["diffusion", "memory", "blend"], ["output"]])
def test_what_a_dead_process_left_behind_is_dropped(tmp_path, stages):
    config = configured(tmp_path, live="true", **{"stages.output.outputs": "[null://]"})
    params, now_ns = ParamStore(config.stages).snapshot(), time.monotonic_ns()

    def flight(seq, deadline_ns):
        made = replace(frame(params, seq), deadline_ns=deadline_ns, captured_ns=now_ns)
        if stages != ["output"]:
            made = replace(made, data=made.source)
        return Flight(made, 1, now_ns)

    long_ago, soon = now_ns - 3_000_000_000, now_ns + 60_000_000_000
    incoming = Handed([flight(0, long_ago), flight(1, soon), flight(2, long_ago), flight(3, soon)])
    outgoing = None if stages == ["output"] else Handed()
    runner = build_runner(config, part=Part(frozenset(stages), incoming, outgoing))
    runner.start()
    assert runner.wait(60)
    assert runner.report().counts.dropped == {"left_behind": 2}
    if outgoing is None:
        assert runner.report().counts.emitted == 2
    else:
        assert [each.frame.seq for each in outgoing.put_there] == [1, 3]


def test_the_wait_for_the_next_process_is_none_of_the_runs_time(tmp_path):
    clock, out = ManualClock(), Handed()

    def wait(stopping):
        assert stopping is runner._session.stopping, "it ends with the run: nothing was captured"
        if threading.current_thread().name == "lsd-capture":
            clock.advance(60_000_000_000)

    out.wait_for_peer = wait
    config = configured(tmp_path, live="true")
    part = Part(frozenset(["capture"]), None, out)
    runner = build_runner(config, part=part, clock=clock, max_duration_s=10.0)
    runner.start()
    assert runner.wait(60)
    assert runner.report().counts.captured == FRAMES


def test_a_successor_of_the_source_has_what_is_left_of_the_runs_time(tmp_path):
    clock, lineage = ManualClock(), Lineage(memory.create("lineage", BYTES))
    config = configured(tmp_path, live="true")

    def captured_by_next():
        lineage.born()
        out = Handed()
        part = Part(frozenset(["capture"]), None, out, lineage=lineage)
        runner = build_runner(config, part=part, clock=clock, max_duration_s=10.0)
        runner.start()
        assert runner.wait(60)
        return runner.report().counts.captured

    clock.advance(1_000_000_000)
    assert captured_by_next() == FRAMES
    clock.advance(9_000_000_000)
    assert captured_by_next() == FRAMES, "a source begins when its first frame is asked for"
    clock.advance(2_000_000_000)
    assert captured_by_next() == 0


def test_file_to_file_it_is_the_films_time_that_is_left(tmp_path):
    lineage = Lineage(memory.create("lineage", BYTES))
    assert lineage.begin(0) == 0
    for _ in range(2):
        lineage.capture()
    part = Part(frozenset(["capture"]), None, Handed(), lineage=lineage)
    pictures = f"test://moving?frames={FRAMES + 2}"  # of which the two were captured before
    config = configured(tmp_path, **{"stages.capture.input": pictures})
    runner = build_runner(config, part=part, max_duration_s=(FRAMES - 0.5) / 25)
    runner.start()
    assert runner.wait(60)
    assert runner.report().counts.captured == FRAMES - 2


def test_only_neighbours_that_are_over_are_waited_for_no_longer():
    class End:
        is_over = False

        def peer_is_over(self):
            self.is_over = True

    ends = incoming, outgoing, returning = End(), End(), End()
    part = Part(
        frozenset(["diffusion"]), incoming, outgoing, returning=returning,
        before="model", behind="mend", beginning="blend",
    )  # fmt: skip
    for over, expected in {
        "camera": [False, False, False],
        "model": [True, False, False],
        "blend": [True, False, True],
        "mend": [True, True, True],
    }.items():
        part.peers_are_over({over})
        assert [end.is_over for end in ends] == expected


def test_the_links_hear_that_the_run_ends_or_is_given_up(tmp_path):
    told = []
    out = Handed()
    out.stop, out.kill = lambda: told.append("stop"), lambda: told.append("kill")
    runner = build_runner(configured(tmp_path), part=Part(frozenset(["capture"]), None, out))
    runner.stop()
    assert told == ["stop"]
    runner.kill()
    assert told == ["stop", "kill"]
