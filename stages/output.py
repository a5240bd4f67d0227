"""Output: where frames end; one conversion, any number of sinks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator

from lsd.pipeline.errors import ShapeError, SinkError
from lsd.pipeline.frame import TENSOR, Frame, FrameSpec, Picture
from lsd.pipeline.params import StageOptions, restart_field
from lsd.pipeline.stage import Context
from lsd.stages.carry import Carry
from lsd.stages.place import Landing
from lsd.stages.sinks.claim import Claim
from lsd.stages.sinks.sink import Pixels, Sink, SinkSettings
from lsd.stages.sinks.table import check_output, open_sink, written_path
from lsd.stages.sinks.writer import Reopen, Writer
from lsd.stages.sources.table import local_path as input_path

# A sink that needs longer than this to finish its file is left behind.
_FINISH_S = 30.0
_KILLED_S = 1.0


def _possible(text: str) -> str:
    try:
        check_output(text)
    except SinkError as error:
        # pydantic adds where it stands
        raise ValueError(str(error).removeprefix(f"{text}: ")) from error
    return text


class OutputOptions(StageOptions):
    """Options of the output stage."""

    outputs: list[Annotated[str, AfterValidator(_possible)]] = restart_field(
        ["null://"],
        "Where pictures go, any number at once: out/demo.mp4 or .mkv, a folder ending in / or a "
        "pattern such as frames/%06d.png, mjpeg://127.0.0.1:8090 (a page for the browser), null://",
        min_length=1,
    )
    codec: Literal["h264", "av1", "vp9"] = restart_field("h264", "How video files are encoded")


class Output:
    """Turns a frame into pixels once and hands it to every sink's own thread.

    Live, a sink that lags loses pictures and nobody waits for it; file to file,
    nothing is lost and the slowest sink sets the pace. A sink that fails is
    reported, and the others go on; live, it is tried again until it works.
    """

    Options: ClassVar[type[StageOptions]] = OutputOptions
    accepts: ClassVar[FrameSpec] = TENSOR
    returns: ClassVar[FrameSpec] = TENSOR
    devices = ("cpu", "cuda")

    def __init__(self, name: str) -> None:
        self.name = name
        self._landing: Landing | None = None
        self._writers: list[Writer] = []
        self._claims: list[Claim] = []
        self._away: set[Writer] = set()  # failed, and told
        self._where: list[str] = []
        self._last: Pixels | None = None
        self._carry = Carry()

    def open(self, context: Context) -> None:
        """Prepare every sink; files are not touched before the first picture.

        Raises:
            SinkError: one of them cannot be written, is the input, is named twice, or is being
                written by another run.
        """
        self._context = context
        self._landing = Landing(context)
        self._where = []
        options = context.params.of(self.name, OutputOptions)
        _refuse_collisions(options.outputs, context)
        settings = SinkSettings(context.size, context.rate_hz, context.live, options.codec)
        for text in options.outputs:
            path = written_path(text)
            if path is not None:
                self._claims.append(Claim(path, text))
            sink = open_sink(text, settings)
            reopen = _reopener(text, settings) if context.live else None
            writer = Writer(sink, text, live=context.live, stopping=context.stopping, reopen=reopen)
            self._writers.append(writer)
            self._where.append(sink.where)

    def process(self, frame: Frame, **delayed: Frame | None) -> Frame:
        """Hand the frame to the sinks.

        Args:
            frame: as `TENSOR`.

        Raises:
            ShapeError: a picture of another size, which no sink could take.
            SinkError: no sink is left.
        """
        width, height = self._context.size
        if frame.data.shape != (1, 3, height, width):
            raise ShapeError(
                f"got a picture of shape {list(frame.data.shape)}, expected [1, 3, {height}, "
                f"{width}]; a stage before this one changed it"
            )
        assert self._landing is not None, "process before open"
        self._last = self._landing.pixels(frame)
        self._carry.keep(self._last, frame)
        self._emit(self._last, frame.pts_ns)
        return frame

    def repeat(self, pts_ns: int) -> bool:
        """Emit the last picture again; False: there is none yet.

        Raises:
            SinkError: no sink is left.
        """
        if self._last is None:
            return False
        self._emit(self._last, pts_ns)
        return True

    def passthrough(self, source: Picture, pts_ns: int) -> None:
        """Emit a captured picture, uint8 [1, H, W, 3], as it is.

        Raises:
            SinkError: no sink is left.
        """
        self._emit(source[0].numpy(), pts_ns)

    def interpolate(self, pts_ns: int) -> bool:
        """Emit the last picture carried on to the time `pts_ns`; False: its motion is not known.

        Raises:
            SinkError: no sink is left.
        """
        pixels = self._carry.at(pts_ns)
        if pixels is None:
            return False
        self._emit(pixels, pts_ns)
        return True

    def describe(self) -> Mapping[str, str | int]:
        """Return where the pictures go, for the run's report."""
        return {"outputs": ", ".join(self._where)}

    def close(self) -> None:
        """Let every sink finish its file.

        Raises:
            SinkError: no sink could be finished, so that nothing (more) was written.
        """
        try:
            if self._landing is not None:
                self._landing.close()
        finally:
            try:
                self._finish()
            finally:
                for claim in self._claims:
                    claim.close()

    def _finish(self) -> None:
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.finish()
        for writer in writers:
            patience_s = _KILLED_S if self._context.stopping.is_set() else _FINISH_S
            if not writer.join(patience_s):
                self._context.warn(f"{writer.label}: still not finished after {patience_s:g} s")
            if writer.lost:
                self._context.counters[self.name, "lost_by_sink"] += writer.lost
        failed = [writer for writer in writers if writer.error]
        if failed and len(failed) == len(writers):
            raise _all_failed(failed)
        self._report(failed, "the other outputs go on")

    def _emit(self, pixels: Pixels, pts_ns: int) -> None:
        for writer in self._writers:
            writer.put(pixels, pts_ns)
        failed = [writer for writer in self._writers if writer.error]
        if failed and len(failed) == len(self._writers):
            self._writers = []
            for writer in failed:
                writer.finish()
            raise _all_failed(failed)
        again = " and it is tried again" if self._context.live else ""
        self._report(failed, f"the other outputs go on{again}")
        for writer in self._away.difference(failed):
            self._away.discard(writer)
            self._context.warn(f"{writer.label}: goes on, in {writer.where}")
        lost = f"is without {len(failed)} of {len(self._writers)} outputs" if failed else None
        self._context.trouble(self.name, lost)

    def _report(self, failed: list[Writer], what_now: str) -> None:
        for writer in failed:
            if writer not in self._away:
                self._away.add(writer)
                self._context.counters[self.name, "sink_failed"] += 1
                self._context.warn(f"{writer.error}; {what_now}")


