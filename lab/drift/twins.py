"""Twin streams: one is disturbed, and how far apart they are says what becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from lsd.lab.drift import metrics, trends
from lsd.lab.drift.inputs import CUT_EVERY, open_input
from lsd.lab.drift.record import Record, Run
from lsd.lab.drift.shocks import Shock, noise_like, shocks
from lsd.lab.drift.stream import Stream
from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.registry import Registry
from lsd.stages.models.styles import by_name

Array: TypeAlias = NDArray[Any]
Tell: TypeAlias = Callable[[], None]


class _Made(NamedTuple):
    y: Array
    motion: Array | None  # as the stream found it, float32 [H, W, 2]


SETTLE = 40  # frames before anything is disturbed
FOLLOWED = 30  # frames after a shock
GROWTHS = 50  # frames over which a perturbation's growth is measured
PERTURBATION = 8 / 255  # its RMS

_SMALLEST = 1e-6  # RMS that a perturbation is taken to have left, lest its logarithm be infinite


def recovery(
    config: PipelineConfig, run: Run, registry: Registry | None = None, tell: Tell = lambda: None
) -> Record:
    """Shock the history once, in each way, and follow the stream back to its twin.

    Args:
        config: from `prepared`.
        run: of SETTLE + FOLLOWED frames.
        registry: where stage kinds come from.
        tell: called after every frame.

    Raises:
        StageError: a stage failed.
    """
    other = open_input("cuts", config.size).pixels(CUT_EVERY).astype(np.float32) / 255
    block = 8 if by_name(run.style).textured else 1  # a texture may lie elsewhere
    twin, _ = _follow(config, run, registry, tell, None)
    curves: dict[str, Array] = {}
    counts: Counter[str] = Counter()
    for name, shock in shocks(other).items():
        shocked, rejections = _follow(config, run, registry, tell, shock)
        pairs = [(shown.y, other.y) for shown, other in zip(shocked, twin, strict=True)]
        errors = [y - z for y, z in pairs]
        rms = np.array([_rms(metrics.block_means(error, block)) for error in errors])
        curves[name] = rms / rms[0] if rms[0] > 0 else np.full_like(rms, np.nan)
        curves[f"{name}:rms"] = rms
        motions = [shown.motion for shown in twin]
        curves[f"{name}:carried"] = _carried(errors, motions, block)
        curves[f"{name}:kept"] = _kept(errors, motions, block)
        curves[f"{name}:spectrum"] = np.array([metrics.spectrum_distance(y, z) for y, z in pairs])
        counts.update(frames=run.frames, **rejections)
    return Record(run, {}, curves=curves, counts=dict(counts))


def lyapunov(
    config: PipelineConfig, run: Run, registry: Registry | None = None, tell: Tell = lambda: None
) -> Record:
    """Follow a small perturbation of the history, scaled back to its size after each frame.

    The mean logarithm of its growth is the largest Lyapunov exponent (Benettin
    et al. 1980); arguments as in `recovery`, with a run of SETTLE + GROWTHS frames.
    """
    growth = np.empty(GROWTHS)
    with Stream(config, run, registry) as calm, Stream(config, run, registry) as twin:
        for _ in range(run.frames - GROWTHS):
            y = calm.step().y
            twin.step()
            tell()
        error = noise_like(y)
        for k in range(GROWTHS):
            scaled = y + error * np.float32(PERTURBATION / _rms(error))
            twin.disturb(scaled)
            y = calm.step().y
            error = twin.step().y - y
            growth[k] = np.log(max(_rms(error), _SMALLEST) / PERTURBATION)
            if _rms(error) < _SMALLEST:
                error = noise_like(y)
            tell()
        counts = {"frames": run.frames, **twin.rejections()}
    return Record(run, {}, curves={"growth": growth}, counts=counts)


def _follow(
    config: PipelineConfig, run: Run, registry: Registry | None, tell: Tell, shock: Shock | None
) -> tuple[list[_Made], dict[str, int]]:
    """Return the history as shocked and the FOLLOWED outputs after it, and the rejections."""
    with Stream(config, run, registry) as stream:
        for _ in range(run.frames - FOLLOWED):
            y = stream.step().y
            tell()
        if shock is not None:
            y = shock(y)
            stream.disturb(y)
        outputs = [_Made(y, None)]
        for _ in range(FOLLOWED):
            shown = stream.step()
            motion = shown.frame.motion
            outputs.append(_Made(shown.y, None if motion is None else motion[0].numpy()))
            tell()
        return outputs, stream.rejections()


def _kept(errors: Sequence[Array], motions: Sequence[Array | None], block: int) -> Array:
    """Return which share of each error was there KEPT frames earlier, in an answer of the loop."""
    found = np.full(len(errors), np.nan)
    for k in range(trends.KEPT + 1, len(errors)):
        then = k - trends.KEPT
        flow = _way_back(motions[then + 1 : k + 1])
        found[k] = metrics.kept(errors[k], errors[then], flow, block)
    return found


def _way_back(motions: Sequence[Array | None]) -> Array | None:
    """Return where each pixel of the last of some frames was before the first, in pixels."""
    moved = [motion for motion in motions if motion is not None]
    if not moved:
        return None
    height, width = moved[0].shape[:2]
    home = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    at = home.copy()
    for motion in reversed(moved):
        at += cv2.remap(
            motion, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return at - home


def _carried(errors: Sequence[Array], motions: Sequence[Array | None], block: int) -> Array:
    """Return what each frame took over from the last one's error; of the first two, nothing.

    The shock itself is no frame's answer: the loop clamps it.
    """
    found = [float("nan")] * 2
    for k in range(2, len(errors)):
        found.append(metrics.carried(errors[k], errors[k - 1], motions[k], block))
    return np.array(found)


def _rms(x: Array) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
