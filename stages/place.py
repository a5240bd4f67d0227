"""Where a run's pictures lie: in the host's memory, or on a card.

Stages call `kernels.ops` and don't know which. What differs beside the ops stands here: a frame's
inputs are sent to the card, work is queued on the run's stream, and what the card has found out
about a picture comes a frame late, as nobody waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lsd.kernels import ops
from lsd.kernels.card import Card
from lsd.kernels.driver import zero
from lsd.kernels.staging import Download, Fields, Form, Reader, Ticket, Upload
from lsd.kernels.stopwatch import Stopwatch
from lsd.pipeline.errors import KernelError
from lsd.pipeline.frame import Frame, FrameFlag, Inputs, Picture
from lsd.pipeline.stage import Context

_VERDICT = (4,), np.uint32  # what the guard's kernel writes: the code, and padding


class Host:
    """Pictures are torch tensors, and what an op returns is there."""

    def working(self, seq: int | None = None) -> AbstractContextManager[None]:
        """Return the context in which ops on a frame's pictures are called.

        Args:
            seq: the frame's, whose time on a card is told; None: it is no frame of the stream.
        """
        return nullcontext()

    def send(self, frame: Frame, **planes: Picture) -> tuple[Frame, dict[str, Any]]:
        """Bring a frame's inputs, and what else its picture is made from, to where it is made."""
        return frame, planes

    def kept(self, picture: Any) -> Any:
        """Return a model's picture as one that its next call does not overwrite."""
        return picture.clone()

    def made(self, frame: Frame, data: Any, flags: FrameFlag = FrameFlag.NONE) -> Frame:
        """Return `frame` with the picture that has been made for it."""
        return replace(frame, data=data, flags=frame.flags | flags)

    def verdict(self, code: Any) -> int | None:
        """Return what a guard found; None: the card will tell, see `found`."""
        return int(code)

    def found(self) -> list[int]:
        """Return the verdicts on earlier frames that have come meanwhile."""
        return []

    def rehearse(self, work: Callable[[], object]) -> None:
        """Do once what the stream will do, so that no frame pays for what is done once."""
        work()

    def pixels(self, frame: Frame) -> npt.NDArray[np.uint8]:
        """Return a frame's picture, uint8 [H, W, 3]; waits until it has been made."""
        return np.asarray(ops.tensor_to_frame(frame.data)[0].numpy())

    def blank(self, context: Context) -> Any:
        """Return a grey picture, float32 [1, 3, H, W], to rehearse with."""
        width, height = context.size
        return torch.zeros((1, 3, height, width))

    def close(self) -> list[int]:
        """Let go; return the verdicts that were still to come."""
        return []


