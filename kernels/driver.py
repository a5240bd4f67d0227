"""The NVIDIA driver: every call checked, the card's primary context, memory.

A thin layer over `cuda.bindings.driver`, which loads libcuda at its first call and raises when
there is none: `why_not` asks without raising. Contexts are the cards' primary ones, so that torch's
tensors and ours live in the same address space. A context is current per thread: `Device.activate`
before the first call on a thread.
"""

from __future__ import annotations

import ctypes
import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lsd.pipeline.errors import KernelError

if TYPE_CHECKING:
    from lsd.kernels.module import Module

try:
    from cuda.bindings import driver as _bindings  # type: ignore[import-untyped]
except ImportError:  # macOS has no cuda-python; elsewhere somebody removed it
    _bindings = None
cuda: Any = _bindings

OLDEST_DRIVER = 12000  # CUDA 12.0 (driver 525): the first that reads PTX 8.0
OLDEST_CARD = (8, 0)  # the PTX targets sm_80

_TO_CPU = "set device: cpu"
_STUCK = "the context is lost: end this process; a debug run is `compute-sanitizer`"
_ADVICE = {
    "CUDA_ERROR_NO_DEVICE": f"no NVIDIA card is visible (CUDA_VISIBLE_DEVICES?); {_TO_CPU}",
    "CUDA_ERROR_OUT_OF_MEMORY": "the card is full: use a smaller size, or close what else uses it",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "restart the machine: the driver was updated",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": f"the kernels want sm_80 or newer; {_TO_CPU}",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": f"update the NVIDIA driver, or {_TO_CPU}",
    "CUDA_ERROR_INVALID_PTX": "a kernel's text is damaged: install livesd again",
    "CUDA_ERROR_INVALID_CONTEXT": "this thread has no context: Device.activate() comes first",
    "CUDA_ERROR_ILLEGAL_ADDRESS": _STUCK,
    "CUDA_ERROR_MISALIGNED_ADDRESS": _STUCK,
    "CUDA_ERROR_LAUNCH_FAILED": _STUCK,
    "CUDA_ERROR_LAUNCH_TIMEOUT": _STUCK,
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": "the kernel and its block do not fit this card",
    "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": (
        "nothing may wait or allocate while a graph is captured: run the path once before"
    ),
    "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED": "an earlier call broke the capture of the graph",
}


def check(result: tuple[Any, ...], what: str) -> Any:
    """Return what a call of the driver gave, or say why it failed.

    Args:
        result: as every function of `cuda.bindings.driver` returns it: the code, then values.
        what: what was tried, for the message.

    Returns:
        Nothing, the value, or a tuple of the values.

    Raises:
        KernelError: with the error's name and number, NVIDIA's words for it, and what to do.
    """
    if result[0]:
        raise KernelError(f"{what}: {explain(result[0])}")
    return result[1] if len(result) == 2 else result[1:] or None


def explain(code: Any) -> str:
    """Return an error of the driver in words: name, number, meaning, what to do."""
    refused, words = cuda.cuGetErrorString(code)
    meaning = "" if refused or not words else f" ({words.decode()})"
    advice = _ADVICE.get(code.name)
    return f"{code.name} {int(code)}{meaning}" + (f"; {advice}" if advice else "")


def why_not() -> str | None:
    """Return why this machine runs no kernel on a card; None: it can.

    Never raises. 0.1 s at its first call where a card is, microseconds where none is.
    """
    if cuda is None:
        return "cuda-python is not installed (try: pip install 'cuda-python>=13.4,<14')"
    try:
        (failed,) = cuda.cuInit(0)
        if failed:
            return f"the driver does not start: {explain(failed)}"
        version = check(cuda.cuDriverGetVersion(), "asking for the driver's version")
        if version < OLDEST_DRIVER:
            return (
                f"the driver is too old: it knows CUDA {_dotted(version)}, the kernels need "
                f"{_dotted(OLDEST_DRIVER)}; update the NVIDIA driver to 525 or newer"
            )
        if check(cuda.cuDeviceGetCount(), "counting the cards") == 0:
            return "the driver finds no NVIDIA card"
    # a missing libcuda, or one so old that it lacks the functions: both are RuntimeErrors
    except (RuntimeError, KernelError) as error:
        return f"no NVIDIA driver that can be used: {str(error).partition(chr(10))[0]}"
    return None


def device_count() -> int:
    """Return how many cards the driver has; 0 where `why_not` says why."""
    return 0 if why_not() else int(check(cuda.cuDeviceGetCount(), "counting the cards"))


@lru_cache
def device(index: int) -> Device:
    """Return the process's only `Device` of a card, current on this thread.

    Raises:
        KernelError: no driver, no such card, or one that is too old for the kernels.
    """
    return Device(index)


