"""The recurrence in one process and across several: what a frame is given, and who waits for it."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import pytest
import torch
from fakes import FakeOptions
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lsd.pipeline.checkpoint import Kept
from lsd.pipeline.clock import ManualClock
from lsd.pipeline.crossing import Arriving, FlightCodec, Leaving
from lsd.pipeline.errors import LinkClosed, PeerLost, StageError
from lsd.pipeline.frame import PIXELS, TENSOR, Frame, FrameFlag, Size
from lsd.pipeline.graph import FeedbackEdge, Graph
from lsd.pipeline.link import LinkStats
from lsd.pipeline.links.parcel import frame_bytes
from lsd.pipeline.links.ring import Ring
from lsd.pipeline.links.ring_reader import RingReader
from lsd.pipeline.links.ring_writer import RingWriter
from lsd.pipeline.links.snapshots import Snapshots
from lsd.pipeline.params import ParamStore
from lsd.pipeline.part import Part
from lsd.pipeline.recurrence import STALE_FRAMES, Recurrence
from lsd.pipeline.runner import Runner
from lsd.pipeline.session import ALL_GONE, Flight, Gone
from lsd.pipeline.stage import Captured

SIZE = Size(8, 8)
STAGES = ("capture", "paint", "mend", "blend", "output")
FRAMES = 14
PARAMS = ParamStore({name: FakeOptions(kind="fake") for name in STAGES})


# The row


class Told:
    """A link by which a test tells what became of frames; the end of the list closes it."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.closed = threading.Event()

    def get(self, timeout_s=None):
        if not self.outcomes:
            raise LinkClosed("nothing is left")
        return self.outcomes.pop(0)

    def close(self):
        self.closed.set()


def frame(seq):
    blank = torch.zeros((1, 8, 8, 3), dtype=torch.uint8)
    return Frame(seq, 0, 0, None, blank, blank, None, PARAMS.snapshot())


def made(seq):
    return Flight(frame(seq), 1, 0)


def next_of(recurrence, seq, **news):
    """Take the next frame; return the number of what it is given, and whether that applies."""
    recurrence.wait()
    recurrence.begin(seq, 1, **news)
    past = recurrence.given()
    return past.frame and past.frame.seq, not past.is_cut_off


def test_a_frame_is_given_what_left_the_edge_delay_frames_before_and_nothing_newer():
    told = Told(*map(made, range(10)))
    recurrence = Recurrence(2, epoch=1, returning=told)
    seen = [next_of(recurrence, seq)[0] for seq in range(6)]
    assert seen == [None, None, 0, 1, 2, 3]
    assert [each.seq for each in told.outcomes] == list(range(4, 10)), "left where they are"


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_what_is_told_by_another_process_is_what_would_be_known_here(delay):
    outcomes = [made(0), Gone(1), made(2), Gone(3), Gone(4), Gone(5), Gone(6), made(7), made(8)]
    here, there = Recurrence(delay), Recurrence(delay, returning=Told(*outcomes))
    for seq, outcome in enumerate(outcomes):
        expected = next_of(here, seq)
        here.end(outcome)
        assert next_of(there, seq) == expected


def test_a_frame_that_is_gone_leaves_the_past_as_it_was_until_it_is_stale():
    gone = [Gone(seq) for seq in range(1, 8)]
    recurrence = Recurrence(1, epoch=1, returning=Told(made(0), *gone))
    seen = [next_of(recurrence, seq) for seq in range(7)]
    assert seen == [(None, True), *[(0, True)] * STALE_FRAMES, *[(0, False)] * 3]


def test_a_jump_is_news_until_a_frame_behind_it_is_history():
    recurrence = Recurrence(1, epoch=1, returning=Told(made(0), Gone(1), Gone(2), made(3)))
    assert next_of(recurrence, 0) == (None, True)
    assert next_of(recurrence, 1, jumped=True) == (0, False)
    assert next_of(recurrence, 2) == (0, False)
    assert next_of(recurrence, 3) == (0, False)
    assert next_of(recurrence, 4) == (3, True)


