"""A case: one op on one size, with what must come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from lsd.kernels.plans.launch import Launch
from lsd.lab.ptx.poison import unwritten

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One op on one input.

    Attributes:
        op: name of the op, of its record and its PTX file.
        name: of the size and the variant, "odd 7x5", say.
        build: makes fresh buffers and the launches over them, in order; called anew for every
            run, as a run changes its buffers. A buffer whose first contents must not matter
            comes from `fresh`.
        expected: the wanted contents of buffers, from the reference, by name.
        tolerance: largest |kernel - expected| allowed, by name of the buffer; 0: to the bit.
    """

    op: str
    name: str
    build: Callable[[], tuple[dict[str, Array], list[Launch]]]
    expected: dict[str, Array]
    tolerance: dict[str, float] = field(default_factory=dict)


def fresh(shape: int | tuple[int, ...], dtype: Any) -> Array:
    """Return a buffer whose contents are poison: NaN, or 0xA5 bytes; to read them is a fault."""
    return unwritten(shape, dtype)
