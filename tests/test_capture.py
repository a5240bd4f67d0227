"""The capture stage: pictures at the pipeline's size and pace, with their motion."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import PERIOD_NS, context, frame_of, write_video
from pydantic import ValidationError

import lsd.stages.capture
from lsd.pipeline.clock import ManualClock
from lsd.pipeline.errors import SourceError
from lsd.pipeline.frame import FrameFlag
from lsd.pipeline.stage import Captured, Context, SourceStage
from lsd.stages.capture import Capture, CaptureOptions
from lsd.stages.sources.shot import Shot

MS = 1_000_000


def opened(ctx: Context) -> Capture:
    capture = Capture("capture")
    capture.open(ctx)
    return capture


def read_all(capture: Capture) -> list[Captured]:
    return list(iter(capture.read, None))


def test_capture_is_a_source_stage() -> None:
    assert isinstance(Capture("capture"), SourceStage)


def test_picture_is_uint8_nhwc_at_the_pipelines_size() -> None:
    capture = opened(context(size=(96, 64), input="test://bars?size=17x31"))
    captured = capture.read()
    assert captured.picture.shape == (1, 64, 96, 3)
    assert captured.picture.dtype == torch.uint8


def test_fit_rule_is_the_users() -> None:
    padded = opened(context(fit="pad", input="test://checker?size=128x32")).read().picture
    assert (padded[0, 0] == 0).all()
    cropped = opened(context(fit="crop", input="test://checker?size=128x32")).read().picture
    assert (cropped[0, 0] > 0).all()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tset://bars", r"unknown kind of input 'tset://'; did you mean 'test'\?"),
        ("asset://citty", r"there is no such clip; did you mean 'city'\?"),
        ("test://bras", r"no such test pattern; did you mean 'bars'\?"),
        ("test://bars?rate=fast", "rate is 'fast', expected pictures a second"),
        ("v4l2:///dev/video0?size=big", "size is 'big', expected such as 640x480"),
        ("", "is empty; name a file"),
    ],
)
def test_impossible_input_is_found_without_opening_it(text: str, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        CaptureOptions(kind="capture", input=text)


@pytest.mark.parametrize("text", ["nosuch.mp4", "dshow://Cam", "rtsp://nowhere/x", "/dev/video9"])
def test_input_that_may_be_on_another_machine_passes_the_check(text: str) -> None:
    assert CaptureOptions(kind="capture", input=text).input == text


def test_file_to_file_hands_over_every_picture_with_its_own_time(tmp_path: Path) -> None:
    ticks = [0, 10, 20, 200, 210, 500]  # in part far above rate_hz
    path = write_video(tmp_path / "a.mkv", count=6, ticks=ticks)
    clock = ManualClock(start_ns=7)
    captured = read_all(opened(context(input=str(path), clock=clock)))
    assert [c.pts_ns // MS for c in captured] == ticks
    assert clock.now_ns() == 7  # waited for nothing


def test_live_file_plays_at_its_own_speed(tmp_path: Path) -> None:
    ticks = [0, 40, 80, 200, 500]
    path = write_video(tmp_path / "a.mkv", count=5, ticks=ticks)
    clock = ManualClock(start_ns=1000 * MS)
    captured = read_all(opened(context(live=True, input=str(path), clock=clock)))
    assert [c.pts_ns // MS for c in captured] == [1000 + tick for tick in ticks]
    assert clock.now_ns() == 1500 * MS


def test_live_source_is_thinned_to_the_rate() -> None:
    ctx = context(live=True, input="test://bars?rate=60&frames=600")
    capture = opened(ctx)
    assert capture.expected_frames() == 250
    assert len(read_all(capture)) == pytest.approx(250, abs=2)


def test_without_realtime_a_file_gives_one_picture_a_tick() -> None:
    clock = ManualClock()
    ctx = context(live=True, realtime=False, input="test://bars?rate=100&frames=5", clock=clock)
    capture = opened(ctx)
    assert capture.expected_frames() == 5
    assert [c.pts_ns for c in read_all(capture)] == [i * PERIOD_NS for i in range(5)]


def test_only_the_first_picture_is_a_discontinuity() -> None:
    captured = read_all(opened(context(input="test://bars?frames=3")))
    assert [c.discontinuity for c in captured] == [True, False, False]


class JumpingSource:
    """Jumps at 45 ms, with a picture that comes too soon to be wanted."""

    timed = True
    period_ns = PERIOD_NS

    def __init__(self) -> None:
        pixels = np.zeros((64, 64, 3), np.uint8)
        self._shots = [Shot(pixels, ms * MS, ms in (0, 45)) for ms in (0, 40, 45, 80, 120)]

    def read(self) -> Shot | None:
        return self._shots.pop(0) if self._shots else None


def test_thinned_out_discontinuity_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lsd.stages.capture, "open_source", lambda *_, **__: JumpingSource())
    captured = read_all(opened(context(live=True)))
    assert [c.pts_ns // MS for c in captured] == [0, 40, 80, 120]
    assert [c.discontinuity for c in captured] == [True, False, True, False]


def test_stop_ends_the_reading() -> None:
    ctx = context(live=True, input="test://bars")
    capture = opened(ctx)
    capture.read()
    ctx.stopping.set()
    assert capture.read() is None


def test_motion_runs_from_the_last_admitted_picture() -> None:
    ctx = context(size=(128, 128), input="test://moving?size=128x128")
    capture = opened(ctx)
    first, _, third = (capture.read() for _ in range(3))
    assert capture.process(frame_of(first, ctx)).motion is None
    frame = capture.process(frame_of(third, ctx, seq=2))
    assert frame.motion.shape == (1, 128, 128, 2)
    assert frame.motion.dtype == torch.float32
    # Two steps of (3, -1), since the picture between was dropped.
    median = frame.motion[0, 16:-16, 16:-16].flatten(0, 1).median(0).values
    assert median.tolist() == pytest.approx([-6, 2], abs=0.3)
    assert frame.flags == FrameFlag.NONE


@pytest.mark.parametrize(("live", "first"), [(False, 3), (True, 0)])
def test_a_successor_reads_no_picture_of_a_file_again(tmp_path: Path, live, first) -> None:
    video = str(write_video(tmp_path / "a.mp4", count=5))
    whole = opened(context(input=video))
    pictures = [whole.read() for _ in range(5)]
    ctx = context(input=video, live=live)
    ctx.captured_before = 3
    successor = opened(ctx)
    got = successor.read()
    assert got is not None
    assert torch.equal(got.picture, pictures[first].picture)
    if not live:
        assert got.pts_ns == pictures[3].pts_ns
        assert successor.read() is not None
        assert successor.read() is None


def test_a_successor_leaves_out_no_picture_of_a_camera(monkeypatch) -> None:
    class Camera:
        timed = False
        stamps = itertools.count()

        def read(self) -> Shot:
            return Shot(np.zeros((4, 4, 3), np.uint8), next(self.stamps), discontinuity=True)

    monkeypatch.setattr(lsd.stages.capture, "open_source", lambda *_, **__: Camera())
    ctx = context(input="v4l2:///dev/video0")
    ctx.captured_before = 3
    got = opened(ctx).read()
    assert got is not None
    assert got.pts_ns == 0


def test_discontinuity_has_no_motion() -> None:
    ctx = context(input="test://moving")
    capture = opened(ctx)
    capture.process(frame_of(capture.read(), ctx))
    jumped = capture.read()._replace(discontinuity=True)
    assert capture.process(frame_of(jumped, ctx)).motion is None


def test_cut_is_flagged_as_a_discontinuity() -> None:
    ctx = context(input="test://moving?seed=1")
    capture = opened(ctx)
    capture.process(frame_of(capture.read(), ctx))
    other = opened(context(input="test://bars")).read()._replace(discontinuity=False)
    frame = capture.process(frame_of(other, ctx))
    assert frame.motion is None
    assert FrameFlag.DISCONTINUITY in frame.flags


def test_process_keeps_the_frames_identity() -> None:
    ctx = context(input="test://bars")
    capture = opened(ctx)
    frame = frame_of(capture.read(), ctx, seq=41)
    out = capture.process(frame)
    assert (out.seq, out.pts_ns, out.source) == (41, frame.pts_ns, frame.source)


def test_missing_input_ends_the_start() -> None:
    capture = Capture("capture")
    with pytest.raises(SourceError, match=r"nosuch\.mp4: there is no such file"):
        capture.open(context(input="nosuch.mp4"))
    capture.close()


def test_close_may_be_called_twice(tmp_path: Path) -> None:
    capture = opened(context(input=str(write_video(tmp_path / "a.mp4", count=2))))
    capture.close()
    capture.close()
    assert capture.read() is None
