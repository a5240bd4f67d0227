"""The memory stage: guards first, then a pull toward what the past has not spoilt.

The anchor is the look that a frame would have without its history, so the
reference does not depend on the recurrence: errors cannot teach it. The pull's
gain on a low-frequency error is 1 - rate, a contraction. It acts only on errors
beyond a dead zone: a sound network differs from its own history-free prediction
by 1 to 3 grey levels a cell, and there the one with history is the better one.

What a scene looked like before it went out of sight is the recall stage's to
remember: it acts before the diffusion, where a change of light can be undone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lsd.kernels import ops
from lsd.pipeline.frame import TENSOR, Frame, FrameFlag, FrameSpec, Picture
from lsd.pipeline.params import StageOptions, live_field
from lsd.pipeline.stage import Context
from lsd.stages import guards
from lsd.stages.anchor import GRID, Anchor, Half, Reference

_SETTLES = 15  # frames in which the blend lets any past fade by a factor of ten
_SOUND_COLOUR = 0.05  # dead zone, of a range of 2: 6 grey levels
_SOUND_CONTRAST = 0.1  # dead zone of the ratio
_MOVED = 0.1  # change of an input cell, of a range of 2, from which its anchor is void


class MemoryOptions(StageOptions):
    """Options of the memory stage."""

    kind: Literal["memory"] = "memory"
    rate: float = live_field(
        0.4, "How much of the low-frequency error is corrected a frame; 0 is off", ge=0, le=1
    )
    limit: float = live_field(
        0.25, "Largest colour error, of a range of 2, that is believed", ge=0, le=1
    )
    learn_every: int = live_field(
        25, "Frames between two anchors; a divisor of 250 keeps laps alike", ge=2, le=10_000
    )
    guards: bool = live_field(True, "Replace broken pictures (NaN, one colour, wild jumps)")


class Memory:
    """Correct slow errors of the recurrence; reject broken pictures."""

    Options: ClassVar[type[StageOptions]] = MemoryOptions
    accepts: ClassVar[FrameSpec] = TENSOR
    returns: ClassVar[FrameSpec] = TENSOR

    def __init__(self, name: str, reference: Reference | None = None) -> None:
        """Args: reference: where anchors come from; default: the shipped network."""
        self.name = name
        self._reference = reference

    def open(self, context: Context) -> None:
        """Compile the small network that anchors come from."""
        self._context = context
        self._unsettled = 0
        self._look: object = None
        self.reset()
        if self._reference is None:
            self._reference = Reference.open(context)

    def process(self, frame: Frame, *, previous: Frame | None = None) -> Frame:
        """Return `frame` corrected, or replaced where a guard rejects it.

        Args:
            frame: data float32 [1, 3, H, W] from the diffusion stage.
            previous: the last output; where there is none, the input stands in.
        """
        if frame.flags & FrameFlag.PASSTHROUGH:
            return frame
        options = frame.params.of(self.name, MemoryOptions)
        if options.guards:
            reason = self._judge(frame, previous)
            if reason is not None:
                self._context.counters[self.name, f"rejected: {reason}"] += 1
                self._context.warn(
                    f"{self.name}: the model's picture was {reason}; the last good one stands in "
                    "(the report counts how often)"
                )
                good = ops.frame_to_tensor(frame.source) if previous is None else previous.data
                return replace(frame, data=good, flags=frame.flags | FrameFlag.REPLACED)
        if options.rate == 0.0 or self._reference is None:  # None: a model of somebody's own
            return frame
        self._learn(frame, previous, options, self._reference)
        return replace(frame, data=self._corrected(frame, options))

    def close(self) -> None:
        """Release the network."""
        self._reference = None

    def reset(self) -> None:
        """Forget the anchor; nothing is corrected until the next."""
        self._anchor: Anchor | None = None
        self._half: tuple[Half, Tensor] | None = None
        self._age = 0

    def _judge(self, frame: Frame, previous: Frame | None) -> str | None:
        change = None
        if previous is not None and frame.motion is not None:
            now, then = frame.source[:, ::4, ::4], previous.source[:, ::4, ::4]
            change = float((now.float() - then.float()).abs().mean()) / 255.0
        last = None if previous is None else previous.data
        if previous is not None and previous.params is not frame.params:
            self._unsettled = _SETTLES
        if self._unsettled:
            # a new style may jump as it likes, and while the old one fades out of
            # the last output, each of its frames is far from that
            self._unsettled -= 1
            change = None
        return guards.verdict(frame.data, frame.source, last, change)

    def _learn(
        self, frame: Frame, previous: Frame | None, options: MemoryOptions, reference: Reference
    ) -> None:
        """Renew the anchor: at once without history, else by halves on two frames in a row."""
        look = reference.look(frame)
        if look != self._look:
            # what was learned under another style says nothing about this one
            self._look = look
            self.reset()
        if reference.has_state(frame):
            return
        self._age += 1
        if previous is None or frame.motion is None:
            self.reset()
            self._adopt(Anchor.of(frame.data), _cells(frame.source))
        elif self._half is not None:
            half, seen = self._half
            self._adopt(reference.finish(half), seen)
            self._half = None
        elif self._anchor is None or self._age >= options.learn_every:
            self._half = reference.begin(frame, previous), _cells(frame.source)
            self._age = 0

    def _adopt(self, anchor: Anchor, seen: Tensor) -> None:
        """Take an anchor of the input whose cells are `seen`."""
        if bool(anchor.colour.isfinite().all()):  # without guards it may not be
            self._anchor, self._seen = anchor, seen

    def _corrected(self, frame: Frame, options: MemoryOptions) -> Picture:
        if self._anchor is None:
            return frame.data
        # where something else is now, its colour is not the anchor's to say
        change = (_cells(frame.source) - self._seen).abs().amax(1, keepdim=True)
        trust = (1.0 - change / _MOVED).clamp(min=0.0)
        now = Anchor.of(frame.data)
        shift = trust * F.softshrink(self._anchor.colour - now.colour, _SOUND_COLOUR)
        ratio = self._anchor.contrast / now.contrast.clamp(min=1e-3) - 1.0
        contrast = trust.mean() * F.softshrink(ratio, _SOUND_CONTRAST)
        if not (shift.any() or contrast.any()):
            return frame.data
        return ops.moment_match(frame.data, shift, 1.0 + contrast, options.rate, options.limit)


def _cells(source: Picture) -> Tensor:
    """Return the means of the input's cells, float32 [1, 3, GRID, GRID], -1 to 1."""
    small = source[:, ::4, ::4].permute(0, 3, 1, 2).to(torch.float32)
    return F.adaptive_avg_pool2d(small, GRID) / 127.5 - 1.0
