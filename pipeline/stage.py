"""What a stage is: one frame in, zero or one out, aware of no neighbour."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

from lsd.pipeline.clock import Clock
from lsd.pipeline.frame import Frame, FrameSpec, Picture, Size
from lsd.pipeline.ladder import Rung
from lsd.pipeline.params import Params, StageOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _always(frame: Frame, step_ns: int) -> bool:
    return True


@dataclass(slots=True)
class Context:
    """What the machine tells a stage when it opens.

    Attributes:
        size: the picture size inside the pipeline.
        rate_hz: pictures a second that the pipeline is to produce.
        live: True: newest wins, deadlines hold. False: file to file, nothing is lost.
        device: "cpu" or "cuda:N", already resolved.
        clock: where time comes from.
        params: the snapshot at start.
        stopping: set when the run ends; a stage that waits must wait on this.
        counters: (stage, event) -> how often; for guards, reconnects, resets.
        troubles: stage -> what it is without now, and since when by the clock.
        shared: what the stages of a run have in common, by name; the card, for one.
        on_card: is told how long a stage's work on a frame took on a card: stage, seq, start
            and end by the clock.
        may_go_on: asked between two denoise steps of a frame, with what a step takes in ns:
            whether a further one leaves the frame on time.
        captured_before: how many frames of this stream processes before this one have captured.
        warn: prints one line for the user, at most once per text.
    """

    size: Size
    rate_hz: float
    live: bool
    device: str
    clock: Clock
    params: Params
    stopping: threading.Event = field(default_factory=threading.Event)
    counters: Counter[tuple[str, str]] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)
    troubles: dict[str, tuple[str, int]] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)
    on_card: Callable[[str, int, int, int], None] = lambda stage, seq, start_ns, end_ns: None
    may_go_on: Callable[[Frame, int], bool] = _always
    captured_before: int = 0

    def warn(self, text: str) -> None:
        """Report `text` to the user once; the runner prints what is new."""
        if text not in self.messages:
            self.messages.append(text)

    def trouble(self, stage: str, text: str | None) -> None:
        """Say what a stage is without from now on, such as its source; None: nothing any more.

        Args:
            stage: its name.
            text: a few words without addresses: there may be a password in one.
        """
        if text is None:
            self.troubles.pop(stage, None)
        elif self.troubles.get(stage, ("", 0))[0] != text:
            self.troubles[stage] = text, self.clock.now_ns()


class Stage(Protocol):
    """One step of the pipeline. `process` is always called from one thread."""

    Options: ClassVar[type[StageOptions]]
    accepts: ClassVar[FrameSpec]
    returns: ClassVar[FrameSpec]
    name: str

    def __init__(self, name: str) -> None: ...

    def open(self, context: Context) -> None:
        """Acquire what the stage needs and warm up; errors here end the start."""

    def process(self, frame: Frame, **delayed: Frame | None) -> Frame | None:
        """Return the frame's successor, or None for 'no frame this time'.

        Args:
            frame: the frame, as `accepts` says.
            delayed: one keyword per delay edge that ends here (`previous`): the
                last frame of that edge, or None where there is none yet.

        Raises:
            StageError: this frame is lost; the runner counts it and goes on.
        """

    def close(self) -> None:
        """Release everything; called once, also after a failed `open`."""


class Captured(NamedTuple):
    """What a source hands over: one picture, before it is a frame.

    Attributes:
        picture: uint8 [1, H, W, 3] RGB, already at the pipeline's size.
        pts_ns: the source's time stamp (file) or the monotonic capture time (live).
        discontinuity: the source jumped since the last picture.
    """

    picture: Picture
    pts_ns: int
    discontinuity: bool


@runtime_checkable
class SourceStage(Protocol):
    """A stage that frames come from. `read` runs in the capture thread."""

    def read(self) -> Captured | None:
        """Block until the next picture; None at the end of the stream.

        Raises:
            SourceError: the source is broken beyond repair.
        """


@runtime_checkable
class SinkStage(Protocol):
    """A stage that frames end in. Runs in the output thread."""

    def repeat(self, pts_ns: int) -> bool:
        """Emit the last picture again, at a missed deadline; False: there is none yet."""


@runtime_checkable
class StandInStage(Protocol):
    """A sink stage that at a missed deadline has more to show than the last picture."""

    def passthrough(self, source: Picture, pts_ns: int) -> None:
        """Emit a captured picture as it is.

        Args:
            source: uint8 [1, H, W, 3], on the host.
            pts_ns: the time to stamp it with.
        """

    def interpolate(self, pts_ns: int) -> bool:
        """Emit the last picture, carried on by its motion to the time `pts_ns`.

        Returns:
            False: nothing is known of its motion, and nothing was emitted.
        """


@runtime_checkable
class Described(Protocol):
    """A stage that has something to say in the run's report."""

    def describe(self) -> Mapping[str, str | int]:
        """Return facts such as {"model": ..., "engine": ..., "seed": ...}."""


class Ways(NamedTuple):
    """In which ways a stage can make a picture.

    Attributes:
        steps: denoise steps of the best, as the options say.
        sizes: whether it can work on a smaller picture and enlarge the result.
        reuse: whether it can show its last output again, warped; it needs `previous` for that.
    """

    steps: int
    sizes: bool
    reuse: bool


@runtime_checkable
class Planned(Protocol):
    """A stage that makes each frame as `Frame.plan` says, and tells how in `Frame.rung`."""

    def ways(self) -> Ways:
        """Return what it can do where it was opened."""

    def prepare(self, rungs: Sequence[Rung]) -> None:
        """Get ready to make a picture on any of these, best first.

        Called after `open`, and again with fewer where some have turned out to be of no use.
        """

    def is_still(self, frame: Frame) -> bool:
        """Return whether it would make the same picture of this frame as of the last one."""


State: TypeAlias = Mapping[str, "NDArray[Any]"]  # what a stage remembers, by name


@runtime_checkable
class Restorable(Protocol):
    """A stage that can go on, in another process, where it was in one that died."""

    def state(self) -> State:
        """Return what it remembers behind the last frame; {}: nothing.

        The arrays are kept, and nobody writes to them any more. What has not changed since the
        last frame is the same array again, so that it need not be copied once more.
        """

    def restore(self, state: State) -> None:
        """Remember what a predecessor did; called once the stage is open.

        Raises:
            StageError: this is no state of such a stage, as it is configured.
        """


@runtime_checkable
class Resettable(Protocol):
    """A stage that can forget what it has seen without being opened again."""

    def reset(self) -> None:
        """Take the next frame for the first."""