class Device:
    """One card in its primary context.

    Attributes:
        index: as in `cuda:N`.
        name: as the driver has it.
        capability: (major, minor) of the compute capability.
        modules: what is loaded here, by its text.
    """

    def __init__(self, index: int) -> None:
        why = why_not()
        if why:
            raise KernelError(f"cuda:{index}: {why}")
        found = device_count()
        if index >= found:
            raise KernelError(f"cuda:{index}: found {found} card(s), from cuda:0; {_TO_CPU}")
        self.index = index
        self._handle = check(cuda.cuDeviceGet(index), f"cuda:{index}")
        raw = check(cuda.cuDeviceGetName(128, self._handle), f"cuda:{index}")
        self.name = raw.partition(b"\0")[0].decode(errors="replace")
        attribute = cuda.CUdevice_attribute
        self.capability = (
            self.ask(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            self.ask(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        )
        if self.capability < OLDEST_CARD:
            raise KernelError(
                f"cuda:{index}: the {self.name} is sm_{''.join(map(str, self.capability))}, the "
                f"kernels need sm_80 or newer; {_TO_CPU}"
            )
        self._context = check(
            cuda.cuDevicePrimaryCtxRetain(self._handle), f"the context of cuda:{index}"
        )
        self.modules: dict[str, Module] = {}
        self.activate()

    def ask(self, attribute: Any) -> int:
        """Return a device attribute of the driver, a `CUdevice_attribute`."""
        return int(check(cuda.cuDeviceGetAttribute(attribute, self._handle), f"{attribute.name}"))

    def bandwidth(self) -> float:
        """Return the memory's peak rate in bytes a second; 0 where the driver does not tell."""
        attribute = cuda.CUdevice_attribute
        clock_khz = self.ask(attribute.CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)
        bits = self.ask(attribute.CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)
        return 2.0 * clock_khz * 1e3 * bits / 8  # two transfers a clock

    def activate(self) -> None:
        """Make the context current on this thread, if another one is or none."""
        current = check(cuda.cuCtxGetCurrent(), "asking for the context")
        if int(current) != int(self._context):
            check(cuda.cuCtxSetCurrent(self._context), f"using the context of cuda:{self.index}")

    def synchronize(self) -> None:
        """Wait for everything on the card; for starts, ends and tests, never on the path."""
        check(cuda.cuCtxSynchronize(), f"waiting for cuda:{self.index}")


def allocate(count: int, what: str) -> int:
    """Return the address of `count` fresh bytes on the current context's card.

    Raises:
        KernelError: the card is full, and says how full.
    """
    result = cuda.cuMemAlloc(max(1, count))
    if result[0]:
        refused, free, total = cuda.cuMemGetInfo()
        room = "" if refused else f"; {free >> 20} of {total >> 20} MiB are free"
        raise KernelError(f"{what}: {count} bytes{room}: {explain(result[0])}")
    return int(result[1])


def release(address: int) -> None:
    """Give memory back; the driver waits for the card, so never on the path."""
    check(cuda.cuMemFree(address), "freeing memory")


def pinned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return a host array that the card copies to and from by itself; fresh, not zeroed.

    Raises:
        KernelError: the host cannot pin that much.
    """
    count = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    address = check(cuda.cuMemHostAlloc(count, 0), f"pinning {count} bytes of host memory")
    raw = (ctypes.c_uint8 * count).from_address(address)
    # all views of the array keep `raw` alive; at the interpreter's end the driver cleans up
    weakref.finalize(raw, cuda.cuMemFreeHost, address).atexit = False
    array: NDArray[Any] = np.frombuffer(raw, np.uint8).view(dtype).reshape(shape)
    return array


def copy_in(address: int, host: NDArray[Any], stream: Any) -> None:
    """Queue a copy from (pinned, C-contiguous) host memory to the card."""
    result = cuda.cuMemcpyHtoDAsync(address, host.ctypes.data, host.nbytes, stream)
    check(result, "copying to the card")


def copy_out(host: NDArray[Any], address: int, stream: Any) -> None:
    """Queue a copy from the card to (pinned, C-contiguous) host memory."""
    result = cuda.cuMemcpyDtoHAsync(host.ctypes.data, address, host.nbytes, stream)
    check(result, "copying from the card")


def copy_across(to: int, address: int, count: int, stream: Any) -> None:
    """Queue a copy of `count` bytes from the card to the card."""
    check(cuda.cuMemcpyDtoDAsync(to, address, count, stream), "copying on the card")


def zero(address: int, count: int, stream: Any) -> None:
    """Queue the zeroing of `count` bytes on the card."""
    check(cuda.cuMemsetD8Async(address, 0, count, stream), "zeroing memory")


def write_words(address: int, words: NDArray[np.uint32], stream: Any) -> None:
    """Queue the writing of a few words, one call each; a copy would need host memory that stays."""
    for index, word in enumerate(words.tolist()):
        check(cuda.cuMemsetD32Async(address + 4 * index, word, 1, stream), "writing words")


def _dotted(version: int) -> str:
    """12000 -> "12.0"."""
    return f"{version // 1000}.{version % 1000 // 10}"