def test_a_jump_that_another_process_saw_is_news_too():
    recurrence = Recurrence(1, epoch=1, returning=Told(made(0), Gone(1, jumped=True), made(2)))
    seen = [next_of(recurrence, seq) for seq in range(4)]
    assert seen == [(None, True), (0, True), (0, False), (2, True)]


@pytest.mark.parametrize("delay", [1, 2])
def test_the_past_from_before_a_jump_is_given_to_no_frame_behind_it(delay):
    recurrence = Recurrence(delay, epoch=1)
    seen = []
    for seq in range(6):
        seen.append(next_of(recurrence, seq, jumped=seq == 3))
        recurrence.end(made(seq))
    cut = [seq for seq, (_, applies) in enumerate(seen) if not applies]
    assert cut == list(range(3, 3 + delay))


def test_a_death_answers_for_all_that_was_on_its_way_and_makes_nothing_stale():
    recurrence = Recurrence(1, epoch=1, returning=Told(made(0), *[ALL_GONE] * 10, made(9)))
    seen = [next_of(recurrence, seq) for seq in range(9)]
    assert seen == [(None, True), *[(0, True)] * 8]


def test_a_cut_that_died_is_still_a_cut():
    recurrence = Recurrence(1, epoch=1, returning=Told(made(0), ALL_GONE, made(2)))
    next_of(recurrence, 0)
    assert next_of(recurrence, 1, jumped=True) == (0, False)
    assert next_of(recurrence, 2) == (0, False)
    assert next_of(recurrence, 3) == (2, True)


def test_a_later_frame_answers_for_those_that_were_lost_before_it():
    told = Told(made(0), made(3))
    recurrence = Recurrence(2, epoch=1, returning=told)
    recurrence.begin(0, 1)
    recurrence.begin(2, 1)
    assert recurrence.wait().seq == 0
    recurrence.begin(3, 1)
    assert recurrence.wait() == Gone(2, ages=False), "frame 3 came through, so frame 2 will not"
    assert next_of(recurrence, 4) == (0, True)
    assert told.outcomes == []


def test_a_picture_whose_place_was_given_up_is_the_past_all_the_same_unless_it_is_older():
    late = Told(ALL_GONE, made(0), Gone(1))
    recurrence = Recurrence(1, epoch=1, returning=late)
    assert [next_of(recurrence, seq)[0] for seq in range(3)] == [None, None, 0]
    left = Told(made(5), Gone(9))  # by the process before; the checkpoint has frame 7
    recurrence = Recurrence(1, frame(7), 1, returning=left)
    assert [next_of(recurrence, seq)[0] for seq in (9, 10)] == [7, 7]


def test_who_has_left_the_link_in_order_is_not_waited_for():
    recurrence = Recurrence(1, epoch=1, returning=Told(made(0)))
    assert [next_of(recurrence, seq)[0] for seq in range(4)] == [None, 0, 0, 0]


def test_a_disturbance_is_given_to_the_next_frame():
    recurrence = Recurrence(1, frame(0), 1)
    recurrence.disturb("disturbed")
    recurrence.begin(1, 1)
    assert recurrence.given().frame.data == "disturbed"


# Links


def test_a_frame_that_is_gone_crosses_a_ring_like_any_other():
    snapshots = Snapshots(PARAMS.snapshot().stages)
    codec = FlightCodec("trial", TENSOR, snapshots)
    ring = Ring.create("r", pixel_bytes=frame_bytes(SIZE, TENSOR), capacity=4, policy="block")
    out, into = RingWriter(ring, "trial", codec), RingReader(ring, "trial", codec)
    sent = [Gone(3), Gone(4, jumped=True), Gone(5, ages=False), ALL_GONE]
    for each in sent:
        out.put(each)
    assert [into.get(1) for _ in sent] == sent
    out.close()
    into.close()


