"""Pictures out of a PyAV container: file, camera or stream."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from lsd.pipeline.errors import SourceError
from lsd.stages.sources.shot import Pixels, Shot

# A damaged container may find its way again; after so many failures in a row
# it is not going to.
_PATIENCE = 64
_FALLBACK_RATE = Fraction(25)


class Decoder:
    """Reads one container from its start to its end.

    Packets that do not decode are skipped and counted. Rotation metadata,
    pixels that are not square and every pixel format that swscale knows (grey,
    10 bit, ...) come out as upright uint8 RGB.

    Args:
        container: what `av.open` returned; closed by `close`.
        label: the input as the user named it, for messages.
        live: True: as few pictures as possible wait inside the codec.

    Attributes:
        damaged: packets that did not decode.
        count: pictures that did.
        error: why it ended, where that was not simply the end; else "".

    Raises:
        SourceError: the container holds no video.
    """

    def __init__(self, container: Any, label: str, *, live: bool) -> None:
        self._container = container
        self._stream = _video_stream(container, label)
        # Frame threads decode ahead, which costs a picture of latency each.
        self._stream.thread_type = "SLICE" if live else "AUTO"
        self._reformatter = VideoReformatter()
        self._frames = self._decode()
        rate = self._stream.average_rate or self._stream.guessed_rate or _FALLBACK_RATE
        self.period_ns = round(1_000_000_000 / rate)
        self._first_pts: int | None = None
        self._last_ns = -self.period_ns
        self.damaged = 0
        self.count = 0
        self.error = ""

    def read(self) -> Shot | None:
        """Return the next picture, or None at the end; `error` may say why."""
        frame = next(self._frames, None)
        if frame is None:
            return None
        pts_ns = self._time_of(frame)
        self._last_ns = pts_ns
        self.count += 1
        return Shot(self._pixels_of(frame), pts_ns, discontinuity=self.count == 1)

    def declared(self) -> int | None:
        """Return how many pictures the header promises, None if it does not say."""
        if self._stream.frames:
            return int(self._stream.frames)
        duration = self.duration_ns()
        return round(duration / self.period_ns) if duration else None

    def duration_ns(self) -> int | None:
        """Return how long the video lasts as far as the header knows, else None."""
        if self._stream.duration:
            duration = _nanoseconds(self._stream.duration, self._stream.time_base)
        elif self._container.duration and len(self._container.streams) == 1:
            duration = int(self._container.duration) * 1000
        else:
            return None
        # Matroska counts from 0, even where the first picture is later.
        is_end = self._container.format.name.startswith("matroska")
        begin = _nanoseconds(self._first_pts or 0, self._stream.time_base) if is_end else 0
        return max(0, duration - begin)

    def is_segmented(self) -> bool:
        """Return whether it arrives in pieces of several seconds (HLS, DASH)."""
        return self._container.format.name in ("hls", "dash")

    def end_ns(self) -> int:
        """Return when the last picture that was read is over."""
        return self._last_ns + self.period_ns

    def close(self) -> None:
        self._frames.close()
        self._container.close()

    def _decode(self) -> Generator[Any]:
        failures = 0
        while failures < _PATIENCE:
            try:
                for packet in self._container.demux(self._stream):
                    try:
                        frames = packet.decode()
                    except av.FFmpegError:
                        self.damaged += 1
                        continue
                    failures = 0
                    yield from frames
                return
            except av.InvalidDataError as error:
                failures += 1
                self.error = str(error.strerror)
            except (OSError, av.FFmpegError) as error:
                self.error = str(error.strerror or error)
                return

    def _time_of(self, frame: Any) -> int:
        """Return the picture's time from 0; a broken time stamp is made up."""
        if frame.pts is None:
            return self.end_ns()
        if self._first_pts is None:
            self._first_pts = frame.pts
        base = frame.time_base or self._stream.time_base
        pts_ns = _nanoseconds(frame.pts - self._first_pts, base)
        return pts_ns if pts_ns > self._last_ns else self.end_ns()

    def _pixels_of(self, frame: Any) -> Pixels:
        aspect = self._stream.sample_aspect_ratio
        width = frame.width
        if aspect and Fraction(1, 8) < aspect < 8:
            width = max(1, round(frame.width * aspect))
        # threads=1: the second core is the network's.
        rgb = self._reformatter.reformat(frame, width=width, format="rgb24", threads=1)
        # The display matrix counts counter-clockwise, as rot90 does.
        return np.rot90(rgb.to_ndarray(), round(frame.rotation / 90))


def _video_stream(container: Any, label: str) -> Any:
    """Return the first moving-picture stream; a song's cover picture is none."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    container.close()
    raise SourceError(f"{label}: not a video (there is no video stream in it)")


def _nanoseconds(ticks: int, base: Fraction) -> int:
    return round(ticks * base * 1_000_000_000)
