"""The output stage: one conversion, every sink on its own, failures dropped."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import PERIOD_NS, context, read_video, tensor_frame
from pydantic import ValidationError

import lsd.stages.output
import lsd.stages.sinks.writer
from lsd.pipeline.errors import ShapeError, SinkError
from lsd.pipeline.frame import TENSOR
from lsd.pipeline.stage import Context, SinkStage, StandInStage
from lsd.stages.output import Output, OutputOptions
from lsd.stages.sinks.claim import Claim
from lsd.stages.sinks.sink import SinkSettings
from lsd.stages.sinks.table import written_path

FULL = OSError(errno.ENOSPC, "No space left on device")


class Collecting:
    """A sink that keeps what it gets; `before` may raise or block."""

    def __init__(self, before: Callable[[int], None] = lambda n: None) -> None:
        self.where = "memory"
        self.levels: list[int] = []
        self.times: list[int] = []
        self.is_closed = False
        self.close_error: Exception | None = None
        self._before = before

    def write(self, pixels: np.ndarray, pts_ns: int) -> None:
        self._before(len(self.levels))
        self.levels.append(int(pixels[0, 0, 0]))
        self.times.append(pts_ns)

    def close(self) -> None:
        self.is_closed = True
        if self.close_error:
            raise self.close_error


def fails_at(count: int) -> Callable[[int], None]:
    def before(n: int) -> None:
        if n == count:
            raise FULL

    return before


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Output, Context]]:
    """Open an output stage on the given sinks, called a.mp4, b.mp4, ..."""

    def open_on(*sinks: Collecting, live: bool = False) -> tuple[Output, Context]:
        names = {f"{letter}.mp4": sink for letter, sink in zip("abc", sinks, strict=False)}
        monkeypatch.setattr(lsd.stages.output, "open_sink", lambda text, _: names[text])
        ctx = context(live=live, outputs=list(names))
        output = Output("output")
        output.open(ctx)
        return output, ctx

    return open_on


def feed_until_failure(output: Output, ctx: Context, count: int = 100_000) -> None:
    """Give frames until the failed sink is noticed, which is up to its own thread."""
    for index in range(count):
        output.process(tensor_frame(index, ctx))
        if ctx.messages:
            return
    raise AssertionError("the failure was never reported")


def test_output_is_a_sink_stage_that_takes_tensors() -> None:
    assert isinstance(Output("output"), SinkStage)
    assert Output.accepts == TENSOR


def test_every_sink_gets_every_picture_in_order(opened: Callable) -> None:
    sinks = Collecting(), Collecting()
    output, ctx = opened(*sinks)
    for index, grey in enumerate((-1.0, 0.0, 1.0)):
        output.process(tensor_frame(index, ctx, grey=grey))
    output.close()
    for sink in sinks:
        assert sink.levels == [0, 128, 255]
        assert sink.times == [0, PERIOD_NS, 2 * PERIOD_NS]
        assert sink.is_closed


def test_file_to_file_waits_for_a_slow_sink(opened: Callable) -> None:
    gate = threading.Event()
    slow = Collecting(before=lambda n: gate.wait(5) and None)
    output, ctx = opened(slow)
    threading.Timer(0.02, gate.set).start()
    for index in range(40):  # more than the queue holds
        output.process(tensor_frame(index, ctx))
    output.close()
    assert len(slow.times) == 40


def test_kill_ends_the_wait_for_a_slow_sink(opened: Callable) -> None:
    gate = threading.Event()
    stuck = Collecting(before=lambda n: gate.wait(5) and None)
    output, ctx = opened(stuck)
    threading.Timer(0.02, ctx.stopping.set).start()
    for index in range(40):
        output.process(tensor_frame(index, ctx))
    gate.set()
    output.close()
    assert ctx.counters["output", "lost_by_sink"] > 0


def test_live_nobody_waits_for_a_slow_sink(opened: Callable) -> None:
    gate = threading.Event()
    slow, quick = Collecting(before=lambda n: gate.wait(5) and None), Collecting()
    output, ctx = opened(slow, quick, live=True)
    for index in range(40):
        output.process(tensor_frame(index, ctx))
    gate.set()
    output.close()
    assert slow.times[-1] == 39 * PERIOD_NS  # the newest is never the one that is lost
    assert len(slow.times) < 40
    lost = 80 - len(slow.times) - len(quick.times)
    assert ctx.counters["output", "lost_by_sink"] == lost


def test_failing_sink_is_reported_and_dropped_and_the_others_go_on(opened: Callable) -> None:
    broken, good = Collecting(fails_at(3)), Collecting()
    output, ctx = opened(broken, good)
    feed_until_failure(output, ctx)
    output.process(tensor_frame(200_000, ctx))
    output.close()
    assert ctx.messages == ["a.mp4: the disk is full, after 3 pictures; the other outputs go on"]
    assert ctx.counters["output", "sink_failed"] == 1
    assert broken.is_closed
    assert good.times[-1] == 200_000 * PERIOD_NS


def feed_until(output: Output, ctx: Context, condition: Callable[[], bool]) -> int:
    """Give frames until something has happened in a sink's own thread; return how many."""
    give_up = time.monotonic() + 60
    index = 0
    while not condition():
        assert time.monotonic() < give_up, ctx.messages
        output.process(tensor_frame(index, ctx))
        index += 1
        time.sleep(0.001)
    return index


