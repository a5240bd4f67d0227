"""The memory stage: guards first, then a pull toward what the scene should look like.

The bank's values are moments of history-free predictions, so the reference
does not depend on the recurrence: errors cannot teach it. The pull is linear
with a gain of 1 - rate on the low frequencies, a contraction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lsd.kernels import ops
from lsd.pipeline.frame import TENSOR, Frame, FrameFlag, FrameSpec, Picture
from lsd.pipeline.params import StageOptions, live_field, restart_field
from lsd.pipeline.stage import Context
from lsd.stages import guards
from lsd.stages.anchor import GRID, Anchor, Reference
from lsd.stages.models.bank import MemoryBank

_THUMB = 8  # the key is an 8x8 thumbnail of the input
_ALIKE = 0.90  # cosine from which a recalled scene counts; full trust at 1
_SETTLES = 15  # frames in which the blend lets any past fade by a factor of ten


class MemoryOptions(StageOptions):
    """Options of the memory stage."""

    kind: Literal["memory"] = "memory"
    rate: float = live_field(
        0.1, "How much of the low-frequency error is corrected a frame; 0 is off", ge=0, le=1
    )
    limit: float = live_field(
        0.25, "Largest colour error, of a range of 2, that is believed", ge=0, le=1
    )
    learn_every: int = live_field(
        25, "Frames between two entries of the bank; a divisor of 250 keeps laps alike",
        ge=1, le=10_000,
    )  # fmt: skip
    guards: bool = live_field(True, "Replace broken pictures (NaN, one colour, wild jumps)")
    capacity: int = restart_field(64, "Entries of the bank", ge=1, le=4096)


class Memory:
    """Correct slow errors toward the bank's recollection; reject broken pictures."""

    Options: ClassVar[type[StageOptions]] = MemoryOptions
    accepts: ClassVar[FrameSpec] = TENSOR
    returns: ClassVar[FrameSpec] = TENSOR

    def __init__(self, name: str, reference: Reference | None = None) -> None:
        """Args: reference: where anchors come from; default: the shipped network."""
        self.name = name
        self._reference = reference

    def open(self, context: Context) -> None:
        """Allocate the bank and compile the small network that anchors come from."""
        options = context.params.of(self.name, MemoryOptions)
        self._context = context
        values = 3 * GRID * GRID + 3
        self._bank = MemoryBank(options.capacity, 3 * _THUMB * _THUMB, values)
        self._since_learned = 0
        self._unsettled = 0
        self._look: object = None
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
        return replace(frame, data=self._correct(frame, options))

    def close(self) -> None:
        """Forget the bank."""
        self._reference = None

    def reset(self) -> None:
        """Empty the bank; the next frame learns anew."""
        self._bank.reset()
        self._since_learned = 0

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

    def _correct(self, frame: Frame, options: MemoryOptions) -> Picture:
        if self._reference is None:  # a model of somebody's own: guards only
            return frame.data
        look = self._reference.look(frame)
        if look != self._look:
            # what was learned under another style says nothing about this one
            self._look = look
            self.reset()
        key = _key(frame.source)
        if len(self._bank) == 0 or self._since_learned >= options.learn_every:
            self._bank.learn(key, self._reference.anchor(frame).flatten())
            self._since_learned = 0
        self._since_learned += 1
        found = self._bank.recall(key)
        if options.rate == 0.0 or found is None:
            return frame.data
        value, likeness = found
        trust = min(1.0, max(0.0, (likeness - _ALIKE) / (1.0 - _ALIKE)))
        anchor, now = Anchor.unflatten(value), Anchor.of(frame.data)
        return ops.moment_match(
            frame.data,
            anchor.colour - now.colour,
            anchor.contrast / now.contrast.clamp(min=1e-3),
            options.rate * trust,
            options.limit,
        )


def _key(source: Picture) -> Tensor:
    """Describe the input: an 8x8 thumbnail around mid grey, float32 [192]."""
    small = source[:, ::4, ::4].permute(0, 3, 1, 2).to(torch.float32)
    return F.adaptive_avg_pool2d(small, _THUMB).flatten() / 127.5 - 1.0