def _reopener(text: str, settings: SinkSettings) -> Reopen:
    def reopen(part: int, written: int) -> Sink:
        return open_sink(text, settings._replace(part=part, first=written))

    return reopen


def _all_failed(failed: list[Writer]) -> SinkError:
    reasons = "; ".join(writer.error for writer in failed)
    return SinkError(f"no output is left: {reasons}" if len(failed) > 1 else reasons)


def _refuse_collisions(outputs: list[str], context: Context) -> None:
    """Refuse an output that is the input, or that is named twice."""
    sources = [_input_of(options) for options in context.params.stages.values()]
    seen: set[Path] = set()
    for text in outputs:
        path = written_path(text)
        if path is None:
            continue
        if path in seen:
            raise SinkError(f"{text}: is named twice in outputs")
        seen.add(path)
        if any(source is not None and _is_written(source, path) for source in sources):
            raise SinkError(f"{text}: is the input itself; write to another place")


def _is_written(source: Path, path: Path) -> bool:
    """Whether writing the file, or pictures of that pattern, may write what a stage reads."""
    if path.suffix.lower() != ".png":
        return source == path
    return path.parent == source or (path.parent, ".png") == (source.parent, source.suffix.lower())


def _input_of(options: StageOptions) -> Path | None:
    """Return the file or folder that a stage reads, if it reads one."""
    text = getattr(options, "input", None)
    path = input_path(text) if isinstance(text, str) else None
    return path.resolve() if path else None
