"""A source that may vanish and come back: camera or network stream."""

from __future__ import annotations

from collections.abc import Callable

from lsd.pipeline.errors import SourceError
from lsd.pipeline.stage import Context
from lsd.stages.sources.decoder import Decoder
from lsd.stages.sources.shot import Shot

FIRST_WAIT_NS = 250_000_000
LONGEST_WAIT_NS = 8_000_000_000


class Reconnecting:
    """Reads from a decoder and makes a new one when it is lost.

    File to file, a recording that is lost is not begun again: what came out
    would hold its first part twice.

    Between attempts it waits 0.25 s, then twice as long each time, at most
    8 s. The output repeats the last picture meanwhile; the first new picture
    is a discontinuity. `counters["capture", "reconnect"]` counts successes.

    Args:
        connect: makes a decoder; raises SourceError. A failure of the first
            call is the user's to know, so that it is not retried, unless a
            process before this one had pictures from there.
        label: the input as the user named it.
        context: clock, stop, counters and warnings.
    """

    def __init__(self, connect: Callable[[], Decoder], label: str, context: Context) -> None:
        self._connect, self._label, self._context = connect, label, context
        self._decoder: Decoder | None = None
        self._wait_ns = FIRST_WAIT_NS
        self._base_ns = 0
        self.period_ns = round(1e9 / context.rate_hz)
        self._finite = self.timed = False
        try:
            self._take(connect())
        except SourceError as error:
            if not (context.live and context.captured_before):
                raise
            context.warn(f"{error}; trying to connect again")
            self._miss()

    def read(self) -> Shot | None:
        while not self._context.stopping.is_set():
            decoder = self._decoder or self._reconnect()
            if decoder is None:
                continue
            shot = decoder.read()
            if shot is not None:
                self._wait_ns = FIRST_WAIT_NS
                return shot._replace(pts_ns=self._base_ns + shot.pts_ns)
            if self._finite and not decoder.error:
                return None
            if self._finite and not self._context.live:
                raise SourceError(
                    f"{self._label}: lost after {decoder.count} pictures ({decoder.error}); "
                    "download it first and take the file"
                )
            self._lose(decoder)
        return None

    def expected(self) -> int | None:
        return self._decoder.declared() if self._finite and self._decoder else None

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _take(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.period_ns = decoder.period_ns
        # A recording on a server has a length, and ends where it ends.
        self._finite = decoder.duration_ns() is not None
        # Like HLS, which comes in segments, it can be had faster than it plays.
        self.timed = self._finite or decoder.is_segmented()

    def _lose(self, decoder: Decoder) -> None:
        why = decoder.error or "no more pictures come"
        self._context.warn(f"{self._label}: lost ({why}); trying to connect again")
        self._base_ns += decoder.end_ns()
        decoder.close()
        self._decoder = None
        self._miss()

    def _miss(self) -> None:
        self._context.trouble("capture", "is without its source")

    def _reconnect(self) -> Decoder | None:
        """Wait, then try once; None when that failed or the run stops."""
        clock, stopping = self._context.clock, self._context.stopping
        if clock.wait_until(clock.now_ns() + self._wait_ns, stopping):
            return None
        self._wait_ns = min(2 * self._wait_ns, LONGEST_WAIT_NS)
        try:
            self._take(self._connect())
        except SourceError:
            return None  # the loss was reported; the next attempt may succeed
        self._context.counters["capture", "reconnect"] += 1
        self._context.trouble("capture", None)
        return self._decoder
