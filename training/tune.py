"""Bring one style nearer to its program, and leave all others as they are, to the bit.

    python -m training.tune aquarelle --minutes 12
    python -m training.export tuned --styles aquarelle,ember

A style enters the network by one column of the first layer of its embedding, with which it sets
the scale and shift of every block. That column alone is trained here, 64 numbers: they cannot
teach the network a new stroke, but how dark and how crisp it draws the ones that it knows. So what
is measured of twelve styles need not be measured again for the thirteenth.

What the loss of `training.train` leaves out is added: the picture's mean colour, and the length of
its gradients, which a mean over many possible pictures makes short.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lsd.pipeline.allocator import keep_freed_memory
from lsd.stages.models.sampler import noise_levels
from lsd.stages.models.styles import INDEX
from lsd.stages.models.unet import StyleUNet
from lsd.stages.models.weights import load_module
from training import data, train

RATE = 3e-3
SIZE, COUNT = 192, 3  # the crop, and how many streams
STEPS = (1, 1, 2, 4)  # of which one is drawn for a batch
GRADIENTS, COLOUR = 0.5, 2.0  # weights in the loss


def path_of(folder: Path, style: str) -> Path:
    """Return where a style's column is kept."""
    return folder / f"tuned-{style}.pt"


def lengths(x: Tensor) -> Tensor:
    """Return the mean length of each picture's horizontal and vertical differences, [B]."""
    across, down = x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]
    return across.abs().mean((1, 2, 3)) + down.abs().mean((1, 2, 3))


class Tuner:
    """The network with one column set free.

    Args:
        style: whose.
        net: the network; changed.
    """

    def __init__(self, style: str, net: StyleUNet) -> None:
        self.net = net.train()
        self.net.requires_grad_(False)
        first = net.embed[0]
        assert isinstance(first, torch.nn.Linear)
        self._weight = first.weight.requires_grad_(True)
        self._column = INDEX[style]
        self._optimizer = torch.optim.Adam([self._weight], RATE)

    @property
    def column(self) -> Tensor:
        """The style's own weights, [embedding]."""
        return self._weight.detach()[:, self._column].clone()

    def step(self, batch: train.Batch, steps: int, progress: float) -> tuple[Tensor, list[float]]:
        """Learn from a batch.

        Args:
            batch: of this style.
            steps: how many denoise steps it is made in; each is held to the target.
            progress: 0 to 1; the rate falls with it.

        Returns:
            What was made, [B, 3, H, W]; and of the last step the loss, how long its gradients are,
            of the target's, and how much lighter it is.
        """
        self._optimizer.zero_grad()
        levels = noise_levels(steps)
        x, estimate = batch.noise * levels[0], None  # as stages.models.sampler
        for sigma, after in zip(levels, (*levels[1:], 0.0), strict=True):
            out = batch.denoise(self.net, x, estimate, sigma)
            ratio = lengths(out) / lengths(batch.target).clamp(min=1e-3)
            shift = (out - batch.target).mean((2, 3))
            loss = train.loss_of(out, batch.target)
            loss = loss + GRADIENTS * (1.0 - ratio).abs().mean() + COLOUR * shift.abs().mean()
            (loss / steps).backward()
            estimate = out.detach().clamp(-1, 1)
            x = torch.lerp(estimate, batch.noise * levels[0], after / levels[0])
        assert self._weight.grad is not None
        own = self._weight.grad[:, self._column].clone()
        self._weight.grad.zero_()
        self._weight.grad[:, self._column] = own
        for group in self._optimizer.param_groups:
            group["lr"] = RATE * (1.0 - progress)
        self._optimizer.step()
        return x, [float(each.detach()) for each in (loss, ratio.median(), shift.mean())]


def tune(style: str, minutes: float, folder: Path) -> None:
    """Train a style's column, and write it."""
    module = load_module("unet")
    assert isinstance(module, StyleUNet)
    tuner = Tuner(style, module)
    rng = np.random.default_rng(INDEX[style])
    streams = train.Streams(rng, SIZE, COUNT, only=style)
    begin = told = time.monotonic()
    batches = 0
    recent: dict[int, deque[list[float]]] = {steps: deque(maxlen=200) for steps in STEPS}
    while (progress := (time.monotonic() - begin) / (60 * minutes)) < 1.0:
        batch = train.Batch.collate(*streams.next())
        steps = int(rng.choice(STEPS))
        out, figures = tuner.step(batch, steps, progress)
        streams.own = list(out.permute(0, 2, 3, 1).numpy())
        recent[steps].append(figures)
        batches += 1
        if time.monotonic() - told > 30:
            told = time.monotonic()
            for steps, values in recent.items():
                means = np.mean(values, axis=0).round(4).tolist()
                named = dict(zip(("loss", "gradients", "lighter"), means, strict=True))
                done = {"style": style, "batches": batches, "steps": steps}
                print(json.dumps(done | named), flush=True)
            _save(folder, style, tuner, batches)
    _save(folder, style, tuner, batches)


def _save(folder: Path, style: str, tuner: Tuner, batches: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, style)
    part = path.with_suffix(".part")
    torch.save({"column": tuner.column, "samples": batches * COUNT}, part)
    part.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("style", choices=list(INDEX))
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--folder", type=Path, default=train.FOLDER)
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data.prepare()
    tune(arguments.style, arguments.minutes, arguments.folder)


if __name__ == "__main__":
    main()
