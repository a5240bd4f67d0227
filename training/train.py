"""Train the shipped network: `python -m training.train --minutes 90`; resumable.

Two single-thread processes average their gradients: on two cores that wastes
less than two OpenMP threads do. Every batch element is a stream, and what the
network predicted for its last frame is a possible history of the next
('streaming training'), so that roll-outs of any depth cost nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor

from lsd.pipeline.allocator import keep_freed_memory
from lsd.stages.models.sampler import SIGMA_MAX, noise_levels
from lsd.stages.models.unet import StyleUNet, UNetConfig
from lsd.stages.models.weights import FORMAT, load_module
from training import data, history
from training.muon import Muon
from training.precision import autocast

Array = npt.NDArray[Any]
FOLDER = Path(".cache/train")
STATE = FOLDER / "state.pt"  # of the network that ships
MUON_RATE, ADAM_RATE = 3e-3, 2e-3  # Muon at 8e-3 learns less in 4 minutes, at 2e-2 it diverges
WARM_UP_STEPS = 200
FLAT_UNTIL = 0.35  # share of the budget after which the rates fall linearly
LATER_STEPS = 0.5  # share of the batches that also train a later denoise step
SCHEDULES = (2, 2, 2, 2, 3, 4, 8, 20)  # of which one is drawn, and one of its later steps
# What a later step is for is detail: gradients weigh more there, and so does how much
# detail a place has, wherever exactly it lies.
LINES, LATER_LINES, LATER_DETAIL = 0.5, 1.0, 1.0
# what the network is shown as its past: the truth, damaged too, its own pictures too
HISTORIES = ("clean", "corrupted", "full")
# (share of the budget, crop, streams a process)
PHASES = ((0.75, 128, 4), (1.00, 192, 2))


@dataclass
class Streams:
    """The streams of one process and what the network last made of each.

    Attributes:
        histories: one of HISTORIES, what the network is shown as its past.
        only: the one style to be seen; None: all.
    """

    rng: np.random.Generator
    size: int
    count: int
    histories: str = "full"
    only: str | None = None
    streams: list[data.Stream] = field(init=False)
    own: list[Array | None] = field(init=False)
    past: list[data.Sample | None] = field(init=False)

    def __post_init__(self) -> None:
        sources = data.Sources.open(self.rng, self.size, self.only)
        self.streams = [data.Stream(self.rng, self.size, sources) for _ in range(self.count)]
        self.own = [None] * self.count
        self.past = [None] * self.count

    def next(self) -> tuple[list[data.Sample], list[Array], list[float]]:
        """Advance every stream; return samples, histories (uint8 HW4) and levels."""
        samples, histories, levels = [], [], []
        for i, stream in enumerate(self.streams):
            sample = stream.next()
            past = self.past[i]
            if past is None or (sample.motion is None and self.rng.random() < 0.5):
                packed, level = np.zeros((self.size, self.size, 4), np.uint8), history.NO_HISTORY
            else:
                packed, level = self._history(i, sample, past)
            self.past[i] = sample
            samples.append(sample)
            histories.append(packed)
            levels.append(level)
        return samples, histories, levels

    def _history(self, i: int, now: data.Sample, past: data.Sample) -> tuple[Array, float]:
        # an undetected cut shows up as foreign history under a meaningless motion
        motion = now.motion if now.motion is not None else np.zeros((self.size, self.size, 2))
        own = self.own[i]
        luma = cv2.cvtColor(past.frame, cv2.COLOR_RGB2GRAY)
        truth = data.warp(past.target, motion)
        chosen, level = truth, history.RUNTIME_LEVEL
        if self.histories == "corrupted":
            chosen, level = history.choose(self.rng, truth, None)
        elif self.histories == "full":
            own = None if own is None else data.warp(own, motion)
            chosen, level = history.choose(self.rng, truth, own)
        pixels = np.round((chosen + 1) * 127.5).clip(0, 255).astype(np.uint8)
        return np.dstack([pixels, data.warp(luma, motion)]), level


def loss_of(predicted: Tensor, target: Tensor, weight_of_lines: float = LINES) -> Tensor:
    """Charbonnier, plus gradients for crisp lines, plus low frequencies for true colour.

    Args:
        predicted: float32 [B, 3, H, W], not clamped.
        target: the same in [-1, 1].
        weight_of_lines: of the gradients.
    """
    d = predicted - target
    pixel = torch.sqrt(d * d + 1e-4).mean() + 0.5 * (d * d).mean()
    lines = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    colour = F.avg_pool2d(d, 8).abs().mean()
    return pixel + weight_of_lines * lines + 0.5 * colour


def detail_of(x: Tensor) -> Tensor:
    """Root of the mean squared Laplacian in each 8x8 block, [B, C, H/8, W/8] about."""
    middle = x[..., 1:-1, 1:-1]
    around = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return torch.sqrt(F.avg_pool2d((around - 4.0 * middle) ** 2, 8) + 1e-4)


def later_loss_of(predicted: Tensor, target: Tensor) -> Tensor:
    """What a later denoise step is held to: `loss_of`, and as much detail as the target has."""
    missing = (detail_of(predicted) - detail_of(target)).abs().mean()
    return loss_of(predicted, target, LATER_LINES) + LATER_DETAIL * missing


@dataclass
class Batch:
    """One batch as tensors; see StyleUNet.forward."""

    frame: Tensor
    history: Tensor
    noise: Tensor
    style: Tensor
    level: Tensor
    target: Tensor

    @classmethod
    def collate(
        cls, samples: list[data.Sample], histories: list[Array], levels: list[float]
    ) -> Batch:
        def planes(arrays: list[Array]) -> Tensor:
            return torch.from_numpy(np.stack(arrays).transpose(0, 3, 1, 2).copy())

        return cls(
            torch.from_numpy(np.stack([s.frame for s in samples])),
            torch.from_numpy(np.stack(histories)),
            planes([s.field for s in samples]),
            torch.from_numpy(np.stack([s.style for s in samples])),
            torch.tensor(levels, dtype=torch.float32),
            planes([s.target for s in samples]),
        )

    def denoise(self, net: StyleUNet, x: Tensor, estimate: Tensor | None, sigma: float) -> Tensor:
        """Run the network on the batch at one noise level."""
        levels = torch.full((len(self.frame),), sigma)
        estimate = torch.zeros_like(self.target) if estimate is None else estimate
        with autocast():  # a picture has 8 bits too
            out: Tensor = net(self.frame, self.history, x, estimate, self.style, levels, self.level)
        return out.float()


class Trainer:
    """Network, optimizers, moving average and clock; everything a resume needs."""

    def __init__(self, minutes: float, samples: int | None, folder: Path) -> None:
        # channels last takes an eighth off a step in bfloat16
        self.net = StyleUNet(UNetConfig(styles=data.STYLES)).train()
        self.net.to(memory_format=torch.channels_last)
        self.ema = StyleUNet(UNetConfig(styles=data.STYLES)).eval()
        self.ema.load_state_dict(self.net.state_dict())
        self.state = folder / "state.pt"
        kernels = [p for p in self.net.parameters() if p.dim() == 4]
        others = [p for p in self.net.parameters() if p.dim() != 4]
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (
            Muon(kernels, MUON_RATE),
            torch.optim.AdamW(others, ADAM_RATE, weight_decay=1e-4),
        )
        self.budget_s, self.budget_samples = minutes * 60, samples
        self.spent_s, self.steps, self.samples = 0.0, 0, 0

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        if self.budget_samples is not None:
            return min(1.0, self.samples / self.budget_samples)
        return min(1.0, self.spent_s / self.budget_s)

    def step(self, batch: Batch, rng: np.random.Generator) -> tuple[float, Tensor]:
        """One optimizer step on the averaged gradient; return loss and predictions."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=False)
        out = batch.denoise(self.net, batch.noise * SIGMA_MAX, None, SIGMA_MAX)
        loss = loss_of(out, batch.target)
        loss.backward()
        first = float(loss.detach())
        if rng.random() < LATER_STEPS:  # refine what the first step made
            n = int(rng.choice(SCHEDULES))
            sigma = noise_levels(n)[int(rng.integers(1, n))]
            estimate = out.detach().clamp(-1, 1)
            x = torch.lerp(estimate, batch.noise * SIGMA_MAX, sigma / SIGMA_MAX)
            out = batch.denoise(self.net, x, estimate, sigma)
            later_loss_of(out, batch.target).backward()
        _average_gradients(self.net)
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        rate = self._rate()
        for optimizer, peak in zip(self.optimizers, (MUON_RATE, ADAM_RATE), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * rate
            optimizer.step()
        decay = min(0.999, (self.steps + 1) / (self.steps + 10))
        with torch.no_grad():
            for slow, fast in zip(self.ema.parameters(), self.net.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
        self.steps += 1
        return first, out.detach().clamp(-1, 1)

    def _rate(self) -> float:
        """Share of the peak learning rate: warm-up, level, then down to zero."""
        down = min(1.0, (1.0 - self.progress) / (1.0 - FLAT_UNTIL))
        return min(1.0, (self.steps + 1) / WARM_UP_STEPS) * max(down, 0.01)

    def start_from(self, net: torch.nn.Module) -> None:
        """Begin with another network's weights, and nothing of its optimizers."""
        for own in (self.net, self.ema):
            own.load_state_dict(net.state_dict())

    def save(self) -> None:
        self.state.parent.mkdir(parents=True, exist_ok=True)
        part = self.state.with_suffix(".part")
        state = {
            "format": FORMAT,
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "spent_s": self.spent_s,
            "steps": self.steps,
            "samples": self.samples,
        }
        torch.save(state, part)
        part.rename(self.state)

    def resume(self) -> None:
        state = read_state(self.state)
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.spent_s, self.steps = state["spent_s"], state["steps"]
        self.samples = state["samples"]


def read_state(path: Path) -> dict[str, Any]:
    """Read what `Trainer.save` has written; a file of our own.

    Raises:
        SystemExit: it is of another format of weights, whose layers may look alike.
    """
    state: dict[str, Any] = torch.load(path, weights_only=False)
    if state.get("format") != FORMAT:
        found = state.get("format", "an older one")
        raise SystemExit(f"{path}: of format {found}, expected {FORMAT}; move it away, and train")
    return state


def _average_gradients(net: torch.nn.Module) -> None:
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    at = 0
    for g in grads:
        g.copy_(flat[at : at + g.numel()].view_as(g))
        at += g.numel()


def _process(rank: int, options: argparse.Namespace) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(options.port)}
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    world = options.processes
    dist.init_process_group("gloo", rank=rank, world_size=world)
    trainer = Trainer(options.minutes, options.samples, options.folder)
    if trainer.state.exists():
        trainer.resume()
    elif options.from_shipped:
        trainer.start_from(load_module("unet"))
    rng = np.random.default_rng([rank, trainer.steps])
    streams, last, since, losses = None, time.monotonic(), 0.0, []
    while trainer.progress < 1.0:
        _, size, count = next(p for p in PHASES if trainer.progress < p[0])
        if streams is None or streams.size != size:
            streams = Streams(rng, size, count, options.histories)
        batch = Batch.collate(*streams.next())
        loss, out = trainer.step(batch, rng)
        streams.own = list(out.permute(0, 2, 3, 1).numpy())
        losses.append(loss)
        trainer.samples += count * world
        # rank 0's clock counts for all: the processes must leave the loop together
        now = time.monotonic()
        trainer.spent_s = _agree(trainer.spent_s + now - last)
        since, last = since + now - last, now
        if rank == 0 and (since > 60 or trainer.progress >= 1.0):
            report = {
                "minutes": round(trainer.spent_s / 60, 1),
                "steps": trainer.steps,
                "samples": trainer.samples,
                "loss": round(float(np.mean(losses)), 4),
            }
            print(json.dumps(report), flush=True)
            trainer.save()
            since, losses = 0.0, []
    dist.barrier()
    dist.destroy_process_group()


def _agree(spent_s: float) -> float:
    value = torch.tensor([spent_s], dtype=torch.float64)
    dist.broadcast(value, 0)
    return float(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=90.0, help="wall clock, over all resumes")
    parser.add_argument("--samples", type=int, help="the budget in samples, instead of --minutes")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--port", type=int, default=29511)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the state is kept")
    parser.add_argument(
        "--histories",
        choices=HISTORIES,
        default="full",
        help="what the network is shown as its past; less than full is for the drift lab's "
        "control, which must fail, and for ablations",
    )
    parser.add_argument(
        "--from-shipped",
        action="store_true",
        help="where there is no state to resume, begin with the weights that ship",
    )
    arguments = parser.parse_args()
    data.prepare()
    # a kill of this process alone would leave the others training: let it end as an exit
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    mp.spawn(_process, args=(arguments,), nprocs=arguments.processes, daemon=True)


if __name__ == "__main__":
    main()
