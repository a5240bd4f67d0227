"""Counter-based noise: what the kernel makes of a seed, a frame, a step and an element's place.

No state: any element of any frame can be made again alone, on any device.

Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3 (Philox4x32-10); Box and
Muller 1958. PTX entries ``denoise_step_*`` in kernels/ptx/denoise_step.ptx.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 10
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = 0x9E3779B9, 0xBB67AE85  # golden ratio and sqrt(3) - 1: what a round adds to the key
WORD = 0xFFFFFFFF

Words = NDArray[np.uint32]
Floats = NDArray[np.float32]


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Scramble counters: ten rounds of Philox4x32.

    Args:
        counter: uint32 [..., 4].
        key: two words.

    Returns:
        uint32 [..., 4], four independent words a counter.
    """
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    low, high = np.uint64(WORD), np.uint64(32)
    for number in range(ROUNDS):
        k0, k1 = (np.uint64(key[i] + number * WEYL[i] & WORD) for i in range(2))
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = p1 >> high ^ c1 ^ k0, p1 & low, p0 >> high ^ c3 ^ k1, p0 & low
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words(count: int, *, seed: int, frame: int, step: int) -> Words:
    """Make the words behind `normals`.

    Args:
        count: elements.
        seed: of the stream, 0 to 2**64 - 1: the key, low word first.
        frame: which frame, 0 to 2**32 - 1.
        step: which denoise step of the frame, 0 to 2**32 - 1.

    Returns:
        uint32 [ceil(count / 4), 4].
    """
    counter = np.zeros((-(-count // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    counter[:, 1:3] = frame, step
    return philox4x32(counter, (seed & WORD, seed >> 32))


def normals(count: int, *, seed: int, frame: int, step: int) -> Floats:
    """Make standard normals; element i is the same for every `count`.

    Args:
        count: elements.
        seed, frame, step: as in `words`.

    Returns:
        float32 [count].
    """
    uniform, angle = polar(words(count, seed=seed, frame=frame, step=step))
    radius = np.sqrt(-2.0 * np.log(uniform.astype(np.float64)))
    pairs = [radius * np.cos(angle, dtype=np.float64), radius * np.sin(angle, dtype=np.float64)]
    return np.stack(pairs, axis=-1).reshape(-1)[:count].astype(np.float32)


def polar(of: Words) -> tuple[Floats, Floats]:
    """Turn words into what Box-Muller starts from, to the bit as the kernel does.

    Args:
        of: uint32 [n, 4].

    Returns:
        uniform: float32 [n, 2] in [2**-33, 1].
        angle: float32 [n, 2] in [-pi, pi].
    """
    # the product and the sum are exact in float64: one rounding, as in the kernel's fma
    shrunk = of[:, 0::2].astype(np.float32).astype(np.float64) * 2.0**-32
    uniform = (shrunk + 2.0**-33).astype(np.float32)
    angle = of[:, 1::2].view(np.int32).astype(np.float32) * np.float32(2.0 * np.pi / 2**32)
    return uniform, angle