def test_a_death_is_handed_over_where_somebody_waits_for_what_died():
    class Dead:
        def get(self, timeout_s=None):
            raise PeerLost("process 7, the writer, died")

    said = []
    assert Arriving(Dead, said.append, reports_loss=True).get() == ALL_GONE
    assert said == ["process 7, the writer, died"]
    with pytest.raises(TimeoutError):
        Arriving(DeadOnce, said.append).get(0.0)


class DeadOnce:
    def __init__(self):
        self.calls = 0

    def get(self, timeout_s=None):
        self.calls += 1
        raise PeerLost("died") if self.calls == 1 else TimeoutError


# A process that waits, with links that a test has put together


class Handed(Told):
    """What comes in, in order; `log` is told of every question."""

    def __init__(self, name, log, items, before=lambda: None):
        super().__init__(*items)
        self.name, self.log, self.before = name, log, before

    def get(self, timeout_s=None):
        self.before()
        self.log.append(self.name)
        return super().get()

    def stats(self):
        return LinkStats(0, 0, 0, 0)


class Sent:
    def __init__(self, fails=False):
        self.items, self.fails = [], fails

    def put(self, item):
        if self.fails:
            raise LinkClosed("the reader has closed the link")
        self.items.append(item)

    def wait_for_peer(self, stopping): ...

    def close(self): ...

    def kill(self): ...

    def stats(self):
        return LinkStats(0, 0, 0, 0)


def arriving(*seqs, flags=FrameFlag.NONE):
    return [Flight(replace(frame(seq), flags=flags), 1, 0) for seq in seqs]


def entry(log, outcomes, incoming, script=None, before=lambda: None, **arguments):
    """Return a runner of `paint` alone, whose past is made elsewhere."""
    returning = Handed("outcome", log, outcomes, before)
    part = Part(
        frozenset(["paint"]), Handed("frame", log, incoming), Sent(), returning=returning,
        relays=True,
    )  # fmt: skip
    return runner_of(script or {}, 1, part=part, **arguments), part


def test_what_is_waited_for_is_waited_for_before_a_frame_is_taken():
    log = []
    runner, part = entry(log, map(made, range(3)), arriving(0, 1, 2))
    finish(runner)
    assert log == ["frame", "outcome", "frame", "outcome", "frame", "outcome", "frame"]
    assert [item.seq for item in part.outgoing.items] == [0, 1, 2]
    paint = runner.stage("paint")
    assert [each and each.seq for each in paint.previous] == [None, 0, 1]


def test_a_process_that_waits_is_not_at_work_and_ends_when_it_is_killed():
    is_waiting = threading.Event()

    def wait():
        is_waiting.set()
        assert part.returning.closed.wait(10)

    runner, part = entry([], [], arriving(0, 1), before=wait)
    runner.start()
    assert is_waiting.wait(10)
    assert not runner.is_at_work
    assert runner.served == {"paint": 1}
    runner.kill()
    assert runner.wait(10)


def test_a_frame_that_ends_on_its_way_is_told_on_and_waited_for_like_any_other():
    script = {1: ("paint", "fail"), 2: ("paint", "skip")}
    outcomes = [made(0), Gone(1), Gone(2), Gone(3), made(4)]
    runner, part = entry([], outcomes, [*arriving(0, 1, 2), Gone(3), *arriving(4, 5)], script)
    finish(runner)
    assert [(item.seq, isinstance(item, Gone)) for item in part.outgoing.items] == [
        (0, False), (1, True), (2, True), (3, True), (4, False), (5, False)
    ]  # fmt: skip
    counts = runner.report().counts
    assert (counts.failed, counts.dropped) == (1, {"skipped:paint": 1})


