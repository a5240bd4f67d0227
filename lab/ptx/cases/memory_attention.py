"""Cases of memory_attention: tails of entries, keys and values; zero and tiny norms; NaN."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from lsd.kernels import reference
from lsd.kernels.plans.launch import Launch
from lsd.kernels.plans.memory_attention import MOST_ENTRIES, plan
from lsd.lab.ptx.case import Array, Case, fresh

OP = "memory_attention"


class Bank(NamedTuple):
    """What is asked for, where, and how sharply."""

    name: str
    query: Array
    keys: Array
    values: Array
    temperature: float


SIZES = [  # entries, key, value
    ("one", 1, 1, 1, 1.0),
    ("odd", 5, 7, 3, 0.1),
    ("one quad", 3, 4, 4, 0.02),
    ("ragged", 37, 50, 261, 0.05),
    ("keys of quads, ragged values", 6, 132, 5, 0.1),
    ("ragged keys, values of quads", 18, 33, 260, 0.1),
    ("more entries than threads", 603, 8, 8, 0.3),
    ("as many as fit", MOST_ENTRIES, 4, 4, 0.5),
    ("warm", 70, 36, 516, 10.0),
    ("the recall stage's", 64, 768, 12288, 1e-3),
]


def cases() -> list[Case]:
    """Return the cases of both entries."""
    found = []
    for dtype in (np.float32, np.float16):
        found += [_case(_random(*size, dtype)) for size in SIZES]
        found += [_case(bank) for bank in (*_hard(dtype), *_sought(dtype))]
    return found


def _random(
    name: str, entries: int, key_size: int, value_size: int, temperature: float, dtype: Any
) -> Bank:
    draw = np.random.default_rng(entries * key_size)
    query = draw.standard_normal(key_size).astype(np.float32)
    # some are much like the query: a sharp softmax then weighs more than one of them
    share = draw.uniform(-1.0, 1.0, (entries, 1))
    keys = (share * query + draw.standard_normal((entries, key_size))).astype(dtype)
    values = draw.standard_normal((entries, value_size)).astype(dtype)
    return Bank(name, query, keys, values, temperature)


def _hard(dtype: Any) -> list[Bank]:
    """Norms at which F.normalize's epsilon decides, ties, and NaN."""
    usual = _random("", 9, 12, 20, 0.05, dtype)
    zero, tiny = usual.keys.copy(), usual.keys.copy()
    zero[[0, 4]] = 0.0
    tiny[3] *= dtype(1e-4)
    alike = np.repeat(usual.keys[:1], 9, axis=0)
    spoiled, lost = usual.keys.copy(), usual.query.copy()
    spoiled[6, 11] = np.nan
    lost[5] = np.nan
    last, only = usual.keys.copy(), usual.keys[:1]
    last[8] = 3.0 * usual.query  # the last row, which no group of four has
    banks = [
        usual._replace(name="keys of zero", keys=zero),
        usual._replace(name="only keys of zero", keys=np.zeros_like(zero)),
        usual._replace(name="a query of zero", query=np.zeros_like(lost)),
        usual._replace(name="a tiny query", query=usual.query * np.float32(1e-13)),
        usual._replace(name="a tiny key", keys=tiny),
        usual._replace(name="keys alike", keys=alike),
        usual._replace(name="against the query", query=-usual.keys[0].astype(np.float32)),
        usual._replace(name="the last entry", keys=last, temperature=1e-4),
        usual._replace(name="NaN in a key", keys=spoiled),
        usual._replace(name="NaN in the query", query=lost),
        usual._replace(name="one entry", keys=only, values=usual.values[:1]),
    ]
    if dtype == np.float32:
        small = usual.keys * np.float32(1e-13)
        banks.append(usual._replace(name="keys below epsilon", keys=small))
        banks.append(usual._replace(name="large keys", keys=usual.keys * np.float32(1e17)))
    return banks


def _sought(dtype: Any) -> list[Bank]:
    """The best key in every warp's hands, and in every place of its four."""
    usual = _random("", 33, 9, 8, 0.05, dtype)
    banks = []
    for warp in range(8):
        keys = usual.keys.copy()
        keys[4 * warp + warp % 4] = 2.0 * usual.query
        banks.append(usual._replace(name=f"the best key with warp {warp}", keys=keys))
    return banks


def _case(bank: Bank) -> Case:
    def build() -> tuple[dict[str, Array], list[Launch]]:
        query, keys, values = bank.query.copy(), bank.keys.copy(), bank.values.copy()
        out = fresh(values.shape[1] + 1, np.float32)
        buffers = {"query": query, "keys": keys, "values": values, "out": out}
        return buffers, plan(query, keys, values, bank.temperature, out)

    query, keys, values = map(_exact, (bank.query, bank.keys, bank.values))
    exact = reference.memory_attention(query, keys, values, bank.temperature)
    expected = {"out": exact.numpy().astype(np.float32)}
    return Case(OP, f"{bank.name} {bank.keys.dtype}", build, expected, {"out": _tolerance(bank)})


def _exact(part: Array) -> torch.Tensor:
    return torch.from_numpy(part.astype(np.float64))


def _tolerance(bank: Bank) -> float:
    """Bound the error: a cosine's own, over the temperature, times how far values differ."""
    # two rsqrt.approx, then sums of so many terms a lane and five over the warp
    terms = bank.keys.shape[1] / 32 + 8
    cosine = 2.0**-21 + 2.0**-24 * terms
    spread = float(np.ptp(bank.values.astype(np.float64)))
    largest = float(np.abs(bank.values.astype(np.float64)).max())
    weight = min(2.0 * cosine / bank.temperature, 1.0)
    # ex2 and rcp.approx, and the sums over the entries
    sums = 2.0**-20 + 2.0**-24 * len(bank.keys) / 16
    return float(cosine + spread * weight + sums * largest)
