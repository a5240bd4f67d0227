"""A frame: one picture on its way through the graph."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

from lsd.pipeline.params import Params

if TYPE_CHECKING:
    import torch

    from lsd.pipeline.ladder import Rung
    from lsd.pipeline.scheduler import Plan

# A picture is a torch tensor on the CPU; on a card, whatever has
# `__cuda_array_interface__`. `kernels.ops` is the door that knows both.
Picture: TypeAlias = "torch.Tensor"
Flow: TypeAlias = "torch.Tensor"


class Size(NamedTuple):
    """Width and height of a picture in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


class Event(Protocol):
    """Marks the point after which a picture may be read on another stream."""

    def wait(self, stream: Any) -> None: ...

    def synchronize(self) -> None: ...


class Inputs(NamedTuple):
    """What a frame's picture is made from, where it is made.

    Attributes:
        source: as `Frame.source`.
        motion: as `Frame.motion`.
    """

    source: Picture
    motion: Flow | None


class FrameFlag(IntFlag):
    """What is special about a frame."""

    NONE = 0
    DISCONTINUITY = 1  # the source jumped (loop, reconnect, first frame): history does not apply
    REPLACED = 2  # a guard put the last good picture in its place: never becomes history
    PASSTHROUGH = 4  # the diffusion was bypassed: never becomes history
    REUSED = 8  # the last output, warped by the input's motion, stands in for a new picture


Layout = Literal["NHWC", "NCHW"]


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """What a link carries.

    Attributes:
        layout: which of a picture's dimensions is which.
        dtype: "uint8" (range 0 to 255, RGB) or "float32" (range -1 to 1, RGB).
    """

    layout: Layout
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype} {self.layout}"


PIXELS = FrameSpec("NHWC", "uint8")  # at the edges: capture, output
TENSOR = FrameSpec("NCHW", "float32")  # inside: diffusion to blend


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture on its way through the graph; never changed, only replaced.

    Attributes:
        seq: counts from 0 at capture; gaps mean dropped frames.
        pts_ns: presentation time. Live: when it was captured, on the monotonic
            clock. File to file: the source's own time stamp, from 0.
        captured_ns: when capture handed it on, monotonic (latency starts here).
        deadline_ns: when it must have reached the sinks, monotonic; None: no deadline.
        data: the picture; layout and dtype as the link's `FrameSpec` says, batch 1.
        source: uint8 [1, H, W, 3], the captured picture that `data` comes from, its
            exposure steadied where a recall stage did so.
        motion: float32 [1, H, W, 2] in pixels, or None (first frame, or a cut):
            what is at (x, y) now was at (x + dx, y + dy) in the last admitted picture.
        params: the snapshot taken at capture, the same for every stage.
        flags: see `FrameFlag`.
        ready: set when `data` may be read on another stream; None on the CPU.
        history: uint8 [1, H, W, 4], the last output and the luma of its input, both
            warped to this frame; None where history does not apply, or nobody has
            asked for it yet.
        sent: copies of `source` and `motion` on the card, where they were sent there.
        plan: how the picture is to be made, where a budget is kept; None: as the options say.
        rung: how it was made, where there was a plan.
    """

    seq: int
    pts_ns: int
    captured_ns: int
    deadline_ns: int | None
    data: Picture
    source: Picture
    motion: Flow | None
    params: Params
    flags: FrameFlag = FrameFlag.NONE
    ready: Event | None = None
    history: Picture | None = None
    sent: Inputs | None = None
    plan: Plan | None = None
    rung: Rung | None = None

    @property
    def inputs(self) -> Inputs:
        """Return source and motion where `data` is: on the card, if they were sent there."""
        return self.sent or Inputs(self.source, self.motion)