def test_what_was_left_behind_by_a_death_is_told_on_and_makes_nothing_stale():
    late = [Flight(replace(frame(seq), deadline_ns=1), 1, 0) for seq in range(1, 5)]
    runner, part = entry(
        [], [made(0), *(Gone(seq, ages=False) for seq in range(1, 5))],
        [*arriving(0), *late, *arriving(5)],
        live=True, clock=ManualClock(10_000_000_000),
    )  # fmt: skip
    finish(runner)
    assert part.outgoing.items[1:5] == [Gone(seq, ages=False) for seq in range(1, 5)]
    assert not part.outgoing.items[5].frame.flags & FrameFlag.DISCONTINUITY
    assert runner.report().counts.dropped == {"left_behind": 4}


def test_where_the_edge_begins_every_frame_is_answered_for_whatever_became_of_it():
    script = {1: ("blend", "fail"), 2: ("blend", "replace"), 3: ("mend", "pass")}
    back = Sent(), Sent(fails=True)
    moved = [
        replace(each, frame=replace(each.frame, motion=torch.ones((1, 8, 8, 2))))
        for each in arriving(0, 1, 2, 3, 5, 6)
    ]
    moved.insert(4, Gone(4, jumped=True))
    incoming = Handed("frame", [], moved)
    part = Part(frozenset(["mend", "blend", "output"]), incoming, returns=back)
    finish(runner_of(script, 1, part=part))
    answers = back[0].items
    assert [each.seq for each in answers] == [0, 1, 2, 3, 4, 5, 6]
    assert [isinstance(each, Flight) for each in answers] == [True, *[False] * 4, True, True]
    assert answers[4].jumped
    assert answers[6].frame.motion is None


class Spent:
    """A budget that notes what it is told."""

    def __init__(self, place):
        self.place, self.log = place, []

    def begin(self, frame):
        return replace(frame, plan=Planned())

    def take(self, now_ns): ...

    def abandon(self):
        self.log.append("abandoned")

    def finish(self, frame, made_ns, now_ns):
        self.log.append((frame.seq, now_ns - made_ns))

    def emitted(self, frame, now_ns, finished_ns): ...

    def report(self):
        return None


class Planned:
    place, why = 0, "level"


def test_what_other_processes_make_of_a_frame_is_a_part_of_its_cost(monkeypatch):
    clock, budget = ManualClock(), Spent(place=1)
    monkeypatch.setattr("lsd.pipeline.runner.make_budget", lambda session: budget)
    budget.rungs = ()
    outcomes = [made(0), Gone(1), ALL_GONE]
    runner, _ = entry(
        [], outcomes, arriving(0, 1, 2, 3), clock=clock, before=lambda: clock.advance(7)
    )
    finish(runner)
    assert budget.log == [(0, 7), (1, 7), "abandoned", "abandoned"]


class Checkpoint:
    """With one picture."""

    def load(self):
        return Kept(frame(7), 1)


def test_a_successor_is_given_the_last_good_picture_that_another_process_has_kept():
    _, part = entry([], [Gone(7, ages=False), made(8)], arriving(8, 9))
    part = replace(part, past=Checkpoint())
    runner = finish(runner_of({}, 1, part=part))
    assert [each.seq for each in runner.stage("paint").previous] == [7, 8]
    assert not any(item.frame.flags for item in part.outgoing.items)


# The whole and its parts


CUT = "fail at a cut that the capture has found"


class Source:
    """Pictures of one grey each; `process` gives them a motion, as a capture does."""

    accepts = returns = PIXELS

    def __init__(self, script):
        self.name, self.script, self.read_so_far = "capture", script, 0

    def open(self, context): ...

    def close(self): ...

    def read(self):
        seq = self.read_so_far
        if seq == FRAMES:
            return None
        self.read_so_far += 1
        picture = torch.full((1, 8, 8, 3), seq, dtype=torch.uint8)
        return Captured(picture, seq, self.script.get(seq) == ("capture", "jump"))

    def process(self, frame):
        if self.script.get(frame.seq) == ("capture", "fail"):
            raise StageError("broken")
        jumped = FrameFlag.DISCONTINUITY in frame.flags
        if self.script.get(frame.seq, ("", ""))[1] == CUT:
            jumped, frame = True, replace(frame, flags=frame.flags | FrameFlag.DISCONTINUITY)
        motion = None if jumped else torch.full((1, 8, 8, 2), float(frame.seq))
        return replace(frame, motion=motion)


