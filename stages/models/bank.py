"""MemoryBank: what scenes looked like, kept outside the recurrence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lsd.kernels import ops


class MemoryBank:
    """A fixed-size ring of past frames: a key of the input, a value to recall.

    Args:
        capacity: entries; the oldest is overwritten.
        key_size: length of a key.
        value_size: length of a value.
        temperature: of the softmax over cosines; small picks the nearest entry.
    """

    def __init__(
        self, capacity: int, key_size: int, value_size: int, temperature: float = 0.02
    ) -> None:
        self._keys = torch.zeros(capacity, key_size)
        self._values = torch.zeros(capacity, value_size)
        self._temperature = temperature
        self._learned = 0

    def __len__(self) -> int:
        return min(self._learned, len(self._keys))

    def learn(self, key: Tensor, value: Tensor, replace_from: float | None = None) -> None:
        """Copy an entry into the ring.

        Args:
            key: float32 [key_size].
            value: float32 [value_size].
            replace_from: cosine from which the entry takes the place of the one
                that is most like it, instead of the oldest one's.
        """
        slot = self._learned % len(self._keys)
        if replace_from is not None and self._learned:
            alike, nearest = self._cosines(key).max(0)
            if alike >= replace_from:
                slot, self._learned = int(nearest), self._learned - 1
        self._keys[slot].copy_(key)
        self._values[slot].copy_(value)
        self._learned += 1

    def recall(self, query: Tensor) -> tuple[Tensor, float] | None:
        """Return the value that cosine attention gives, and the best cosine.

        Args:
            query: float32 [key_size].

        Returns:
            (float32 [value_size], -1 to 1), or None from an empty bank.
        """
        if not self._learned:
            return None
        n = len(self)
        found = ops.memory_attention(query, self._keys[:n], self._values[:n], self._temperature)
        return found[:-1], float(found[-1])

    def reset(self) -> None:
        """Forget everything."""
        self._learned = 0

    def _cosines(self, key: Tensor) -> Tensor:
        return F.cosine_similarity(self._keys[: len(self)], key[None])
