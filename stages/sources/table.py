"""Which module opens which input."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from urllib.parse import unquote

from lsd.pipeline.errors import SourceError
from lsd.pipeline.frame import Size
from lsd.pipeline.stage import Context
from lsd.pipeline.suggest import did_you_mean
from lsd.stages.sources import camera, images, network, pattern, video
from lsd.stages.sources.shot import Source
from lsd.stages.uri import Uri, parse_uri

Opener = Callable[[Uri, Context, bool], Source]

OPENERS: dict[str, Opener] = {
    "test": pattern.open_source,
    **dict.fromkeys(camera.SYSTEMS, camera.open_source),
    **dict.fromkeys(network.SCHEMES, network.open_source),
}


def open_source(text: str, context: Context, *, loop: bool) -> Source:
    """Open the input that `text` names.

    Args:
        text: a path, `file://`, `asset://`, `test://`, a camera's or a network URI.
        context: what the stage was opened with.
        loop: start again at the end, where the source has one.

    Raises:
        SourceError: it cannot be opened; the message says why.
    """
    if text.startswith("/dev/video"):
        text = f"v4l2://{text}"  # what else would a user mean
    path = local_path(text)
    if path is not None:
        uri = Uri(text, "", str(path), {})
        is_pictures = path.is_dir() or text.endswith("/") or path.suffix.lower() in images.SUFFIXES
        opener: Opener = images.open_source if is_pictures else video.open_source
        return opener(uri, context, loop)
    uri = _known_uri(text)
    return OPENERS[uri.scheme](uri, context, loop)


def check_input(text: str) -> None:
    """Refuse an input that is wrong on every machine; nothing is opened.

    Raises:
        SourceError: an unknown kind, name or option.
    """
    if local_path(text) is not None:
        return
    uri = _known_uri(text)
    if uri.scheme == "test":
        pattern.settings_of(uri, Size(256, 256), 25.0)
    elif uri.scheme in camera.SYSTEMS:
        camera.request_of(uri)


def local_path(text: str) -> Path | None:
    """Return the file or folder that an input names; None: it is none.

    Raises:
        SourceError: the text is empty, or the asset is unknown.
    """
    if not text.strip():
        raise SourceError("input: is empty; name a file, a folder, or test://bars")
    uri = parse_uri(text)
    if uri.scheme == "":
        return Path(text).expanduser()
    if uri.scheme == "file":
        return Path(unquote(uri.rest))
    return _asset(uri) if uri.scheme == "asset" else None


def _known_uri(text: str) -> Uri:
    uri = parse_uri(text)
    if uri.scheme not in OPENERS:
        hint = did_you_mean(uri.scheme, [*OPENERS, "asset", "file"], "inputs are a path or one of")
        raise SourceError(f"{text}: unknown kind of input '{uri.scheme}://'; {hint}")
    return uri


def _asset(uri: Uri) -> Path:
    """Return the bundled clip `asset://NAME`."""
    clips = Path(str(resources.files("lsd.configs.clips")))
    names = {path.stem: path for path in clips.glob("*.mp4")}
    if uri.rest in names:
        return names[uri.rest]
    hint = did_you_mean(uri.rest, names, "the clips are")
    raise SourceError(f"{uri.text}: there is no such clip; {hint}")
