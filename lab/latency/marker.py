"""A number in a picture, as blocks that survive being restyled.

Eight by six blocks of 16 pixels lie in the upper left corner. Two neighbours are a bit:
one is white, the other has black stripes of 3 pixels on white, and which of them is which
is the bit. A style may change all tones and hues and may leave nothing but lines: fields with
and without lines differ in every style (fields of two greys do not: `solar` and `ember`
lose them). In which direction they differ, four pairs with known bits tell. The others
are 12 bits of the number and 8 of a checksum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK, COLUMNS, ROWS = 16, 8, 6
WIDTH, HEIGHT = BLOCK * COLUMNS, BLOCK * ROWS
NUMBERS = 2**12  # a number is kept modulo this

_STRIPE = 3
_EDGE = 2  # pixels of a block that are not read: its neighbour's tone runs over there
_NUMBER_BITS, _CHECK_BITS = 12, 8
_PAIRS = ROWS * COLUMNS // 2
_KNOWN = {0: 1, 7: 0, 16: 0, 23: 1}  # pair -> its bit, in all corners and halves
_FREE = [pair for pair in range(_PAIRS) if pair not in _KNOWN]
_POLYNOMIAL = 0x07  # of the CRC-8: up to three wrong bits of so few are always found
_WEAKEST = 0.1  # a pair that differs by less than this part of the median is no bit

Bits = NDArray[np.bool_]


def stamp(picture: NDArray[np.uint8], number: int) -> None:
    """Paint a number into a picture.

    Args:
        picture: uint8 [H, W, 3], changed in place; H >= HEIGHT and W >= WIDTH.
        number: any from 0 on; what is painted is its remainder modulo NUMBERS.
    """
    bits = np.zeros(_PAIRS, int)
    bits[list(_KNOWN)] = list(_KNOWN.values())
    bits[_FREE] = code(number % NUMBERS)
    tiles = _TILES[bits].reshape(ROWS, COLUMNS // 2, BLOCK, 2 * BLOCK)
    picture[:HEIGHT, :WIDTH] = tiles.transpose(0, 2, 1, 3).reshape(HEIGHT, WIDTH, 1)


def read(picture: NDArray[np.uint8]) -> int | None:
    """Return the number in a picture, or None where none can be read with its checksum.

    Args:
        picture: uint8 [H, W, 3]; H >= HEIGHT and W >= WIDTH.
    """
    sums = _block_sums(picture[:HEIGHT, :WIDTH])
    differences = (sums[:, 0::2] - sums[:, 1::2]).reshape(_PAIRS, 3).astype(np.float64)
    signs = np.array([2 * bit - 1 for bit in _KNOWN.values()])
    known = differences[list(_KNOWN)] * signs[:, None]
    direction = known.mean(axis=0)
    strengths = differences @ direction
    if (known @ direction <= 0).any():
        return None
    if (np.abs(strengths) < _WEAKEST * np.median(np.abs(strengths))).any():
        return None
    return number_of(strengths[_FREE] > 0)


def code(number: int) -> Bits:
    """Return a number, 0 to NUMBERS - 1, and its checksum as 20 bits, the highest first."""
    whole = number << _CHECK_BITS | _crc(number)
    length = _NUMBER_BITS + _CHECK_BITS
    return np.array([whole >> place & 1 for place in reversed(range(length))], bool)


def number_of(bits: Bits) -> int | None:
    """Return the number of 20 bits; None where the checksum is another's."""
    whole = int("".join("1" if bit else "0" for bit in bits), 2)
    number, check = whole >> _CHECK_BITS, whole & (1 << _CHECK_BITS) - 1
    return number if _crc(number) == check else None


def _block_sums(corner: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the sums of what is read of each block, int32 [ROWS, COLUMNS, 3]."""
    # Along the columns first, where memory is read in order: a tenth of the time.
    lines = corner.reshape(ROWS, BLOCK, WIDTH * 3)[:, _EDGE:-_EDGE].sum(axis=1, dtype=np.int32)
    blocks = lines.reshape(ROWS, COLUMNS, BLOCK, 3)[:, :, _EDGE:-_EDGE]
    sums: NDArray[np.int32] = blocks.sum(axis=2, dtype=np.int32)
    return sums


def _crc(number: int) -> int:
    value = 0xFF  # so that a picture of one bit all over is no number
    for place in reversed(range(_NUMBER_BITS)):
        bit = (value >> 7 ^ number >> place) & 1
        value = (value << 1 & 0xFF) ^ (_POLYNOMIAL if bit else 0)
    return value


def _tiles() -> NDArray[np.uint8]:
    """Return the pair for 0 and that for 1, uint8 [2, BLOCK, 2 * BLOCK]."""
    plain = np.full((BLOCK, BLOCK), 255, np.uint8)
    striped = plain.copy()
    striped[:, (np.arange(BLOCK) // _STRIPE) % 2 == 0] = 0
    return np.stack([np.hstack([plain, striped]), np.hstack([striped, plain])])


_TILES = _tiles()