def test_live_a_failed_sink_is_tried_again_until_it_works(
    opened: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lsd.stages.sinks.writer, "FIRST_WAIT_S", 0.001)
    broken, good = Collecting(fails_at(3)), Collecting()
    output, ctx = opened(broken, good, live=True)
    full, second = Collecting(fails_at(0)), Collecting()
    made = iter([SinkError("no such folder"), full, second])
    asked = []

    def reopen(text: str, settings: SinkSettings) -> Collecting:
        asked.append((text, settings.part, settings.first))
        sink = next(made)
        if isinstance(sink, Exception):
            raise sink
        return sink

    monkeypatch.setattr(lsd.stages.output, "open_sink", reopen)
    seen = []

    def is_back() -> bool:
        seen.append([text for text, _ in ctx.troubles.values()])
        return len(ctx.messages) == 2

    fed = feed_until(output, ctx, is_back)
    assert seen[-2] == ["is without 1 of 2 outputs"]
    assert seen[0] == seen[-1] == []
    output.close()
    assert ctx.messages == [
        "a.mp4: the disk is full, after 3 pictures; the other outputs go on and it is tried again",
        "a.mp4: goes on, in memory",
    ]
    # what took no picture leaves no part behind
    assert asked == [("a.mp4", 2, 3)] * 3
    assert broken.is_closed
    assert full.is_closed
    assert second.is_closed
    written = len(broken.times) + len(second.times) + len(good.times)
    assert ctx.counters["output", "lost_by_sink"] == 2 * fed - written
    assert ctx.counters["output", "sink_failed"] == 1
    assert second.times[-1] == (fed - 1) * PERIOD_NS


def test_live_the_end_does_not_wait_for_a_sink_that_is_away(opened: Callable) -> None:
    broken, good = Collecting(fails_at(3)), Collecting()
    output, ctx = opened(broken, good, live=True)
    fed = feed_until(output, ctx, lambda: bool(ctx.messages))
    output.close()  # long before the next attempt
    assert ctx.counters["output", "lost_by_sink"] == 2 * fed - 3 - len(good.times)


def test_live_a_removed_folder_is_made_again_and_the_files_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lsd.stages.sinks.writer, "FIRST_WAIT_S", 0.001)
    names = [f"{tmp_path}/films/a.mkv", f"{tmp_path}/pictures/%03d.png", "null://"]
    ctx = context(live=True, outputs=names)
    output = Output("output")
    output.open(ctx)
    last = tmp_path / "pictures" / "003.png"
    feed_until(output, ctx, lambda: last.exists() and (tmp_path / "films" / "a.mkv").exists())
    for folder in ("films", "pictures"):
        (tmp_path / folder).rename(tmp_path / f"{folder}-gone")  # at once, while it is written to
    feed_until(output, ctx, lambda: len(ctx.messages) == 4)
    output.close()
    assert sorted(path.name for path in (tmp_path / "films").iterdir()) == ["a-part2.mkv"]
    assert read_video(tmp_path / "films" / "a-part2.mkv")
    numbers = sorted(int(path.stem) for path in (tmp_path / "pictures").glob("*.png"))
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[0] > 3, "no number twice"
    assert "the file was removed or moved away" in " ".join(ctx.messages)


def test_last_sinks_failure_ends_the_run(opened: Callable) -> None:
    output, ctx = opened(Collecting(fails_at(0)))
    with pytest.raises(SinkError, match=r"^a\.mp4: the disk is full, after 0 pictures$"):
        feed_until_failure(output, ctx)
    output.close()


