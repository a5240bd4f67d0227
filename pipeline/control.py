"""A worker's side of the talk with its supervisor.

The worker program joins first thing, before anything heavy is imported:

    control = Control.join("style", fd, on_stop=runner.stop)
    ...                       # open the stages, attach to the rings
    control.ready()
    control.beat({"frames": 12, "fps": 25.0})     # after each frame, and while it waits
    control.ended({"frames": 250})                # or control.failed("...")
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from lsd.pipeline.control_messages import FROM_SUPERVISOR, MAX_TEXT, Scalar, encode, receive
from lsd.pipeline.errors import WireError
from lsd.pipeline.process import become, die_with_peer, dump_stacks_on_signal

PeerEvent = Literal["lost", "back", "ended"]

_PEER_EVENTS: dict[str, PeerEvent] = {
    "peer_lost": "lost", "peer_back": "back", "peer_ended": "ended"
}  # fmt: skip
_BEAT_NS = 100_000_000  # more often, a sign of life says nothing new
_LAST_WORD_S = 1.0  # how long the end may wait for a supervisor that does not listen


class Control:
    """The worker's end of the control socket; every method may be called from any thread.

    Args:
        end: the socket.
        on_stop: called in a thread of its own: end in order. Once more when the supervisor has
            gone, though the kernel then kills a worker that has joined.
        on_peer: called in the same thread: what became of which other worker.
        on_tell: likewise: returns what is to be told of the run so far; plain JSON.
    """

    def __init__(
        self,
        end: socket.socket,
        on_stop: Callable[[], None],
        on_peer: Callable[[str, PeerEvent], None] = lambda worker, event: None,
        on_tell: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._end = end
        self._on_stop = on_stop
        self._on_peer = on_peer
        self._on_tell = on_tell
        self._lock = threading.Lock()
        self._beaten_ns: int | None = None
        self.malformed = 0  # messages that were ignored
        self.unsent = 0  # what the supervisor had no room for
        threading.Thread(target=self._listen, name="lsd-control", daemon=True).start()

    @classmethod
    def join(
        cls,
        name: str,
        fd: int,
        on_stop: Callable[[], None],
        on_peer: Callable[[str, PeerEvent], None] = lambda worker, event: None,
        on_tell: Callable[[], Mapping[str, Any]] = dict,
    ) -> Control:
        """Become the worker `name`: in ps, in death, and by the socket `fd` that was handed down.

        Raises:
            LsdError: the supervisor is gone.
        """
        become(f"livesd-worker {name}")
        dump_stacks_on_signal()
        end = socket.socket(fileno=fd)
        end.set_inheritable(False)
        die_with_peer(end)
        return cls(end, on_stop, on_peer, on_tell)

    def ready(self) -> None:
        """The stages are open and the links attached; frames may come."""
        self._send("ready", {}, _LAST_WORD_S)

    def beat(self, status: Mapping[str, Scalar]) -> None:
        """Show that the worker's loop is alive; cheap enough to be called for every frame.

        It must be the loop itself that calls this, not a thread beside it.

        Args:
            status: `frames`, how many it has seen; `waiting`, True when none is there to be worked
                on; for people: `fps`, `latency_p50_ms`, `rung` and whatever else is a plain value.
        """
        now_ns = time.monotonic_ns()
        with self._lock:
            if self._beaten_ns is not None and now_ns - self._beaten_ns < _BEAT_NS:
                return
            self._beaten_ns = now_ns
        self._send("heartbeat", status, 0)

    def ended(self, report: Mapping[str, Any] | None = None) -> None:
        """The stream is over and everything is closed; exit now.

        Args:
            report: what the supervisor's own report is to hold of this worker; plain JSON.
        """
        self._send("ended", {"report": _fitting("ended", report or {})}, _LAST_WORD_S)

    def failed(self, error: str) -> None:
        """Say what went wrong; exit now, with 2 where no restart can help."""
        self._send("failed", {"error": error[:MAX_TEXT]}, _LAST_WORD_S)

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def _send(self, kind: str, body: Mapping[str, Any], wait_s: float) -> None:
        packet = encode(kind, body)
        give_up = time.monotonic() + wait_s
        while True:
            try:
                self._end.send(packet, socket.MSG_DONTWAIT)
                return
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    self.unsent += 1
                    return
                time.sleep(0.01)
            except OSError:
                return  # the supervisor is gone: so are we, in a moment

    def _listen(self) -> None:
        while True:
            try:
                message = receive(self._end, FROM_SUPERVISOR)
            except WireError:
                self.malformed += 1
                continue
            except OSError:
                return  # closed by ourselves
            if message is None:
                self._on_stop()
                return
            if message.kind == "stop":  # and who of the others is over, is told on the way out too
                self._on_stop()
            elif message.kind == "tell":
                self._tell()
            else:
                self._on_peer(message.body["worker"], _PEER_EVENTS[message.kind])

    def _tell(self) -> None:
        try:
            report = self._on_tell()
        except Exception as error:  # whatever it is, "stop" must still be heard
            print(f"cannot tell how it goes: {error!r}", file=sys.stderr, flush=True)
            return
        self._send("report", {"report": _fitting("report", report)}, 0)


def _fitting(kind: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report without what no packet can hold: what is no JSON, then what is largest.

    A run that has warned of very much ends all the same, and its frames are accounted for.
    """
    try:
        encode(kind, {"report": report})
        return dict(report)
    except WireError:
        fitting: dict[str, Any] = {}
    for name in sorted(report, key=lambda name: len(repr(report[name]))):
        with contextlib.suppress(WireError):
            encode(kind, {"report": {**fitting, name: report[name]}})
            fitting[name] = report[name]
    return fitting
