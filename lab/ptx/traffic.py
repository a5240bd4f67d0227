"""How many bytes a torch twin moves, counted at each operation while it runs on the CPU.

An operation reads what it is given and writes what it gives, each byte once; what it keeps for
itself is not seen. Counted are torch's operations, OpenCV's in `kernels.reference`, and NumPy's on
arrays that come from either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any, NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lsd.kernels import reference
from lsd.lab.ptx.torch_twins import Twin, subjects

# they change their first argument without a look at it
_OVERWRITE = {"aten::copy_", "aten::fill_", "aten::zero_"}
# memory in which nothing is written yet
_EMPTY = {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty"}


def of(op: str) -> dict[str, float]:
    """Return the bytes an output element of an op's twin, by the kernel that it stands beside.

    Without those that have no twin, or whose twin works where nothing is counted.
    """
    found = {kernel: measured(twin) for kernel, _, twin in subjects(op) if twin is not None}
    return {kernel: figure for kernel, figure in found.items() if figure is not None}


def measured(twin: Twin) -> float | None:
    """Return the bytes that a twin moves per output element.

    None where it works on memory that no counted operation has made: what made it is not counted.
    """
    twin.call(*twin.tensors)  # what the twin keeps is made at its first call
    first, second = moved(twin.call, *twin.tensors), moved(twin.call, *twin.tensors)
    # what is found again the next time is a constant that the twin keeps
    kept = {piece.address for piece in first.strange}
    if any(piece.address not in kept for piece in second.strange):
        return None
    return second.bytes / twin.outputs


def moved(call: Callable[..., Any], *tensors: Tensor) -> Traffic:
    """Count what a call moves."""
    traffic = Traffic(tensors)
    opencv = patch.object(reference, "cv2", _OpenCV(traffic))
    with opencv, _ToNumpy(traffic), _Operations(traffic):
        call(*tensors)
    return traffic


class Piece(NamedTuple):
    """Memory that is read or written: what a tensor or an array shows of it.

    Attributes:
        address: of the first byte.
        shape: elements along each axis.
        strides: from element to element, in the library's own unit.
        element: bytes of one.
        whole: address of the storage, where there may be more of it.
        owner: keeps it alive, as another one at the same address would be taken for it.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    element: int
    whole: int
    owner: Any

    @property
    def bytes(self) -> int:
        """What lies there: an axis of stride 0 is one element, repeated."""
        axes = zip(self.shape, self.strides, strict=True)
        return self.element * prod(size if stride else min(size, 1) for size, stride in axes)


class Traffic:
    """A sum of bytes.

    Args:
        given: what the call may read from the start.

    Attributes:
        bytes: read and written until now.
        strange: pieces that were read, and that nothing counted has written.
    """

    def __init__(self, given: Iterable[Tensor]) -> None:
        self.bytes = 0
        self.strange: list[Piece] = []
        self._known = {piece.whole: piece for piece in _pieces(tuple(given))}

    def add(self, read: Iterable[Piece], written: Iterable[Piece]) -> None:
        """Add an operation; memory that is given to it twice is read once."""
        read = {each[:4]: each for each in read}.values()
        written = list(written)
        self.strange += [each for each in read if each.whole not in self._known]
        self._known |= {each.whole: each for each in written}
        self.bytes += sum(each.bytes for each in (*read, *written))


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts torch's operations."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._traffic = traffic

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if torch.Tag.inplace_view in func.tags:  # squeeze_, say
            return result
        read, changed = _roles(func._schema, args, kwargs)
        made = [] if func._schema.name in _EMPTY else _pieces(result)
        shared = {each.whole for each in (*read, *changed)}
        fresh = [each for each in made if each.whole not in shared]
        # a view makes nothing and changes nothing; what gives numbers only reads
        if fresh or changed or not made:
            self._traffic.add(read, (*fresh, *changed))
        return result


def _roles(schema: Any, args: Any, kwargs: Any) -> tuple[list[Piece], list[Piece]]:
    """Return what an operation reads of its arguments, and what it changes."""
    read: list[Piece] = []
    changed: list[Piece] = []
    for place, argument in enumerate(schema.arguments):
        given = args[place] if place < len(args) else kwargs.get(argument.name)
        is_changed = argument.alias_info is not None and argument.alias_info.is_write
        if is_changed:
            changed += _pieces(given)
        if not is_changed or not (argument.is_out or schema.name in _OVERWRITE):
            read += _pieces(given)
    return read, changed


class _ToNumpy(TorchFunctionMode):
    """Lets arrays that come from tensors count what NumPy does with them."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self._traffic = traffic

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        return _counted(result, self._traffic) if func is Tensor.numpy else result


class _Counted(np.ndarray[Any, Any]):
    """An array that adds what NumPy does with it to a `Traffic`."""

    traffic: Traffic

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, _Counted):
            self.traffic = source.traffic

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _counting(getattr(ufunc, method), self.traffic, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _counting(func, self.traffic, args, kwargs)


class _OpenCV:
    """OpenCV, counted."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def __getattr__(self, name: str) -> Any:
        found = getattr(cv2, name)
        if not callable(found):
            return found
        return lambda *args, **kwargs: _counting(found, self._traffic, args, kwargs)


def _counting(function: Any, traffic: Traffic, args: Any, kwargs: Any) -> Any:
    """Call a function of NumPy's or OpenCV's, and count the arrays that go in and come out."""
    result = function(*_plain(args), **_plain(kwargs))
    written = _pieces(result)
    read = _pieces((args, {name: each for name, each in kwargs.items() if name != "out"}))
    if "out" in kwargs or not {each.whole for each in written} & {each.whole for each in read}:
        traffic.add(read, written)
    return _counted(result, traffic)


def _plain(found: Any) -> Any:
    return _mapped(found, lambda array: array.view(np.ndarray))


def _counted(found: Any, traffic: Traffic) -> Any:
    def wrapped(array: Any) -> Any:
        counted = array.view(_Counted)
        counted.traffic = traffic
        return counted

    return _mapped(found, wrapped)


def _mapped(found: Any, change: Callable[[Any], Any]) -> Any:
    """Apply `change` to every array in nested lists, tuples and dictionaries."""
    if isinstance(found, np.ndarray):
        return change(found)
    if isinstance(found, (list, tuple)):
        return type(found)(_mapped(each, change) for each in found)
    if isinstance(found, dict):
        return {name: _mapped(each, change) for name, each in found.items()}
    return found


def _pieces(found: Any) -> list[Piece]:
    """Return the memory of every tensor and array in nested lists, tuples, dictionaries."""
    return [_piece(each) for each in _flat(found)]


def _flat(found: Any) -> Iterator[Any]:
    if isinstance(found, (Tensor, np.ndarray)):
        yield found
    elif isinstance(found, (list, tuple)):
        for each in found:
            yield from _flat(each)
    elif isinstance(found, dict):
        yield from _flat(list(found.values()))


def _piece(found: Any) -> Piece:
    if isinstance(found, Tensor):
        whole = found.untyped_storage().data_ptr()
        element = found.element_size()
        return Piece(found.data_ptr(), tuple(found.shape), found.stride(), element, whole, found)
    root = found
    while isinstance(root.base, np.ndarray):
        root = root.base
    start = found.ctypes.data
    return Piece(start, found.shape, found.strides, found.itemsize, root.ctypes.data, found)
