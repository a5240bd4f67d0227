"""Train the blend: `python -m training.blend --minutes 12`, after the network.

The denoiser is frozen and runs as it will: on its own blended history. The
blend is unrolled over a few frames and learns to be near the teacher's
picture of the *noise-free* input, and to move as that does: flicker from the
sensor's noise is its enemy, ghosts are punished by the same loss.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lsd.stages.models.blendnet import MAX_WEIGHT, BlendNet
from lsd.stages.models.sampler import SIGMA_MAX
from lsd.stages.models.unet import StyleUNet
from lsd.stages.models.weights import load_module
from training import data, history
from training.export import export_blend
from training.precision import autocast

Array = npt.NDArray[Any]
SIZE, STREAMS, UNROLL = 128, 4, 8
LEARNING_RATE = 4e-3
STEADY = 2.0  # weight of moving as the truth does, beside being near it
SHOCKED = 0.2  # share of unrolls that start from a damaged past


@dataclass
class Step:
    """One frame of all streams as tensors; see BlendNet.forward."""

    frame: Tensor
    luma: Tensor
    past_luma: Tensor
    field: Tensor
    style: Tensor
    truth: Tensor
    motion: Tensor


class Unroll:
    """Steps STREAMS streams in parallel and prepares their tensors."""

    def __init__(self, rng: np.random.Generator) -> None:
        sources = data.Sources.open(rng, SIZE)
        self._streams = [data.Stream(rng, SIZE, sources) for _ in range(STREAMS)]
        self._past: list[Array] = [np.zeros((SIZE, SIZE), np.uint8)] * STREAMS

    def next(self) -> Step:
        samples = [stream.next() for stream in self._streams]
        lumas = [cv2.cvtColor(s.frame, cv2.COLOR_RGB2GRAY) for s in samples]
        still = np.zeros((SIZE, SIZE, 2), np.float32)
        motions = [still if s.motion is None else s.motion for s in samples]
        past = warp(_planes([p[..., None] for p in self._past]).float(), _motion(motions))
        self._past = [np.asarray(x) for x in lumas]
        return Step(
            torch.from_numpy(np.stack([s.frame for s in samples])),
            torch.from_numpy(np.stack(lumas))[..., None],
            past.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous(),
            _planes([s.field for s in samples]),
            torch.from_numpy(np.stack([s.style for s in samples])),
            _planes([s.target for s in samples]),
            _motion(motions),
        )


def _planes(arrays: list[Array]) -> Tensor:
    return torch.from_numpy(np.stack(arrays).transpose(0, 3, 1, 2).copy())


def _motion(motions: list[Array]) -> Tensor:
    return torch.from_numpy(np.stack(motions).astype(np.float32))


def warp(x: Tensor, motion: Tensor) -> Tensor:
    """Differentiable twin of ops.warp: float [B, C, H, W] by [B, H, W, 2]."""
    rows, columns = x.shape[2:]
    y0, x0 = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    where = torch.stack([x0, y0], dim=-1) + motion
    scale = torch.tensor([2.0 / columns, 2.0 / rows])
    grid = (where + 0.5) * scale - 1.0
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def predict(net: StyleUNet, step: Step, past: Tensor) -> Tensor:
    """Run the denoiser on its quantised, warped history, as the pipeline does."""
    pixels = ((past + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    packed = torch.cat([pixels, step.past_luma], dim=3)
    count = len(step.frame)
    with torch.no_grad(), autocast():  # as bfloat16 runs it in use
        predicted: Tensor = net(
            step.frame,
            packed,
            step.field * SIGMA_MAX,
            torch.zeros_like(past),
            step.style,
            torch.full((count,), SIGMA_MAX),
            torch.full((count,), history.RUNTIME_LEVEL),
        )
    return predicted.float()


def unroll_loss(
    net: StyleUNet, blend: BlendNet, steps: Unroll, output: Tensor
) -> tuple[Tensor, Tensor]:
    """Run UNROLL frames; return the loss and the last output, detached."""
    total = torch.zeros(())
    last_truth: Tensor | None = None
    for _ in range(UNROLL):
        step = steps.next()
        past = warp(output, step.motion)
        new = predict(net, step, past.detach())
        small = blend(step.luma, step.past_luma, new, past)
        weight = F.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False)
        output = torch.lerp(new, past, weight)
        error = output - step.truth
        total = total + torch.sqrt(error * error + 1e-4).mean()
        if last_truth is not None:
            moved = (output - past) - (step.truth - warp(last_truth, step.motion))
            total = total + STEADY * moved.abs().mean()
        last_truth = step.truth
    return total / UNROLL, output.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=12.0)
    minutes = parser.parse_args().minutes
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(5)
    net = load_module("unet")
    assert isinstance(net, StyleUNet)
    net.to(memory_format=torch.channels_last)
    blend = BlendNet().train()
    optimizer = torch.optim.Adam(blend.parameters(), LEARNING_RATE)
    steps = Unroll(rng)
    output = torch.zeros(STREAMS, 3, SIZE, SIZE)
    start, count, losses = time.monotonic(), 0, []
    reported = start
    while (spent := time.monotonic() - start) < minutes * 60:
        if rng.random() < SHOCKED:
            damaged = [history.corrupt(rng, o)[0] for o in output.permute(0, 2, 3, 1).numpy()]
            output = _planes(damaged)
        loss, output = unroll_loss(net, blend, steps, output)
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1.0 - spent / (minutes * 60))
        optimizer.step()
        losses.append(float(loss.detach()))
        count += 1
        if time.monotonic() - reported > 30:
            mean = round(float(np.mean(losses[-50:])), 4)
            print(
                json.dumps({"minutes": round(spent / 60, 1), "unrolls": count, "loss": mean}),
                flush=True,
            )
            reported = time.monotonic()
    export_blend(blend)
    print(f"wrote the blend after {count} unrolls; no weight exceeds {MAX_WEIGHT}")


if __name__ == "__main__":
    main()
