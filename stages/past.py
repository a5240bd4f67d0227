"""What a frame may know of the past: the last output, as it lies under this frame."""

from __future__ import annotations

from lsd.kernels import ops
from lsd.pipeline.frame import Frame, Picture


def history_of(frame: Frame, previous: Frame | None) -> Picture | None:
    """Return the last output and the luma of its input, warped to this frame: uint8 [1, H, W, 4].

    None where history does not apply. The copy is quantised on purpose, in training and here
    alike: what the network cannot see it cannot amplify.
    """
    motion = frame.inputs.motion
    if previous is None or motion is None:
        return None
    return ops.warp(ops.pack_history(previous.data, previous.inputs.source), motion)