class Step:
    """Mixes what it is given, so that every difference shows in the picture."""

    def __init__(self, name, script):
        self.name, self.script, self.previous = name, script, []
        self.accepts, self.returns = PIXELS if name == "paint" else TENSOR, TENSOR
        self.share = {"paint": 0.5, "mend": 0.3, "blend": 0.7}[name]

    def open(self, context): ...

    def close(self): ...

    def process(self, frame, *, previous=None):
        self.previous.append(previous)
        stage, event = self.script.get(frame.seq, (None, None))
        if stage == self.name and event in ("fail", CUT):
            raise StageError("broken")
        if stage == self.name and event == "skip":
            return None
        data = frame.data if self.name != "paint" else frame.data.permute(0, 3, 1, 2).float()
        if previous is not None and frame.motion is not None:
            data = data * self.share + previous.data * 0.25 + previous.source.float().mean()
        flags = {"replace": FrameFlag.REPLACED, "pass": FrameFlag.PASSTHROUGH}
        told = flags.get(event, FrameFlag.NONE) if stage == self.name else FrameFlag.NONE
        return replace(frame, data=data + 1.0, flags=frame.flags | told)


class Sink:
    name, accepts, returns = "output", TENSOR, TENSOR

    def __init__(self):
        self.shown = []

    def open(self, context): ...

    def close(self): ...

    def process(self, frame):
        cut = FrameFlag.DISCONTINUITY in frame.flags
        self.shown.append((frame.seq, float(frame.data[0, 0, 0, 0]), cut, frame.motion is None))
        return frame

    def repeat(self, pts_ns):
        return False


class Scripted(Runner):
    def stage(self, name):
        return next(stage for stage in self._graph.stages if stage.name == name)


def runner_of(script, delay, source="blend", to=("paint", "mend", "blend"), **arguments):
    stages = [Source(script), *[Step(n, script) for n in ("paint", "mend", "blend")], Sink()]
    return Scripted(
        Graph(stages, FeedbackEdge(source, tuple(to), delay)),
        **{"size": SIZE, "rate_hz": 25.0, "latency_ms": 40.0, "live": False, "device": "cpu",
           "params": PARAMS, **arguments},
    )  # fmt: skip


def finish(runner):
    runner.start()
    assert runner.wait(20), "the run did not end"
    return runner


def ends(stack, name, spec, capacity, policy, **options):
    """Return both ends of a ring."""
    ring = Ring.create(
        name, pixel_bytes=frame_bytes(SIZE, spec), capacity=capacity, policy=policy
    )  # fmt: skip
    codecs = [FlightCodec("trial", spec, Snapshots(PARAMS.snapshot().stages)) for _ in range(2)]
    leaving = Leaving(RingWriter(ring, "trial", codecs[0]), print)
    arriving = Arriving(partial(RingReader, ring, "trial", codecs[1]), print, **options)
    stack.callback(arriving.leave)
    return leaving, arriving


def split(script, delay, cut, source="blend", to=("paint", "mend", "blend")):
    """Run the parts of a cut in threads of this process; return their runners."""
    home = next(number for number, part in enumerate(cut) if source in part)
    guests = [n for n, part in enumerate(cut) if n != home and set(part) & set(to)]
    with ExitStack() as stack:
        forward = [
            ends(stack, part[-1], PIXELS if part[-1] == "capture" else TENSOR, 4, "block")
            for part in cut[:-1]
        ]
        back = {n: ends(stack, f"previous-{n}", TENSOR, delay, "drop_oldest") for n in guests}
        runners = []
        for number, part in enumerate(cut):
            runners.append(
                runner_of(
                    script, delay, source, to,
                    part=Part(
                        frozenset(part),
                        forward[number - 1][1] if number else None,
                        forward[number][0] if number < len(cut) - 1 else None,
                        returning=back[number][1] if number in back else None,
                        returns=tuple(out for out, _ in back.values()) if number == home else (),
                        relays=number < home,
                    ),
                )
            )  # fmt: skip
        for runner in runners:
            runner.start()
        for number, runner in enumerate(runners):
            assert runner.wait(20), f"{cut[number]} did not end"
            for link, _ in [
                *forward[number : number + 1],
                *(back.values() if number == home else ()),
            ]:
                link.leave()
    return runners


