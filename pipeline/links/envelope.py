"""The small first part of every message on a wire: what it is, of whom, for whom.

sender -> receiver   data, end, probe, welcome: each with a serial, which counts all that is sent
receiver -> sender   hello (who are you?), status (what has come, what is done with)
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple, cast

import msgpack  # type: ignore[import-untyped]

from lsd.pipeline.links.header import VERSION, BadMessage

MAX_BYTES = 128


class Kind(IntEnum):
    """What a message is."""

    HELLO = 0
    WELCOME = 1
    DATA = 2
    END = 3
    PROBE = 4
    STATUS = 5


class Envelope(NamedTuple):
    """A message without header and pixels.

    Attributes:
        kind: what it is.
        sender, receiver: the sessions of both ends, drawn anew at each start; 0: not known.
        serial: of the message; in a status, the last that came.
        number: DATA, END: of the frame, END counting as one. WELCOME: of the first that
            will come. STATUS: of the next that is awaited.
        released: STATUS only: all below are done with.
        closed: STATUS only: the receiver wants no more.
    """

    kind: Kind
    sender: int
    receiver: int
    serial: int = 0
    number: int = 0
    released: int = 0
    closed: bool = False

    def encode(self) -> bytes:
        """Return it as msgpack."""
        return cast("bytes", msgpack.packb([VERSION, *self]))

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Envelope:
        """Read and check it.

        Raises:
            BadMessage: it is none.
        """
        fields = _unpacked(data)
        version, kind, *numbers, closed = fields
        if version != VERSION:
            raise BadMessage("version", f"version {version}, expected {VERSION}")
        whole = all(type(value) is int and 0 <= value < 1 << 63 for value in (kind, *numbers))
        if not whole or kind not in list(Kind) or type(closed) is not bool:
            raise BadMessage("malformed", "an envelope with a field out of range")
        sender, receiver, serial, number, released = numbers
        return cls(Kind(kind), sender, receiver, serial, number, released, closed)


def _unpacked(data: bytes | memoryview) -> list[Any]:
    if len(data) > MAX_BYTES:
        raise BadMessage("oversized", f"an envelope of {len(data)} bytes, at most {MAX_BYTES}")
    try:
        fields = msgpack.unpackb(data, raw=False, max_map_len=0, max_ext_len=0, max_array_len=8)
    except Exception as error:  # whatever msgpack finds
        raise BadMessage("malformed", f"no envelope ({type(error).__name__})") from error
    if type(fields) is not list or not fields or type(fields[0]) is not int:
        raise BadMessage("malformed", "no envelope")
    if fields[0] == VERSION and len(fields) != 8:
        raise BadMessage("malformed", f"an envelope of {len(fields)} fields, expected 8")
    return (fields + [False] * 8)[:8]
