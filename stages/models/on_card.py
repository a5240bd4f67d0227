"""Networks on a card: the shipped ones by torch's CUDA build, or your own denoiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lsd.kernels.card import Card
from lsd.kernels.lanes import Lane, on
from lsd.pipeline.errors import KernelError
from lsd.pipeline.frame import Size
from lsd.stages.models import weights
from lsd.stages.models.captured import CapturedDenoiser
from lsd.stages.models.denoiser import NO_HISTORY, RUNTIME_LEVEL, Denoiser
from lsd.stages.models.replayed import Replayed

# source's luma uint8 [1, H, W, 1], history uint8 [1, H, W, 4], the new picture and the warped last
# output float32 [1, 3, H, W] -> weight of the past float32 [1, 1, h, w]
Weigher = Callable[[Any, Any, Any, Any], Any]


def denoiser_on(card: Card, size: Size, given: Denoiser | None) -> Denoiser:
    """Return what runs a denoise step on a card.

    Args:
        card: the run's.
        size: of the pictures.
        given: the user's own, of our ops; it is captured. None: the shipped network.

    Raises:
        KernelError: there is no network that could run there.
    """
    if given is not None:
        return CapturedDenoiser(given, card)
    return TorchUNet(_torch_device(card), size, _torch_lane(card))


def weigher_on(card: Card) -> Weigher:
    """Return the blend's network on a card.

    Raises:
        KernelError: torch cannot compute there.
    """
    return TorchBlend(_torch_device(card), _torch_lane(card))


class TorchUNet:
    """The shipped network by torch, in its float32 (TF32 in convolutions, by torch's default).

    GroupNorm and SiLU are our kernel. On a lane, a denoise step is captured once for each noise
    level, with history and without, at the first step and later ones, and then replayed.

    Args:
        device: torch's.
        size: of the pictures.
        lane: where it runs, with torch's memory; None: torch's current stream, uncaptured.
    """

    engine = "torch-cuda"

    def __init__(self, device: torch.device, size: Size, lane: Lane | None = None) -> None:
        self.model = f"unet-{weights.fingerprint('unet')}"
        self._device, self._lane = device, lane
        width, height = size
        with _inference(lane):
            self._module = weights.load_module("unet").to(device)
            self._no_history = torch.zeros((1, height, width, 4), dtype=torch.uint8, device=device)
            self._no_estimate = torch.zeros((1, 3, height, width), device=device)
            self._levels = {
                has_history: torch.tensor([level], device=device)
                for has_history, level in ((False, NO_HISTORY), (True, RUNTIME_LEVEL))
            }
        self._sigmas: dict[float, Tensor] = {}
        self._replayed = None if lane is None else Replayed()

    def __call__(
        self, x: Any, sigma: float, frame: Any, history: Any, style: Any, estimate: Any = None
    ) -> Tensor:
        """See `Denoiser`; pictures are tensors, or anything with `__cuda_array_interface__`."""
        given = {"x": x, "frame": frame, "history": history, "style": style, "estimate": estimate}

        def work(**tensors: Tensor | None) -> Tensor:
            return self._denoised(sigma, **tensors)

        with _inference(self._lane):
            tensors = {
                name: None if value is None else self._tensor(value)
                for name, value in given.items()
            }
            if self._replayed is None:
                return work(**tensors).contiguous()
            kind = sigma, history is None, estimate is None
            return self._replayed(kind, work, tensors)

    def close(self) -> None:
        """Give the card's memory back to the driver; any thread may."""
        if self._device.type != "cuda":
            return
        with _told(self._device):
            torch.cuda.synchronize(self._device)  # replays may be queued
            if self._replayed is not None:
                self._replayed.close()
            del self._module, self._no_history, self._no_estimate
            self._levels.clear()
            self._sigmas.clear()
            torch.cuda.empty_cache()

    def _denoised(self, sigma: float, **given: Tensor | None) -> Tensor:
        """Queue one run of the network."""
        if sigma not in self._sigmas:
            self._sigmas[sigma] = torch.tensor([sigma], device=self._device)
        history, estimate = given["history"], given["estimate"]
        denoised: Tensor = self._module(
            given["frame"],
            self._no_history if history is None else history,
            given["x"],
            self._no_estimate if estimate is None else estimate,
            given["style"],
            self._sigmas[sigma],
            self._levels[history is not None],
        )
        return denoised

    def _tensor(self, picture: Any) -> Tensor:
        return torch.as_tensor(picture, device=self._device)  # a card's array is not copied


class TorchBlend:
    """The blend's network by torch.

    Args:
        device: torch's.
        lane: where it runs, with torch's memory; None: torch's current stream.
    """

    def __init__(self, device: torch.device, lane: Lane | None = None) -> None:
        self._device, self._lane = device, lane
        self._replayed = None if lane is None else Replayed()
        with _inference(lane):
            self._module = weights.load_module("blend").to(device)

    def __call__(self, luma: Any, history: Any, current: Any, past: Any) -> Tensor:
        """See `Weigher`."""
        given = {"luma": luma, "history": history, "current": current, "past": past}
        with _inference(self._lane):
            tensors = {
                name: torch.as_tensor(value, device=self._device) for name, value in given.items()
            }
            if self._replayed is None:
                return self._weight(**tensors).contiguous()
            return self._replayed("blend", self._weight, tensors)

    def close(self) -> None:
        """Let go of what was captured; any thread may."""
        if self._replayed is not None:
            self._replayed.close()

    def _weight(self, luma: Tensor, history: Tensor, current: Tensor, past: Tensor) -> Tensor:
        weight: Tensor = self._module(luma, history[..., 3:], current, past)
        return weight


@contextmanager
def _inference(lane: Lane | None) -> Iterator[None]:
    """Queue what is computed inside on a lane, if there is one, without gradients.

    Raises:
        KernelError: torch fails on the card.
    """
    with torch.inference_mode():
        if lane is None:
            yield
            return
        index = lane.device.index
        with _told(torch.device("cuda", index)):
            stream = torch.cuda.ExternalStream(int(lane.handle), device=index)  # type: ignore[no-untyped-call]
            with on(lane), torch.cuda.stream(stream):
                yield


@contextmanager
def _told(device: torch.device) -> Iterator[None]:
    """Tell torch's errors as ours, its out of memory among them."""
    try:
        yield
    except RuntimeError as error:
        raise KernelError(f"torch on {device}: {error}") from error


def _torch_lane(card: Card) -> Lane:
    """Return the run's stream as a lane whose results are torch's."""
    return Lane(card.device, card.compute, None)


def _torch_device(card: Card) -> torch.device:
    """Return the card as torch names it.

    Raises:
        KernelError: this torch computes on the CPU only.
    """
    if not torch.cuda.is_available():
        raise KernelError(
            f"cuda:{card.device.index}: the shipped network runs there by torch, and torch "
            f"{torch.__version__} computes on the CPU only; install the CUDA build of pytorch.org, "
            "or set device: cpu"
        )
    return torch.device("cuda", card.device.index)
