"""A video file as a source."""

from __future__ import annotations

from pathlib import Path

import av

from lsd.pipeline.errors import SourceError
from lsd.pipeline.stage import Context
from lsd.stages.sources.decoder import Decoder
from lsd.stages.sources.shot import Shot
from lsd.stages.uri import Uri

# A container may count a picture or two that the codec never shows.
_SPARE = 2


class VideoFile:
    """Plays a file; with `loop` again and again, the time running on."""

    timed = True

    def __init__(self, path: Path, label: str, context: Context, *, loop: bool) -> None:
        self._path, self._label = path, label
        self._context, self._loop = context, loop
        self._base_ns = 0
        self._decoder = _open(path, label)
        self.period_ns = self._decoder.period_ns
        # The first picture is decoded here, so that a file without one fails at
        # the start and not in the middle of a run.
        self._first: Shot | None = self._decoder.read()
        if self._first is None:
            self._decoder.close()
            why = f"; {self._decoder.error}" if self._decoder.error else ""
            raise SourceError(f"{label}: not a video that can be read (no picture decodes{why})")
        self._declared = self._decoder.declared()

    def read(self) -> Shot | None:
        first, self._first = self._first, None
        if first is not None:
            return first
        shot = self._decoder.read()
        if shot is None:
            self._report_damage()
            shot = self._rewind() if self._loop else None
        if shot is None:
            return None
        return shot._replace(pts_ns=self._base_ns + shot.pts_ns)

    def expected(self) -> int | None:
        return None if self._loop else self._declared

    def close(self) -> None:
        self._decoder.close()

    def _rewind(self) -> Shot | None:
        self._base_ns += self._decoder.end_ns()
        self._decoder.close()
        # Opening again works for every format; seeking does not.
        self._decoder = _open(self._path, self._label)
        return self._decoder.read()

    def _report_damage(self) -> None:
        decoder, warn = self._decoder, self._context.warn
        if decoder.damaged:
            self._context.counters["capture", "damaged_packet"] += decoder.damaged
            warn(f"{self._label}: {decoder.damaged} damaged packets were skipped")
        duration = decoder.duration_ns() or 0
        missing = duration - decoder.end_ns()
        if self._declared and missing > _SPARE * decoder.period_ns:
            warn(
                f"{self._label}: ended after {decoder.count} of {self._declared} pictures; "
                "the file is truncated or damaged"
            )
        elif decoder.error:
            warn(f"{self._label}: ended early after {decoder.count} pictures ({decoder.error})")


def open_source(uri: Uri, context: Context, loop: bool) -> VideoFile:
    """Open the file at a path or a file:// URI.

    Raises:
        SourceError: it is not there, cannot be read, or is not a video.
    """
    return VideoFile(Path(uri.rest), uri.text, context, loop=loop)


def _open(path: Path, label: str) -> Decoder:
    # `file:` keeps libav from taking a name with a colon for a protocol.
    try:
        container = av.open(f"file:{path}")
    except FileNotFoundError as error:
        raise SourceError(f"{label}: there is no such file{_beside(path)}") from error
    except av.InvalidDataError as error:
        raise SourceError(f"{label}: not a video ({_guess(path)})") from error
    except (OSError, av.FFmpegError) as error:
        raise SourceError(f"{label}: cannot be opened ({error.strerror or error})") from error
    if container.format.name == "tty":  # libav renders text files as terminal pictures
        container.close()
        raise SourceError(f"{label}: not a video ({_guess(path)})")
    return Decoder(container, label, live=False)


def _beside(path: Path) -> str:
    """Say what is there instead."""
    folder = path.parent
    if not folder.is_dir():
        return f" (the folder {folder} is missing too)"
    same = sorted(p.name for p in folder.iterdir() if p.suffix == path.suffix and p.is_file())
    return f"; the folder holds {', '.join(same[:4])}" if same else ""


def _guess(path: Path) -> str:
    """Say what the file seems to be, from its first bytes."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return "the file is empty"
    if head[4:8] == b"ftyp":
        return "an MP4 without its index: it is truncated, or was never finished"
    if _is_text(head):
        return "it holds text"
    return "no known container format; a truncated file looks like this too"


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", "replace")
    return all(c.isprintable() or c.isspace() for c in text) and "\ufffd" not in text[:-1]
