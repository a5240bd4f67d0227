"""How fast each engine runs the network, against a large matrix product in its precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lsd.lab import bench_products
from lsd.lab.timing import Timing, Variant, interleave
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.frame import Size
from lsd.stages.models import engines, weights
from lsd.stages.models.conditioning import STYLE_SIZE
from lsd.stages.models.denoiser import RUNTIME_LEVEL, UNetDenoiser
from lsd.stages.models.sampler import SIGMA_MAX

Inputs: TypeAlias = tuple[Tensor, float, Tensor, Tensor, Tensor]  # of a denoiser, in its order


@dataclass(frozen=True, slots=True)
class Speed:
    """One engine, or one matrix product, at one number of threads.

    Attributes:
        name: the engine; "product float32" and the like for a product.
        threads: how many it may use.
        timing: of one call.
        gflops: floating point operations (a product and a sum are two), in 1e9
            a second of wall time at the median. An int8 engine is credited with
            the operations of the float32 network.
        share: `gflops` over that of the product in the engine's precision with as many threads;
            in float32 where there is no such product.
    """

    name: str
    threads: int
    timing: Timing
    gflops: float
    share: float

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "threads": self.threads,
            **self.timing.to_json(),
            "gflops": round(self.gflops, 2),
            "share": round(self.share, 4),
        }


@dataclass(frozen=True, slots=True)
class NetworkResult:
    """All engines, and the matrix products.

    Attributes:
        size: of the pictures.
        gflop: operations of one run, in 1e9.
        matrix_side: of the square matrices.
        speeds: the products first, then the engines, in the order of preference.
        missing: engine or product -> why it was not timed.
    """

    size: Size
    gflop: float
    matrix_side: int
    speeds: list[Speed]
    missing: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        return {
            "size": str(self.size),
            "gflop": round(self.gflop, 4),
            "matrix_side": self.matrix_side,
            "speeds": [speed.to_json() for speed in self.speeds],
            "missing": self.missing,
        }


def measure_network(size: Size, threads: Sequence[int], rounds: int, side: int) -> NetworkResult:
    """Time all engines that are here and matrix products in their precisions, in turns.

    Args:
        size: of the pictures.
        threads: the numbers of threads to try.
        rounds: turns each.
        side: of the square matrices.

    Raises:
        WeightsError: the network's files are missing or damaged.
    """
    variants: dict[tuple[str, int], Variant] = {}
    missing: dict[str, str] = {}
    for precision in bench_products.PRECISIONS:
        try:
            for count in threads:
                variants[_product(precision), count] = _product_variant(precision, side, count)
        except ConfigError as error:
            missing[_product(precision)] = str(error)
    for info in engines.known():
        try:
            for count in threads if info.available else ():
                variants[info.name, count] = _variant(info.name, size, count)
        except ConfigError as error:  # installed, but broken
            missing[info.name] = str(error)
        if not info.available:
            missing[info.name] = info.why
    timings = interleave(variants, rounds)
    products = {_product(precision) for precision in bench_products.PRECISIONS}
    torch.set_num_threads(1)
    flops = count_flops(size)
    rates = {
        key: (2.0 * side**3 if key[0] in products else flops) / timing.wall(50) / 1e6
        for key, timing in timings.items()
    }
    speeds = []
    for (name, count), timing in timings.items():
        against = name if name in products else _product(bench_products.precision_of(name))
        against = against if (against, count) in rates else _product("float32")
        rate = rates[name, count]
        speeds.append(Speed(name, count, timing, rate, rate / rates[against, count]))
    return NetworkResult(size, flops / 1e9, side, speeds, missing)


def _product(precision: str) -> str:
    return f"product {precision}"


def _product_variant(precision: str, side: int, threads: int) -> Variant:
    multiply = bench_products.product(precision, side, threads)
    return Variant(lambda _: multiply(), _with_threads(threads), burst=2, discard=1)


def _variant(engine: str, size: Size, threads: int) -> Variant:
    denoiser = UNetDenoiser(size, engine, threads)
    inputs = _inputs(size)
    return Variant(lambda _: denoiser(*inputs), _with_threads(threads if engine == "torch" else 1))


def count_flops(size: Size) -> float:
    """Return the operations of one run of the network at `size`."""
    x, sigma, frame, history, style = _inputs(size)
    levels = torch.tensor([sigma]), torch.tensor([RUNTIME_LEVEL])
    module = weights.load_module("unet")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(frame, history, x, torch.zeros_like(x), style, *levels)
    return float(counter.get_total_flops())


def _inputs(size: Size) -> Inputs:
    """Return what the diffusion stage gives a denoiser, drawn at random."""
    width, height = size
    random = torch.Generator().manual_seed(0)
    x = torch.randn((1, 3, height, width), generator=random) * SIGMA_MAX
    frame = torch.randint(0, 256, (1, height, width, 3), generator=random).to(torch.uint8)
    history = torch.randint(0, 256, (1, height, width, 4), generator=random).to(torch.uint8)
    style = torch.full((1, STYLE_SIZE), 1.0 / STYLE_SIZE)
    return x, SIGMA_MAX, frame, history, style


def _with_threads(count: int) -> Callable[[], None]:
    """Return what sets torch's own pool; every engine leaves its setting behind."""
    return lambda: torch.set_num_threads(count)