def cut_at(*places):
    return [STAGES[a:b] for a, b in zip((0, *places), (*places, len(STAGES)), strict=True)]


CUTS = [cut_at(1, 2, 4), cut_at(2), cut_at(3), cut_at(2, 3), cut_at(1, 2, 3, 4), cut_at(1, 4)]
EDGES = [
    ("blend", ("paint", "mend", "blend")),
    ("blend", ("paint",)),
    ("blend", ("paint", "blend")),
    ("mend", ("paint", "mend")),
]
EVENTS = st.sampled_from(
    [("capture", "jump"), ("capture", "fail"), ("paint", "pass")]
    + [(stage, what) for stage in ("paint", "mend", "blend") for what in ("fail", "skip", CUT)]
    + [("mend", "replace"), ("blend", "replace")]
)


@settings(max_examples=25)
@given(
    script=st.dictionaries(st.integers(0, FRAMES - 1), EVENTS, max_size=10),
    delay=st.integers(1, 3),
    cut=st.sampled_from(CUTS),
    edge=st.sampled_from(EDGES),
)
@example(
    {0: ("capture", "jump"), 1: ("capture", "fail")}, 2, cut_at(3), ("mend", ("paint", "mend"))
)
@example({3: ("capture", "jump"), 4: ("blend", "fail")}, 2, cut_at(1, 2, 3, 4), EDGES[0])
@example({4: ("blend", CUT)}, 1, cut_at(1, 4), EDGES[0])
@example({4: ("mend", CUT)}, 2, cut_at(1, 2, 3, 4), EDGES[0])
@example(dict.fromkeys((3, 4, 5), ("blend", "fail")), 1, cut_at(1, 2, 4), EDGES[0])
def test_parts_make_what_one_process_makes_whatever_becomes_of_the_frames(script, delay, cut, edge):
    # One process does not look for a cut in a frame that lies behind another one already.
    assume(delay == 1 or len(script) == 1 or all(what != CUT for _, what in script.values()))
    whole = finish(runner_of(script, delay, *edge))
    parts = split(script, delay, cut, *edge)
    assert parts[-1].stage("output").shown == whole.stage("output").shown
    counts = [part.report().counts for part in parts]
    once = whole.report().counts
    assert sum(each.failed for each in counts) == once.failed
    dropped = sum(sum(each.dropped.values()) for each in counts)
    assert dropped == sum(once.dropped.values())
    assert counts[0].captured == counts[-1].emitted + dropped + once.failed


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_after_a_jump_so_many_frames_are_marked_as_have_a_past_from_before_it(delay):
    shown = finish(runner_of({5: ("capture", "jump")}, delay)).stage("output").shown
    marked = {seq for seq, _, is_cut, _ in shown if is_cut}
    assert marked == {*range(delay), *range(5, 5 + delay)}
    assert marked == {seq for seq, _, _, is_still in shown if is_still}


def test_the_script_of_the_parts_tells_frames_with_a_past_from_those_without():
    """What the test above compares depends on all that it is about."""
    plain = finish(runner_of({}, 1)).stage("output").shown
    assert plain != finish(runner_of({}, 2)).stage("output").shown
    for event in [("mend", "replace"), ("blend", "fail"), ("capture", "jump")]:
        other = finish(runner_of({4: event}, 1)).stage("output").shown
        assert [each for each in other if each[0] > 4] != [each for each in plain if each[0] > 4]
