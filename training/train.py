"""Train the shipped network: `python -m training.train --minutes 90`; resumable.

Two single-thread processes average their gradients: on two cores that wastes
less than two OpenMP threads do. Every batch element is a stream, and what the
network predicted for its last frame is a possible history of the next
('streaming training'), so that roll-outs of any depth cost nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
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
from training import data, history

Array = npt.NDArray[Any]
FOLDER = Path(".cache/train")
STATE = FOLDER / "state.pt"
LEARNING_RATE = 1.5e-3
WARM_UP_STEPS = 200
# (share of the wall clock, crop, streams a process)
PHASES = ((0.70, 128, 4), (1.00, 192, 2))


@dataclass
class Streams:
    """The streams of one process and what the network last made of each."""

    rng: np.random.Generator
    size: int
    count: int
    film: Array
    photos: list[Array]
    streams: list[data.Stream] = field(init=False)
    own: list[Array | None] = field(init=False)
    past: list[data.Sample | None] = field(init=False)

    def __post_init__(self) -> None:
        self.streams = [
            data.Stream(self.rng, self.size, self.film, self.photos) for _ in range(self.count)
        ]
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
        truth = _warp(past.target, motion)
        chosen, level = history.choose(self.rng, truth, None if own is None else _warp(own, motion))
        pixels = np.round((chosen + 1) * 127.5).clip(0, 255).astype(np.uint8)
        return np.dstack([pixels, _warp(luma, motion)]), level


def _warp(x: Array, motion: Array) -> Array:
    h, w = x.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1)
    where = (grid + motion).astype(np.float32)
    return np.asarray(cv2.remap(x, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def loss_of(predicted: Tensor, target: Tensor) -> Tensor:
    """Charbonnier, plus gradients for crisp lines, plus low frequencies for true colour."""
    d = predicted - target
    pixel = torch.sqrt(d * d + 1e-4).mean() + 0.5 * (d * d).mean()
    lines = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    colour = F.avg_pool2d(d, 8).abs().mean()
    return pixel + 0.5 * lines + 0.5 * colour


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

    def noisy(self, net: StyleUNet, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw a noise level and the picture at it: mostly as sampling meets them."""
        count = len(self.frame)
        kind = rng.random()
        if kind < 0.50:  # the first step, and the only one of one-step sampling
            return self.noise * SIGMA_MAX, torch.full((count,), SIGMA_MAX)
        if kind < 0.88:  # a later step, from the network's own estimate
            steps = int(rng.choice([2, 2, 2, 3, 4, 8, 20]))
            sigma = noise_levels(steps)[int(rng.integers(1, steps))]
            with torch.no_grad():
                top = torch.full((count,), SIGMA_MAX)
                estimate = net(
                    self.frame, self.history, self.noise * SIGMA_MAX, self.style, top, self.level
                ).clamp(-1, 1)
            mixed = torch.lerp(estimate, self.noise * SIGMA_MAX, sigma / SIGMA_MAX)
            return mixed, torch.full((count,), sigma)
        sigma_each = torch.from_numpy(np.exp(rng.normal(-0.8, 1.2, count)).astype(np.float32))
        sigma_each = sigma_each.clamp(0.02, SIGMA_MAX)
        return self.target + sigma_each[:, None, None, None] * self.noise, sigma_each


class Trainer:
    """Network, optimizer, moving average and clock; everything a resume needs."""

    def __init__(self, minutes: float) -> None:
        self.net = StyleUNet(UNetConfig(styles=data.STYLES)).train()
        self.ema = StyleUNet(UNetConfig(styles=data.STYLES)).eval()
        self.ema.load_state_dict(self.net.state_dict())
        self.optimizer = torch.optim.AdamW(self.net.parameters(), LEARNING_RATE, weight_decay=1e-4)
        self.budget_s, self.spent_s, self.steps, self.samples = minutes * 60, 0.0, 0, 0

    @property
    def progress(self) -> float:
        return min(1.0, self.spent_s / self.budget_s)

    def step(self, batch: Batch, rng: np.random.Generator) -> tuple[float, Tensor]:
        """One optimizer step on the averaged gradient; return loss and predictions."""
        x, sigma = batch.noisy(self.net, rng)
        out = self.net(batch.frame, batch.history, x, batch.style, sigma, batch.level)
        loss = loss_of(out, batch.target)
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        _average_gradients(self.net)
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        rate = LEARNING_RATE * (0.5 + 0.5 * math.cos(math.pi * self.progress)) + 1e-5
        for group in self.optimizer.param_groups:
            group["lr"] = rate * min(1.0, (self.steps + 1) / WARM_UP_STEPS)
        self.optimizer.step()
        decay = min(0.999, (self.steps + 1) / (self.steps + 10))
        with torch.no_grad():
            for slow, fast in zip(self.ema.parameters(), self.net.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
        self.steps += 1
        return float(loss.detach()), out.detach().clamp(-1, 1)

    def save(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        part = STATE.with_suffix(".part")
        state = {
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "spent_s": self.spent_s,
            "steps": self.steps,
            "samples": self.samples,
        }
        torch.save(state, part)
        part.rename(STATE)

    def resume(self) -> None:
        state = torch.load(STATE, weights_only=False)  # our own file
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.spent_s, self.steps = state["spent_s"], state["steps"]
        self.samples = state["samples"]


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


def _process(rank: int, world: int, minutes: float, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    trainer = Trainer(minutes)
    if STATE.exists():
        trainer.resume()
    rng = np.random.default_rng([rank, trainer.steps])
    film = np.load(data.CACHE / "bbb.npy", mmap_mode="r")
    photos = [data.load_photo(name) for name in data.PHOTOS]
    streams, last, since, losses = None, time.monotonic(), 0.0, []
    while trainer.progress < 1.0:
        _, size, count = next(p for p in PHASES if trainer.progress < p[0])
        if streams is None or streams.size != size:
            streams = Streams(rng, size, count, film, photos)
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
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--port", type=int, default=29511)
    arguments = parser.parse_args()
    data.prepare()
    mp.spawn(
        _process,
        args=(arguments.processes, arguments.minutes, arguments.port),
        nprocs=arguments.processes,
    )


if __name__ == "__main__":
    main()