class OnCard(Host):
    """Pictures lie on a card, and what an op returns will be there, in the order of one stream.

    Args:
        context: the run's.
        stage: whose pictures; its name tells its times from others'.
        fields: what `send` takes beside source and motion: name -> (shape, dtype).
    """

    def __init__(self, context: Context, stage: str, fields: Fields | None) -> None:
        self._context, self._stage = context, stage
        self.card = _shared_card(context)
        width, height = context.size
        inputs: dict[str, Form] = {
            "source": ((1, height, width, 3), np.uint8),
            "motion": ((1, height, width, 2), np.float32),
        }
        self.upload: Upload | None = None
        self._verdicts: deque[Ticket] = deque()
        with ExitStack() as undo:
            undo.callback(_leave, context)
            if fields is not None:
                self.upload = Upload(inputs | dict(fields), self.card.lane)
                undo.callback(self.upload.close)
            self._reader = Reader(self.card.lane, _VERDICT)
            undo.callback(self._reader.close)
            tell = partial(context.on_card, stage)
            self._stopwatch = Stopwatch(self.card.lane, context.clock.now_ns, tell)
            undo.pop_all()

    @contextmanager
    def working(self, seq: int | None = None) -> Iterator[None]:
        with self.card.working():
            if seq is None:
                yield
                return
            with _named(f"{self._stage} {seq}"), self._stopwatch.timing(seq):
                yield

    def send(self, frame: Frame, **planes: Picture) -> tuple[Frame, dict[str, Any]]:
        assert self.upload is not None, "this stage has not said what it sends"
        values = {"source": frame.source, **planes}
        if frame.motion is not None:
            values["motion"] = frame.motion
        sent = self.upload.send({name: value.numpy() for name, value in values.items()})
        inputs = Inputs(sent.pop("source"), sent.pop("motion", None))  # type: ignore[arg-type]
        return replace(frame, sent=inputs), dict(sent)

    def kept(self, picture: Any) -> Any:
        return picture  # what runs there makes a new one each time

    def made(self, frame: Frame, data: Any, flags: FrameFlag = FrameFlag.NONE) -> Frame:
        return replace(frame, data=data, flags=frame.flags | flags, ready=self.card.mark())

    def verdict(self, code: Any) -> int | None:
        self._verdicts.append(self._reader.fetch(code))
        return None

    def found(self) -> list[int]:
        codes = []
        while self._verdicts and self._verdicts[0].is_here():
            codes.append(int(self._verdicts.popleft().value()[0]))
        return codes

    def rehearse(self, work: Callable[[], object]) -> None:
        with self.working():
            work()
        self.card.compute.synchronize()

    def pixels(self, frame: Frame) -> npt.NDArray[np.uint8]:
        landing = Landing(self._context)
        try:
            pixels = landing.pixels(frame)
        except BaseException:
            with suppress(KernelError):  # what failed first says more
                landing.close()
            raise
        landing.close()
        return pixels

    def blank(self, context: Context) -> Any:
        width, height = context.size
        memory = self.card.lane.memory
        assert memory is not None
        picture = memory.take((1, 3, height, width), np.float32)
        zero(picture.pointer, picture.nbytes, self.card.lane.handle)
        return picture

    def close(self) -> list[int]:
        with ExitStack() as closing:  # backwards, and each whatever becomes of the others
            closing.callback(_leave, self._context)
            closing.callback(self._reader.close)
            closing.callback(self._stopwatch.close)
            if self.upload is not None:
                closing.callback(self.upload.close)
            self.card.device.activate()
            self.card.compute.synchronize()
            codes = [int(ticket.value()[0]) for ticket in self._verdicts]
            self._verdicts.clear()
        return codes


class Landing:
    """Takes a run's pictures to the host, as pixels; the output's own thread uses it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._download: Download | None = None
        if context.device != "cpu":
            card, (width, height) = _shared_card(context), context.size
            try:
                self._download = Download(card.device, (1, height, width, 3))
            except BaseException:
                _leave(context)
                raise

    def pixels(self, frame: Frame) -> npt.NDArray[np.uint8]:
        """Return a frame's picture, uint8 [H, W, 3]; waits until it has been made."""
        if frame.ready is None:  # on the host: from the start, or since the card was left
            return np.asarray(ops.tensor_to_frame(frame.data)[0].numpy())
        assert self._download is not None, "the run has no card"
        return np.asarray(self._download.fetch(frame.data, frame.ready)[0])

    def close(self) -> None:
        """Let go of the card."""
        download, self._download = self._download, None
        if download is None:
            return
        try:
            download.close()
        finally:
            _leave(self._context)


def place_of(context: Context, stage: str, fields: Fields | None = None) -> Host | OnCard:
    """Return where a run's pictures lie.

    Args:
        context: the run's.
        stage: the name of the stage that asks.
        fields: what the stage sends there beside a frame's source and motion; None: it sends
            nothing.

    Raises:
        KernelError: the card cannot be used.
    """
    return Host() if context.device == "cpu" else OnCard(context, stage, fields)


def _named(text: str) -> AbstractContextManager[None]:
    """Name what is queued inside in NVIDIA's tools, where torch's CUDA build is there to do it."""
    if not torch.cuda.is_available():
        return nullcontext()
    named: AbstractContextManager[None] = torch.cuda.nvtx.range(text)
    return named


def _shared_card(context: Context) -> Card:
    """Return the card that the stages of a run have in common, opened by the first."""
    if "card" not in context.shared:
        context.shared |= {"card": Card(context.device), "card users": 0}
    context.shared["card users"] += 1
    card: Card = context.shared["card"]
    return card


def _leave(context: Context) -> None:
    """Close the card when the last stage has let go of it."""
    context.shared["card users"] -= 1
    if context.shared["card users"] == 0:
        context.shared.pop("card").close()
