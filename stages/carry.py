"""The last output carried on: where its picture would be now, had the input moved on as it did."""

from __future__ import annotations

import torch

from lsd.kernels import ops
from lsd.pipeline.frame import Flow, Frame
from lsd.stages.sinks.sink import Pixels

# As far as it was measured (docs/budget.md); what is missed for longer stays there.
MOST_SPANS = 4.0


class Carry:
    """Remembers the last picture, and how far its input moved in which time.

    All of it lies on the host, where a picture is by the time it is an output and the
    motion is found: a card has no part in it. It is always the last picture itself that
    is moved, further from miss to miss, so that no blur piles up.
    """

    def __init__(self) -> None:
        self._pixels: Pixels | None = None
        self._motion: Flow | None = None
        self._pts_ns = 0
        self._span_ns = 0

    def keep(self, pixels: Pixels, frame: Frame) -> None:
        """Take a picture that goes out.

        Args:
            pixels: uint8 [H, W, 3].
            frame: whose picture it is. Its motion counts as that since the last picture that was
                kept; where one between the two was lost on the way it is taken for slower
                than it was.
        """
        self._span_ns = frame.pts_ns - self._pts_ns if self._pixels is not None else 0
        self._pixels, self._motion, self._pts_ns = pixels, frame.motion, frame.pts_ns

    def at(self, pts_ns: int) -> Pixels | None:
        """Return the picture as it would look at `pts_ns`, uint8 [H, W, 3].

        None: it is not known to move, as at a cut, or it is no older than `pts_ns`.
        """
        ahead_ns = pts_ns - self._pts_ns
        if self._pixels is None or self._motion is None or self._span_ns <= 0 or ahead_ns <= 0:
            return None
        spans = min(ahead_ns / self._span_ns, MOST_SPANS)
        moved = ops.warp(torch.from_numpy(self._pixels)[None], self._motion * spans)
        return moved[0].numpy()
