"""v4l2://, avfoundation:// and dshow://: cameras."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import av

from lsd.pipeline.errors import SourceError
from lsd.pipeline.stage import Context
from lsd.stages.sources.decoder import Decoder
from lsd.stages.sources.reconnecting import Reconnecting
from lsd.stages.uri import Uri, parse_size

SYSTEMS = {"v4l2": "Linux", "avfoundation": "macOS", "dshow": "Windows"}
_HERE = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_EXAMPLES = {
    "v4l2": "v4l2:///dev/video0",
    "avfoundation": "avfoundation://0",
    "dshow": "dshow://Integrated Camera",
}


def open_source(uri: Uri, context: Context, loop: bool) -> Reconnecting:
    """Open a camera; `?size=640x480&rate=30&format=mjpeg` ask the driver for a mode.

    Raises:
        SourceError: not there, busy, not allowed, or not of this system.
    """
    device, options = request_of(uri)
    return Reconnecting(lambda: _connect(uri, device, options), f"camera {device}", context)


def request_of(uri: Uri) -> tuple[str, dict[str, str]]:
    """Return the device that `uri` names, and what to ask its driver for.

    Raises:
        SourceError: it names none, or asks for something unknown.
    """
    if complaint := uri.unknown("size", "rate", "format"):
        raise SourceError(complaint)
    return _device(uri), _options(uri)


def _device(uri: Uri) -> str:
    if uri.rest:
        # DirectShow names its kinds of devices; the others take a plain name.
        prefix = "video=" if uri.scheme == "dshow" and "=" not in uri.rest else ""
        return prefix + uri.rest
    raise SourceError(f"{uri.text}: names no camera; write {_EXAMPLES[uri.scheme]}")


def _options(uri: Uri) -> dict[str, str]:
    options = {}
    if "size" in uri.query:
        if parse_size(uri.query["size"]) is None:
            found = uri.query["size"]
            raise SourceError(f"{uri.text}: size is {found!r}, expected such as 640x480")
        options["video_size"] = uri.query["size"]
    if "rate" in uri.query:
        options["framerate"] = uri.query["rate"]
    if "format" in uri.query:
        options["pixel_format" if uri.scheme == "avfoundation" else "input_format"] = uri.query[
            "format"
        ]
    return options


def _connect(uri: Uri, device: str, options: dict[str, str]) -> Decoder:
    try:
        container = av.open(device, format=uri.scheme, options=options)
    except (OSError, ValueError, av.FFmpegError) as error:
        raise SourceError(_explain(uri, device, error)) from error
    return Decoder(container, f"camera {device}", live=True)


def _explain(uri: Uri, device: str, error: Exception) -> str:
    """Say what is wrong with the camera and what to do about it."""
    number = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or error
    if "no container format" in str(error):
        mine = _EXAMPLES[_HERE.get(sys.platform, "v4l2")]
        return f"{uri.text}: {uri.scheme} is for {SYSTEMS[uri.scheme]}; here, use {mine}"
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"camera {device}: there is no such camera; {_what_is_here()}"
    if number == errno.EBUSY:
        return f"camera {device} is busy: another program holds it (try: fuser {device})"
    if number in (errno.EACCES, errno.EPERM):
        return (
            f"camera {device}: not allowed; join the group that may use it "
            "(sudo usermod -aG video $USER) and log in again"
        )
    if number in (errno.EINVAL, errno.ENOTTY):
        return (
            f"camera {device}: not a camera, or it has no such mode ({reason}); "
            "leave out ?size, ?rate and ?format, or try the next /dev/video*"
        )
    return f"camera {device}: cannot be opened ({reason})"


def _what_is_here() -> str:
    devices = sorted(str(path) for path in Path("/dev").glob("video*"))
    if devices:
        return f"this machine has {', '.join(devices)}"
    return "this machine has no /dev/video*; plug one in, or try input: test://bars"
