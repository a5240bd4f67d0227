"""A video file as a sink: mp4 or mkv."""

from __future__ import annotations

import contextlib
import os
import struct
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, NamedTuple

import av
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from lsd.pipeline.errors import SinkError
from lsd.stages.sinks.files import check_writable, is_at
from lsd.stages.sinks.sink import Pixels, SinkSettings
from lsd.stages.uri import Uri

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
TICKS = 90_000  # a second; divides 24, 25, 30, 50 and 60 Hz and their NTSC twins
_TICK = Fraction(1, TICKS)
# The file is cut into pieces that play on their own, one a key frame, each
# written out when it is complete: a crash or a full disk costs the last second.
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_BOX = struct.Struct(">I4s")
_CLUSTERS = {"cluster_time_limit": "1000", "flush_packets": "1"}


class Codec(NamedTuple):
    """The encoders that can make a codec, and their options."""

    encoders: tuple[str, ...]
    live: dict[str, str]
    offline: dict[str, str]


# No B-frames: a picture is in the file as soon as it is encoded, and starts at 0.
CODECS = {
    "h264": Codec(
        ("libx264",),
        {"preset": "ultrafast", "tune": "zerolatency", "crf": "20"},
        {"preset": "veryfast", "crf": "18", "bf": "0"},
    ),
    "av1": Codec(
        ("libsvtav1", "libaom-av1"),
        {"preset": "11", "crf": "32", "svtav1-params": "pred-struct=1"},
        {"preset": "10", "crf": "28", "svtav1-params": "pred-struct=1"},
    ),
    "vp9": Codec(
        ("libvpx-vp9",),
        {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0", "lag-in-frames": "0"},
        {"deadline": "good", "cpu-used": "4", "crf": "28", "b": "0", "lag-in-frames": "0"},
    ),
}


class _Disk:
    """Our file, unbuffered, as libav gets it: a failed write is kept for us to raise.

    libav writes on after a failure, and PyAV prints a traceback for each
    further exception that it meets before it can raise the first.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None
        self._at = 0
        self.end = self.sound = self.heading = 0  # bytes: written; that play; before any picture
        self.tell = file.tell

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        try:
            while rest and self.error is None:
                count = self._file.write(rest)
                self._at, rest = self._at + count, rest[count:]
        except OSError as error:
            self.error = error
        self.end = max(self.end, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        if self.error is None:
            self._at = self._file.seek(offset, whence)
        return self._at

    def check(self) -> None:
        """Note that what was written so far plays.

        Raises:
            OSError: a write has failed.
        """
        if self.error is not None:
            raise self.error
        self.sound = self.end


class VideoFile:
    """Writes one video; the file is touched only when the first picture comes."""

    def __init__(self, path: Path, label: str, settings: SinkSettings) -> None:
        self.where = str(path)
        self._path, self._settings = path, settings
        self._encoder = _encoder(settings.codec, label)
        self._reformatter = VideoReformatter()
        self._file: IO[bytes] | None = None
        self._container: Any = None
        self._first_ns = 0
        self._last = -1
        self._step = round(TICKS / settings.rate_hz)
        self._count, self._per_second = 0, max(1, round(settings.rate_hz))
        # No two pictures at one time: mp4 counts in our ticks, Matroska in milliseconds.
        self._least = 1 if FORMATS[path.suffix.lower()] != "matroska" else TICKS // 1000
        check_writable(path, label)

    def write(self, pixels: Pixels, pts_ns: int) -> None:
        if self._container is None:
            self._start(self._path.open("wb", buffering=0))
            self._first_ns = pts_ns
        elif self._settings.live and self._count % self._per_second == 0:
            self._check_there()
        self._count += 1
        ticks = round((pts_ns - self._first_ns) * TICKS / 1_000_000_000)
        if self._last >= 0:
            ticks = max(ticks, self._last + self._least)
            self._step = ticks - self._last
        self._last = ticks
        # BT.709 and tagged so: untagged, players guess the matrix from the size.
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(pixels, format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.pts, frame.time_base, frame.duration = ticks, _TICK, self._step
        self._mux(self._stream.encode(frame), self._container)

    def close(self) -> None:
        container, file = self._container, self._file
        if container is None or file is None:
            return
        self._container = None
        try:
            self._mux(self._stream.encode(None), container)
            container.close()
            self._disk.check()
            file.close()
        finally:
            # After a failed write these fail again; the first error is the one to tell.
            with contextlib.suppress(OSError, ValueError):
                container.close()
            with contextlib.suppress(OSError):
                if self._disk.error is not None:
                    self._mend(file)
            with contextlib.suppress(OSError):
                file.close()

    def _mend(self, file: IO[bytes]) -> None:
        """Leave what plays of a file that a failed write has cut off; remove it if nothing does."""
        end = self._disk.sound
        if FORMATS[self._path.suffix.lower()] == "mp4":
            end = _end_of_fragments(self._path, end)
        file.truncate(end)
        if end <= self._disk.heading and is_at(self._path, file):
            self._path.resolve().unlink()

    def _start(self, file: IO[bytes]) -> None:
        """Open the container on `file`.

        Our own file instead of a path: libav would report a full disk only
        when its buffer is next flushed.
        """
        settings = self._settings
        self._file = file
        os.environ.setdefault("SVT_LOG", "1")  # else its AV1 encoder prints a page to stderr
        name = FORMATS[self._path.suffix.lower()]
        pieces = _CLUSTERS if name == "matroska" else _FRAGMENTS
        self._disk = _Disk(file)
        self._container = av.open(self._disk, "w", format=name, options=pieces)
        codec = CODECS[settings.codec]
        options = codec.live if settings.live else codec.offline
        self._stream = self._container.add_stream(
            self._encoder, rate=Fraction(settings.rate_hz).limit_denominator(1001), options=options
        )
        self._stream.width, self._stream.height = settings.size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = _TICK
        context.gop_size = self._per_second  # a key frame, so a fragment, a second
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = 1  # 16 to 235
        context.thread_count = 1 if settings.live else 0  # live, the other core is the network's
        self._container.start_encoding()
        self._disk.heading = self._disk.end

    def _check_there(self) -> None:
        """Refuse to write to a file that has no name any more: the kernel would let us.

        Raises:
            SinkError: it was removed, or another is in its place.
        """
        assert self._file is not None, "a check before the first picture"
        if not is_at(self._path, self._file):
            raise SinkError("the file was removed or moved away")

    def _mux(self, packets: list[Any], container: Any) -> None:
        container.mux(packets)
        self._disk.check()


def _end_of_fragments(path: Path, begin: int) -> int:
    """Return where the last whole fragment of an mp4 ends.

    A file is boxes, each with its size and kind in front (ISO/IEC 14496-12); a fragment is a
    `moof` that says what the `mdat` behind it holds.

    Args:
        path: the file.
        begin: where a box begins.
    """
    with path.open("rb") as file:
        size, at, whole = os.fstat(file.fileno()).st_size, begin, begin
        while at + 8 <= size:
            file.seek(at)
            length, kind = _BOX.unpack(file.read(_BOX.size))
            at += length
            if length < _BOX.size or at > size:
                break
            whole = at if kind == b"mdat" else whole
    return whole


def open_sink(uri: Uri, settings: SinkSettings) -> VideoFile:
    """Prepare the video file at `uri`.

    Raises:
        SinkError: it cannot be written, or there is no encoder for the codec.
    """
    path = Path(uri.rest).expanduser()
    if settings.part > 1:
        path = path.with_name(f"{path.stem}-part{settings.part}{path.suffix}")
    return VideoFile(path, uri.text, settings)


def _encoder(codec: str, label: str) -> str:
    """Return the first encoder for `codec` that this PyAV has."""
    for name in CODECS[codec].encoders:
        if name in av.codecs_available:
            return name
    raise SinkError(f"{label}: this PyAV has no encoder for {codec}; set codec: h264")
