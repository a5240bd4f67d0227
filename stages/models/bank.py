"""MemoryBank: what scenes looked like, kept outside the recurrence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lsd.kernels import ops


class MemoryBank:
    """A fixed-size ring of past frames: a key of the input, a value to recall.

    Args:
        capacity: entries, of which the oldest is overwritten; 0: it learns nothing.
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
        self._copied: dict[str, NDArray[Any]] | None = None  # what `state` returned last

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
        if not len(self._keys):
            return
        slot = self._learned % len(self._keys)
        if replace_from is not None and self._learned:
            alike, nearest = self._cosines(key).max(0)
            if alike >= replace_from:
                slot, self._learned = int(nearest), self._learned - 1
        self._copied = None
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
        if not len(self):
            return None
        n = len(self)
        found = ops.memory_attention(query, self._keys[:n], self._values[:n], self._temperature)
        return found[:-1], float(found[-1])

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all entries, copied; the same arrays again until something is learned."""
        if self._copied is None:
            n = len(self)
            keys, values = (x[:n].numpy().copy() for x in (self._keys, self._values))
            self._copied = {"learned": np.array(self._learned), "keys": keys, "values": values}
        return self._copied

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Know the entries of a bank whose `state` this is.

        Raises:
            ValueError: it is of another size, or none.
        """
        if not {"learned", "keys", "values"} <= state.keys():
            raise ValueError("a bank has learned, keys and values")
        learned = max(0, int(state["learned"]))
        n = min(learned, len(self._keys))
        for name, own in (("keys", self._keys), ("values", self._values)):
            found, wanted = state[name], (n, own.shape[1])
            if found.dtype != np.float32 or found.shape != wanted:
                raise ValueError(
                    f"its {name} are {found.dtype} {found.shape}, expected float32 {wanted}"
                )
            if not np.isfinite(found).all():
                raise ValueError(f"its {name} are not finite")
        for name, own in (("keys", self._keys), ("values", self._values)):
            own[:n].copy_(torch.from_numpy(state[name]))
        self._learned, self._copied = learned, None

    def reset(self) -> None:
        """Forget everything."""
        self._learned, self._copied = 0, None

    def _cosines(self, key: Tensor) -> Tensor:
        return F.cosine_similarity(self._keys[: len(self)], key[None])
