"""The recall stage: a scene keeps the exposure and white balance that it had.

A camera that hunts for its exposure changes the picture from frame to frame,
and a style is not linear: poster's steps or solar's bands, once they have moved,
cannot be put back by a shift of colours afterwards (measured with the teachers
under +-20% and a cast: at most 1 to 5 dB come back in 8x8 cells of the output,
15 dB and more by taking the gain out of the input). So it is taken out before
the diffusion.

While a shot lasts, what the camera does between two frames is summed up; after
a cut, a bank of views says how this one was exposed when it was last seen. The
bank remembers input pictures only, so nothing the recurrence does can teach it.

What is held fades: in `settle_s` any light is taken for what it is. It is let go
within half a second where it cannot be a camera's hunting: beyond `limit`, out of
the dark, after a cut to an unknown view, or at the start, while a camera is
still looking for its first exposure. A fade to or from black passes like that.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from lsd.pipeline.errors import StageError
from lsd.pipeline.frame import PIXELS, Flow, Frame, FrameSpec
from lsd.pipeline.params import Params, StageOptions, live_field, restart_field
from lsd.pipeline.stage import Context, State
from lsd.stages import exposure
from lsd.stages.diffusion import DiffusionOptions
from lsd.stages.models.bank import MemoryBank

Array = npt.NDArray[Any]

# A camera's exposure hunts slowly: 20% once a second is 1.3 a second at most. What
# is faster than this is the light itself: a lamp, a flash.
_SWITCH_HZ = 2.5
_LET_GO_S = 0.15  # time constant; a twentieth is left after half a second
_UNSETTLED_S = 1.0  # how long nothing is held at first, and until the light has
_REST_S = 0.1  # rested for so long
_ALIKE = 0.9  # cosine from which a view is one that was seen before
_SAME = 0.98  # cosine from which it takes that one's place in the bank
_EVERY = 25  # frames between two entries; a divisor of 250 keeps laps alike
_VISIBLE = 0.004  # a gain below 1/255 changes no pixel


class RecallOptions(StageOptions):
    """Options of the recall stage."""

    kind: Literal["recall"] = "recall"
    hold: float = live_field(
        1.0, "How much of the camera's hunting for exposure and white balance is taken out; "
        "0 is off", ge=0, le=1,
    )  # fmt: skip
    limit: float = live_field(
        1.6, "Largest factor that is taken out; a light that changes more is let through",
        ge=1, le=4,
    )  # fmt: skip
    settle_s: float = live_field(
        10.0, "Seconds in which a light that stays changed is accepted", gt=0, le=3600
    )
    capacity: int = restart_field(
        64, "Views that are remembered; 0: none, after a cut nothing is held", ge=0, le=4096
    )


class Recall:
    """Take the camera's gain out of a frame."""

    Options: ClassVar[type[StageOptions]] = RecallOptions
    accepts: ClassVar[FrameSpec] = PIXELS
    returns: ClassVar[FrameSpec] = PIXELS

    def __init__(self, name: str) -> None:
        self.name = name
        self._last: Array | None = None  # the last picture, shrunk, and its time stamp
        self._pts_ns = 0
        self._held: Array = np.zeros(3, np.float32)  # log of the gain that is taken out
        self._unsettled_s: float | None = 0.0  # how long nothing has been held; None: it is
        self._since_learned = 0

    def open(self, context: Context) -> None:
        """Allocate the bank."""
        options = context.params.of(self.name, RecallOptions)
        # so small a temperature takes the nearest view, not a mean of the near ones
        self._bank = MemoryBank(
            options.capacity, exposure.KEY_SIZE, 3 * exposure.CELLS**2, temperature=1e-3
        )
        self.reset()

    def process(self, frame: Frame, **delayed: Frame | None) -> Frame:
        """Return `frame` with data and source as the scene was exposed before.

        Args:
            frame: data uint8 [1, H, W, 3]; `motion` is None at a cut.
        """
        options = frame.params.of(self.name, RecallOptions)
        if options.hold == 0.0:
            self.reset()  # what is not watched is not known
            return frame
        now = exposure.shrunk(frame.source)
        elapsed_s = min(max((frame.pts_ns - self._pts_ns) / 1e9, 0.0), 1.0)
        self._follow(now, frame.motion, elapsed_s, options)
        self._last, self._pts_ns = now, frame.pts_ns
        change = options.hold * self._held
        if np.abs(change).max() < _VISIBLE or _is_bypassed(frame.params):
            return frame
        steady = exposure.scaled(frame.source, np.exp(-change))
        return replace(frame, data=steady, source=steady)

    def close(self) -> None:
        """Nothing to release."""

    def state(self) -> State:
        """Return the bank, the last picture, and what is held."""
        known: dict[str, Array] = {
            "held": np.asarray(self._held, np.float32),
            "since_learned": np.array(self._since_learned),
            "pts_ns": np.array(self._pts_ns),
        }
        if self._unsettled_s is not None:
            known["unsettled_s"] = np.array(self._unsettled_s)
        if self._last is not None:
            known["last"] = self._last
        return {**known, **self._bank.state()}

    def restore(self, state: State) -> None:
        """Know the scenes of a predecessor, and hold what it held."""
        sizes = {"held": (3,), "last": (exposure.CELLS, exposure.CELLS, 3)}
        for name, shape in sizes.items():
            found = state.get(name, np.zeros(shape, np.float32))
            is_such = found.dtype == np.float32 and found.shape == shape
            if not is_such or not np.isfinite(found).all():
                raise StageError(f"its {name} is {found.dtype} {found.shape}, or not finite")
        if not {"held", "since_learned", "pts_ns"} <= state.keys():
            raise StageError("there is nothing of what is held")
        try:
            self._bank.restore(state)
        except ValueError as error:
            raise StageError(str(error)) from error
        self._held, self._last = state["held"], state.get("last")
        self._since_learned, self._pts_ns = int(state["since_learned"]), int(state["pts_ns"])
        unsettled = state.get("unsettled_s")
        self._unsettled_s = None if unsettled is None else float(unsettled)

    def reset(self) -> None:
        """Forget every scene; the next picture is taken as it is."""
        self._bank.reset()
        self._last = None
        self._held = np.zeros(3, np.float32)
        self._unsettled_s = 0.0
        self._since_learned = 0

    def _follow(
        self, now: Array, motion: Flow | None, elapsed_s: float, options: RecallOptions
    ) -> None:
        """Update what is held."""
        bound = math.log(options.limit)
        if motion is None or self._last is None:
            self._begin(now, bound)
            return
        step = exposure.gain(now, self._last, motion)
        if step is None:
            self._unsettled_s = 0.0
        elif self._unsettled_s is None:
            if np.abs(step).max() <= _SWITCH_HZ * elapsed_s:
                self._held = self._held + step
        else:
            self._unsettled_s += elapsed_s
            if step.any():
                self._unsettled_s = min(self._unsettled_s, _UNSETTLED_S - _REST_S)
            elif self._unsettled_s >= _UNSETTLED_S:
                self._unsettled_s = None
        if np.abs(self._held).max() > bound:
            self._held = self._held.clip(-bound, bound)
            self._unsettled_s = 0.0
        fades_s = options.settle_s if self._unsettled_s is None else _LET_GO_S
        self._held = self._held * np.float32(math.exp(-elapsed_s / fades_s))
        self._since_learned += 1
        if self._unsettled_s is None and self._since_learned >= _EVERY:
            self._learn(now)

    def _begin(self, now: Array, bound: float) -> None:
        """Begin a shot: as it was last seen, or with nothing held."""
        found = self._recalled(now)
        if found is not None and np.abs(found).max() <= bound:
            self._held, self._unsettled_s = found, None
        else:
            self._held, self._unsettled_s = np.zeros(3, np.float32), 0.0

    def _recalled(self, now: Array) -> Array | None:
        """Return the gain against the view as it was last seen; None for an unknown one."""
        query = exposure.key(now)
        found = None if query is None else self._bank.recall(query)
        if found is None or found[1] < _ALIKE:
            return None
        return exposure.gain(now, found[0].numpy().reshape(now.shape))

    def _learn(self, now: Array) -> None:
        self._since_learned = 0
        key = exposure.key(now)
        if key is not None:
            shown = (now * np.exp(-self._held)).astype(np.float32)
            self._bank.learn(key, torch.from_numpy(shown.ravel()), replace_from=_SAME)


def _is_bypassed(params: Params) -> bool:
    """Return whether the input goes through untouched, which is a promise."""
    diffusions = (o for o in params.stages.values() if isinstance(o, DiffusionOptions))
    return any(options.bypass for options in diffusions)
