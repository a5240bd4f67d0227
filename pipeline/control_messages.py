"""What a worker and its supervisor say to each other: one JSON object a packet.

The packets go over a SOCK_SEQPACKET pair, so that each is whole and none can be cut or run
together. Whatever the other side sends is checked; what is malformed is counted and ignored.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from lsd.pipeline.errors import WireError

VERSION = 1
MAX_BYTES = 32 * 1024
MAX_TEXT = 4000  # of an error's text
MAX_STATUS = 32  # entries of a heartbeat
MAX_ENTRY = 256  # of a text in one
DROPPED = "dropped_"  # begins an entry of a heartbeat: frames that were dropped for that reason

Scalar = int | float | str | bool | None

FROM_WORKER = frozenset({"ready", "heartbeat", "report", "ended", "failed"})
FROM_SUPERVISOR = frozenset({"stop", "tell", "peer_lost", "peer_back", "peer_ended"})


class Message(NamedTuple):
    """One packet: what it is, and what it says."""

    kind: str
    body: dict[str, Any]


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the supervisor's end and the worker's; neither is inherited by itself."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


def encode(kind: str, body: Mapping[str, Any]) -> bytes:
    """Return a packet.

    Raises:
        WireError: it holds what JSON does not, or is too large.
    """
    try:
        packet = json.dumps({"v": VERSION, "kind": kind, **body}, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise WireError(f"control message {kind!r}: {error}") from error
    if len(packet) > MAX_BYTES:
        raise WireError(f"control message {kind!r}: {len(packet)} bytes, at most {MAX_BYTES}")
    return packet


def receive(end: socket.socket, kinds: frozenset[str]) -> Message | None:
    """Take the next packet; None when the other side is gone.

    Raises:
        BlockingIOError: there is none, on a socket that does not block.
        WireError: it is malformed; the next one may be fine.
    """
    try:
        packet, _, flags, _ = end.recvmsg(MAX_BYTES)
    except ConnectionResetError:
        return None
    if flags & socket.MSG_TRUNC:
        raise WireError(f"control message of more than {MAX_BYTES} bytes")
    return decode(packet, kinds) if packet else None


def decode(packet: bytes, kinds: frozenset[str]) -> Message:
    """Read a packet.

    Args:
        packet: what came.
        kinds: what the other side may say.

    Raises:
        WireError: it is no JSON object of our version, or not what that kind must hold.
    """
    try:
        body = json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise WireError(f"control message is no JSON: {error}") from error
    if not isinstance(body, dict) or body.pop("v", None) != VERSION:
        raise WireError(f"control message is no object of version {VERSION}")
    kind = body.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise WireError(f"control message of unknown kind {str(kind)[:40]!r}")
    _check(kind, body)
    return Message(kind, body)


def _check(kind: str, body: dict[str, Any]) -> None:
    if kind == "heartbeat":
        frames = body.get("frames")
        if not isinstance(frames, int) or isinstance(frames, bool) or frames < 0:
            raise WireError("heartbeat without 'frames', a count")
        if not isinstance(body.get("waiting", False), bool):
            raise WireError("heartbeat with a 'waiting' that is no bool")
        if len(body) > MAX_STATUS or not all(map(_is_scalar, body.values())):
            raise WireError(f"heartbeat of more than {MAX_STATUS} entries, or of no plain ones")
    elif kind == "failed":
        error = body.get("error")
        if not isinstance(error, str):
            raise WireError("failed without 'error', a text")
        body["error"] = error[:MAX_TEXT]
    elif kind in ("ended", "report"):
        if not isinstance(body.get("report", {}), dict):
            raise WireError(f"{kind} with a 'report' that is no object")
    elif kind.startswith("peer_") and not isinstance(body.get("worker"), str):
        raise WireError(f"{kind} without 'worker', a name")


def _is_scalar(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (int, bool)) or (
        isinstance(value, str) and len(value) <= MAX_ENTRY
    )  # fmt: skip