def test_all_failures_are_told(opened: Callable) -> None:
    output, ctx = opened(Collecting(fails_at(0)), Collecting(fails_at(9)))
    complaint = r"no output is left: .*a\.mp4.*; b\.mp4: the disk is full, after 9 pictures"
    with pytest.raises(SinkError, match=complaint):  # noqa: PT012 - which frame is up to the thread
        for index in range(100_000):
            output.process(tensor_frame(index, ctx))
    output.close()


def test_failure_at_the_end_is_not_lost(opened: Callable) -> None:
    sink = Collecting()
    sink.close_error = FULL
    output, ctx = opened(sink)
    output.process(tensor_frame(0, ctx))
    with pytest.raises(SinkError, match="the disk is full, after 1 pictures"):
        output.close()


def test_unforeseen_failure_of_a_sink_does_not_block_the_run(opened: Callable) -> None:
    def explode(n: int) -> None:
        raise RuntimeError

    output, ctx = opened(Collecting(explode), Collecting())
    for index in range(40):  # more than a writer's queue holds
        output.process(tensor_frame(index, ctx))
    output.close()
    assert ctx.messages == ["a.mp4: RuntimeError, after 0 pictures; the other outputs go on"]


def test_picture_of_another_size_is_refused_before_the_sinks(opened: Callable) -> None:
    sink = Collecting()
    output, ctx = opened(sink)
    frame = tensor_frame(0, ctx)
    with pytest.raises(ShapeError, match=r"got a picture of shape \[1, 3, 8, 8\], expected \[1, 3"):
        output.process(replace(frame, data=frame.data[..., :8, :8]))
    output.process(frame)
    output.close()
    assert len(sink.levels) == 1


def test_repeat_emits_the_last_picture_with_its_own_time(opened: Callable) -> None:
    sink = Collecting()
    output, ctx = opened(sink, live=True)
    assert not output.repeat(5)
    output.process(tensor_frame(0, ctx, grey=1.0))
    assert output.repeat(PERIOD_NS)
    output.close()
    assert sink.levels == [255, 255]
    assert sink.times == [0, PERIOD_NS]


def test_passthrough_emits_the_captured_picture_and_a_repeat_still_the_last(
    opened: Callable,
) -> None:
    sink = Collecting()
    output, ctx = opened(sink, live=True)
    output.process(tensor_frame(0, ctx, grey=1.0))
    captured = torch.full((1, 64, 64, 3), 77, dtype=torch.uint8)
    output.passthrough(captured, PERIOD_NS)
    output.repeat(2 * PERIOD_NS)
    output.close()
    assert isinstance(output, StandInStage)
    assert sink.levels == [255, 77, 255]
    assert sink.times == [0, PERIOD_NS, 2 * PERIOD_NS]


def test_interpolation_emits_the_last_picture_moved_and_keeps_it(opened: Callable) -> None:
    sink = Collecting()
    output, ctx = opened(sink, live=True)
    assert not output.interpolate(PERIOD_NS)
    frame = tensor_frame(0, ctx)
    output.process(frame)
    assert not output.interpolate(PERIOD_NS)  # one picture alone does not move
    ramp = torch.arange(64) / 63 * 2 - 1  # from left to right, 4 or 5 levels a pixel
    motion = torch.zeros(1, 64, 64, 2)
    motion[..., 0] = 10  # what is at x now was at x + 10: it goes left
    moving = replace(tensor_frame(1, ctx), data=ramp.expand(1, 3, 64, 64), motion=motion)
    output.process(moving)
    for ahead in (2, 3, 1):  # the last: not behind the picture itself
        assert output.interpolate(ahead * PERIOD_NS) is (ahead > 1)
    output.repeat(9 * PERIOD_NS)
    output.close()
    levels = torch.round(torch.arange(64) / 63 * 255)
    assert sink.levels[1:] == [0, levels[10], levels[20], 0]


def test_failed_open_closes_the_sinks_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Collecting()

    def open_sink(text: str, settings: object) -> Collecting:
        if text == "a.mp4":
            return first
        raise SinkError("b.mp4: cannot be written")

    monkeypatch.setattr(lsd.stages.output, "open_sink", open_sink)
    output = Output("output")
    with pytest.raises(SinkError, match=r"b\.mp4: cannot be written"):
        output.open(context(outputs=["a.mp4", "b.mp4"]))
    output.close()
    assert first.is_closed


