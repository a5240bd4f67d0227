"""Which module opens which output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from lsd.pipeline.errors import SinkError
from lsd.pipeline.suggest import did_you_mean
from lsd.stages.sinks import images, mjpeg, null, video
from lsd.stages.sinks.sink import Sink, SinkSettings
from lsd.stages.uri import Uri, parse_uri

Opener = Callable[[Uri, SinkSettings], Sink]

OPENERS: dict[str, Opener] = {"null": null.open_sink, "mjpeg": mjpeg.open_sink}


def open_sink(text: str, settings: SinkSettings) -> Sink:
    """Prepare the output that `text` names.

    Args:
        text: a path ending .mp4 or .mkv, a folder ending /, a pattern such as
            frames/%06d.png, null://, or mjpeg://127.0.0.1:8090.
        settings: what all outputs of the run have in common.

    Raises:
        SinkError: it cannot be written or is unknown; the message says why.
    """
    uri = _known_uri(text)
    if uri.scheme:
        return OPENERS[uri.scheme](uri, settings)
    return images.open_sink(uri, settings) if _is_pictures(uri) else video.open_sink(uri, settings)


def check_output(text: str) -> None:
    """Refuse an output that is wrong on every machine; nothing is opened.

    Raises:
        SinkError: an unknown kind, or a bad address.
    """
    uri = _known_uri(text)
    if uri.scheme == "mjpeg":
        mjpeg.address_of(uri)
    elif uri.scheme == "null":
        null.check(uri)
    elif _is_pictures(uri):
        images.pattern_of(uri)


def _known_uri(text: str) -> Uri:
    """Return what `text` names; a path has no scheme."""
    path = local_path(text)
    uri = parse_uri(text) if path is None else Uri(text, "", path, {})
    if uri.scheme and uri.scheme not in OPENERS:
        hint = did_you_mean(uri.scheme, OPENERS, "outputs are a path or one of")
        raise SinkError(f"{text}: unknown kind of output '{uri.scheme}://'; {hint}")
    suffix = Path(uri.rest).suffix.lower()
    if not (uri.scheme or _is_pictures(uri) or suffix in video.FORMATS):
        raise SinkError(
            f"{text}: unknown kind of output file {suffix!r}; write .mp4, .mkv, a folder ending "
            "in /, or a pattern such as frames/%06d.png"
        )
    return uri


def _is_pictures(uri: Uri) -> bool:
    path = Path(uri.rest).expanduser()
    return uri.rest.endswith("/") or path.suffix.lower() == ".png" or path.is_dir()


def local_path(text: str) -> str | None:
    """Return the path that an output names; None: it names none.

    Raises:
        SinkError: the text is empty.
    """
    if not text.strip():
        raise SinkError("output: is empty; name a file such as out/demo.mp4")
    uri = parse_uri(text)
    if uri.scheme == "file":
        return unquote(uri.rest)
    return uri.rest if uri.scheme == "" else None


def written_path(text: str) -> Path | None:
    """Return the file that an output writes, or its pictures' pattern; None: neither.

    A folder and the pattern in it are one.

    Raises:
        SinkError: the text is empty, or a pattern holds no number.
    """
    name = local_path(text)
    if name is None:
        return None
    uri = Uri(text, "", name, {})
    path = images.pattern_of(uri) if _is_pictures(uri) else Path(name).expanduser()
    return path.resolve()
