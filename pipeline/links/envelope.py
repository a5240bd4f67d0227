"""The small first part of every message on a wire: what it is, of whom, for whom.

sender -> receiver   data, end, probe, welcome: each with a serial, which counts all that is sent
receiver -> sender   hello (who are you?), status (what has come, what is done with)
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from lsd.pipeline.links.message import U63, Message, decoded

MAX_BYTES = 128


class Kind(IntEnum):
    """What a message is."""

    HELLO = 0
    WELCOME = 1
    DATA = 2
    END = 3
    PROBE = 4
    STATUS = 5


class Envelope(Message, frozen=True):
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
    sender: U63
    receiver: U63
    serial: U63 = 0
    number: U63 = 0
    released: U63 = 0
    closed: bool = False

    def encode(self) -> bytes:
        """Return it as msgpack."""
        return _ENCODER.encode(self)

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Envelope:
        """Read and check it.

        Raises:
            BadMessage: it is none.
        """
        return decoded(_DECODER, data, MAX_BYTES)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Envelope)