def test_impossible_outputs_are_found_without_opening_them() -> None:
    outputs = ["a.mp4", "a.avi", "mjpg://127.0.0.1", "mjpeg://0.0.0.0:80", "x.png", "null://x", ""]
    with pytest.raises(ValidationError) as caught:
        OutputOptions(kind="output", outputs=outputs)
    complaints = {error["loc"][1]: error["msg"] for error in caught.value.errors()}
    assert sorted(complaints) == [1, 2, 3, 4, 5, 6]
    assert "unknown kind of output file '.avi'; write .mp4" in complaints[1]
    assert "did you mean 'mjpeg'?" in complaints[2]
    assert "to the whole network" in complaints[3]
    assert "holds no number" in complaints[4]


def test_real_files_come_out_together(tmp_path: Path) -> None:
    ctx = context(outputs=[f"{tmp_path}/a.mp4", f"{tmp_path}/frames/", "null://"])
    output = Output("output")
    output.open(ctx)
    for index in range(5):
        output.process(tensor_frame(index, ctx))
    output.close()
    assert [time for _, time in read_video(tmp_path / "a.mp4")] == pytest.approx(
        [0.0, 0.04, 0.08, 0.12, 0.16]
    )
    assert len(list((tmp_path / "frames").iterdir())) == 5
    assert output.describe() == {
        "outputs": f"{tmp_path}/a.mp4, {tmp_path}/frames/%06d.png, null://"
    }


@pytest.mark.parametrize("as_output", ["{}/in.mp4", "{}/./in.mp4", "file://{}/in.mp4"])
def test_input_is_never_overwritten(tmp_path: Path, as_output: str) -> None:
    (tmp_path / "in.mp4").write_bytes(b"precious")
    ctx = context(input=f"{tmp_path}/in.mp4", outputs=[as_output.format(tmp_path)])
    with pytest.raises(SinkError, match="is the input itself; write to another place"):
        Output("output").open(ctx)
    assert (tmp_path / "in.mp4").read_bytes() == b"precious"


@pytest.mark.parametrize("as_output", ["{}/", "{}", "{}/%03d.png"])
def test_input_folder_is_never_written_into(tmp_path: Path, as_output: str) -> None:
    ctx = context(input=f"{tmp_path}/", outputs=[as_output.format(tmp_path)])
    with pytest.raises(SinkError, match="is the input itself"):
        Output("output").open(ctx)


def test_picture_that_is_the_input_is_not_written_over(tmp_path: Path) -> None:
    ctx = context(input=f"{tmp_path}/000001.png", outputs=[f"{tmp_path}/"])
    with pytest.raises(SinkError, match="is the input itself"):
        Output("output").open(ctx)


def test_folder_at_home_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "frames").mkdir()
    assert written_path("~/frames") == tmp_path / "frames" / "%06d.png"


@pytest.mark.parametrize(
    ("one", "other"),
    [("{}/a.mp4", "{}/../{}/a.mp4"), ("{}/f/", "{}/f/%06d.png"), ("{}/f/%06d.png", "file://{}/f/")],
)
def test_same_output_twice_is_refused(tmp_path: Path, one: str, other: str) -> None:
    ctx = context(outputs=[one.format(tmp_path), other.format(tmp_path, tmp_path.name)])
    with pytest.raises(SinkError, match="is named twice in outputs"):
        Output("output").open(ctx)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody is kept off")
@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("name", ["a.mp4", "frames/%03d.png", "frames/"])
def test_two_runs_do_not_write_to_one_place(tmp_path: Path, name: str, live: bool) -> None:
    """Before either has a picture, at another spelling, and when the first is in its next part."""
    text = f"{tmp_path}/{name}"
    ctx = context(outputs=[text], live=live)
    first, second = Output("output"), Output("output")
    first.open(ctx)
    other = context(outputs=["null://", f"{tmp_path}/../{tmp_path.name}/{name}"], live=live)
    with pytest.raises(SinkError, match=rf"another run \(pid {os.getpid()}\); end that one, or"):
        second.open(other)
    second.close()
    first.process(tensor_frame(0, ctx))
    first.close()
    third = Output("output")
    third.open(ctx)
    third.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody is kept off")
def test_who_is_killed_lets_go_of_its_outputs(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from lsd.stages.sinks.claim import Claim; "
        "claim = Claim(Path(sys.argv[1]), 'a.mp4'); print('taken', flush=True); input()"
    )
    path = tmp_path / "a.mp4"
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"taken\n"
    with pytest.raises(SinkError, match=rf"another run \(pid {holder.pid}\)"):
        Claim(path, "a.mp4")
    holder.kill()
    holder.communicate()
    Claim(path, "a.mp4").close()
