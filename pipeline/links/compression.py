"""Pixels made smaller for a slow network; on one host it costs more than it saves.

A plane whose bytes are fewer than its shape says is an LZ4 block; one that would not become
smaller crosses as it is.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, cast

import numpy as np

from lsd.pipeline.errors import ConfigError
from lsd.pipeline.links.header import Plane
from lsd.pipeline.links.message import BadMessage
from lsd.pipeline.links.parcel import Array


def require_lz4() -> None:
    """Refuse to compress without the library.

    Raises:
        ConfigError: it is not installed.
    """
    if find_spec("lz4") is None:
        raise ConfigError(
            "compressing a link needs lz4, on both hosts; run: pip install 'livesd[lz4]', or "
            "leave compression off"
        )


def packed(array: Array) -> Any:
    """Return what crosses for an array: a block, or the array itself."""
    import lz4.block  # type: ignore[import-untyped]

    block = lz4.block.compress(array, store_size=False)
    return block if len(block) < array.nbytes else array


def unpacked(plane: Plane, part: memoryview) -> Array:
    """Return the array of a plane, on the memory of `part` where that was not compressed.

    Raises:
        BadMessage: the bytes are not those of the plane; no more than it takes is written.
    """
    data: Any = part
    if len(part) < plane.nbytes:
        data = _decompressed(plane, part)
    if len(data) != plane.nbytes:
        raise BadMessage("malformed", f"{len(part)} bytes of {plane.name}, not {plane.nbytes}")
    flat = np.frombuffer(data, plane.dtype)
    return np.require(flat, requirements="A").reshape(plane.shape)


def _decompressed(plane: Plane, part: memoryview) -> bytes:
    try:
        import lz4.block
    except ImportError as error:
        raise BadMessage(
            "malformed", f"{plane.name} is compressed or cut short, and lz4 is not installed"
        ) from error
    try:
        return cast("bytes", lz4.block.decompress(part, uncompressed_size=plane.nbytes))
    except (lz4.block.LZ4BlockError, ValueError) as error:
        raise BadMessage("malformed", f"the pixels of {plane.name} are not all there") from error
