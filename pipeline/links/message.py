"""What all messages between processes have in common: msgpack of declared types and ranges.

A message is a `Message`: an array that begins with the version, then the fields in the order in
which they are declared. Nothing that comes is believed: msgspec checks every type, length and
range that a field declares, in C and before anything is made of it, and `decoded` says by a word
why a message was refused. No pickle, no class names.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar, get_args

import msgspec

from lsd.pipeline.errors import WireError

VERSION = 2

Reason = Literal["malformed", "oversized", "version", "epoch", "params"]
REASONS: tuple[Reason, ...] = get_args(Reason)

I64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
U63 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
U64 = Annotated[int, msgspec.Meta(ge=0)]  # msgpack has no larger ones

# What reading bytes that are no such message may end in; the last by arrays in arrays in arrays.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

T = TypeVar("T")

_ANY_ARRAY = msgspec.msgpack.Decoder(list[msgspec.Raw])


class BadMessage(WireError):  # noqa: N818 - what it is, not what went wrong here
    """A message that is counted and left out.

    Args:
        reason: what it is counted under.
        text: what was found and what was expected.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason: Reason = reason


class Message(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=VERSION
):
    """Base of what crosses as an array of its own."""


def decoded(decoder: msgspec.msgpack.Decoder[T], data: bytes | memoryview, max_bytes: int) -> T:
    """Return the message that `data` is.

    Args:
        decoder: of its type.
        data: what came.
        max_bytes: as long as it may be.

    Raises:
        BadMessage: `oversized`, `version` or `malformed`.
    """
    if len(data) > max_bytes:
        raise BadMessage("oversized", f"{len(data)} bytes, at most {max_bytes} fit")
    try:
        return decoder.decode(data)
    except UNREADABLE as error:
        version = _version(data)
        if version not in (None, VERSION):
            raise BadMessage("version", f"version {version}, expected {VERSION}") from error
        raise BadMessage("malformed", str(error)) from error


def _version(data: bytes | memoryview) -> int | None:
    """Return what an array begins with, if that is a whole number."""
    try:
        return msgspec.msgpack.decode(_ANY_ARRAY.decode(data)[0], type=int)
    except (*UNREADABLE, IndexError):
        return None
