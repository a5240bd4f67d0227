"""The shipped network: a lightweight diffusion U-Net that restyles one frame.

It predicts the clean picture x0 from a noisy one and from its own last
estimate of it (self-conditioning, Chen et al. 2022, arXiv:2208.04202), given the
input frame, the motion-warped previous output, how far that history can be
trusted, the style and a palette. All conversions from pixels are inside, so
that an engine runs them fused.

Pixels come in fours: the trunk works at a quarter of the resolution, where a
CPU's convolutions are wide and fast; a light head at half resolution that
sees the frame again draws the crisp lines.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsd.kernels import ops, reference
from lsd.stages.models.sampler import SIGMA_MAX

SIGMA_DATA = 0.5  # std of styled pictures in [-1, 1]; EDM's sigma_data
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the network; stored in the weights file.

    Attributes:
        styles: number of styles.
        colours: of the palette; the style vector ends with 3 values for each.
        widths: channels at 1/4, 1/8 and 1/16 of the resolution.
        blocks: residual blocks a level (the two upper ones twice: down and up).
        head: channels of the half-resolution head.
        embedding: length of the conditioning embedding.
    """

    styles: int = 13
    colours: int = 5
    widths: tuple[int, int, int] = (40, 80, 128)
    blocks: tuple[int, int, int] = (1, 1, 2)
    head: int = 32
    embedding: int = 64

    @property
    def style_size(self) -> int:
        """Length of the style vector: weights, then the palette."""
        return self.styles + 3 * self.colours

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the weights' metadata."""
        return asdict(self)


class Block(nn.Module):
    """Residual block: GroupNorm + FiLM + SiLU, 3x3, SiLU, 1x1 (starts at zero)."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.film = nn.Linear(embedding, 2 * channels)
        self.spatial = nn.Conv2d(channels, channels, 3, padding=1)
        self.mix = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding).chunk(2, dim=1)
        h = ops.group_norm_silu(x, 8, scale, shift)
        mixed: Tensor = self.mix(F.silu(self.spatial(h)))
        return x + mixed


class StyleUNet(nn.Module):
    """D(x, estimate; sigma | frame, history, style): the denoiser."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        c4, c8, c16 = config.widths
        n4, n8, n16 = config.blocks
        e, head = config.embedding, config.head
        self.embed = nn.Sequential(
            nn.Linear(config.style_size + 16 + 2, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU()
        )
        # frame, noise, guess and history 3 each, reliability 1, of 4x4 pixels
        self.stem = nn.Conv2d(13 * 16, c4, 1)
        self.down4 = nn.ModuleList(Block(c4, e) for _ in range(n4))
        self.to8 = nn.Conv2d(c4, c8, 2, stride=2)
        self.down8 = nn.ModuleList(Block(c8, e) for _ in range(n8))
        self.to16 = nn.Conv2d(c8, c16, 2, stride=2)
        self.middle = nn.ModuleList(Block(c16, e) for _ in range(n16))
        self.from16 = nn.Conv2d(c16, 4 * c8, 1)
        self.up8 = nn.ModuleList(Block(c8, e) for _ in range(n8))
        self.from8 = nn.Conv2d(c8, 4 * c4, 1)
        self.up4 = nn.ModuleList(Block(c4, e) for _ in range(n4))
        self.from4 = nn.Conv2d(c4, 4 * head // 2, 1)
        self.head_in = nn.Conv2d(head // 2 + 9 * 4, head, 3, padding=1)
        self.head_film = nn.Linear(e, 2 * head)
        self.head_mid = nn.Conv2d(head, head, 3, padding=1)
        self.head_out = nn.Conv2d(head, 3 * 4, 1)
        # how much of each palette colour a pixel takes
        self.head_shares = nn.Conv2d(head, config.colours * 4, 1)
        # a*frame + b*luma + c + d*guess, by style and noise level: what is
        # alike all over the picture costs the head nothing
        self.tint = nn.Linear(e, 12)
        nn.init.zeros_(self.tint.weight)
        nn.init.zeros_(self.tint.bias)

    def forward(
        self,
        frame: Tensor,
        history: Tensor,
        x: Tensor,
        estimate: Tensor,
        style: Tensor,
        sigma: Tensor,
        history_level: Tensor,
    ) -> Tensor:
        """Estimate the clean styled picture.

        Args:
            frame: uint8 [B, H, W, 3], the input picture; H and W multiples of 16.
            history: uint8 [B, H, W, 4]: the warped previous output (RGB) and, as
                fourth channel, the warped previous input's luma.
            x: float32 [B, 3, H, W], the noisy picture at noise level `sigma`.
            estimate: float32 [B, 3, H, W] in [-1, 1], what the last denoise step
                made of this frame; zeros at the first step (`sigma` is SIGMA_MAX),
                where the network takes the history for its guess.
            style: float32 [B, style_size]: weights >= 0 with a sum of at most 1
                (what is missing to 1 is the share of the unchanged input), then
                the palette's colours, RGB in [-1, 1] from dark to light; a palette
                counts for the styles that take one.
            sigma: float32 [B], noise level, > 0.
            history_level: float32 [B], the nominal corruption of the history, 0 to
                1; a negative value says that there is no history.

        Returns:
            float32 [B, 3, H, W]; in [-1, 1] in evaluation mode, unclamped in training.
        """
        rgb = ops.frame_to_tensor(frame)
        has_history = (history_level >= 0).to(rgb.dtype)[:, None, None, None]
        # four channels, which the kernel has no form for
        past = reference.frame_to_tensor(history) * has_history
        luma = sum(w * rgb[:, i : i + 1] for i, w in enumerate(LUMA))
        reliability = (luma - past[:, 3:]).abs() * has_history

        s = sigma[:, None, None, None]
        # the noise that the estimate leaves in x, as wide as a picture at every level; the
        # output is x0 itself: with EDM's c_skip the light head would have to
        # subtract the noise again at full resolution (docs/decisions/0004)
        noise = (x - estimate) * (SIGMA_DATA / s)
        # the first step has no estimate yet and refines the past, so that the head sees it
        # at full resolution too and no step pays for a plane that is empty
        guess = torch.where(s >= SIGMA_MAX, past[:, :3], estimate)
        embedding = self._embed(style, sigma, history_level)
        pixels = torch.cat([rgb, noise, guess], dim=1)
        inputs = torch.cat([pixels, past[:, :3], reliability], dim=1)
        h = self._head(self._trunk(inputs, embedding), pixels, embedding)
        a, b, c, d = self.tint(embedding)[:, :, None, None].chunk(4, dim=1)
        denoised: Tensor = F.pixel_shuffle(self.head_out(h), 2) + self._painted(h, style)
        denoised = denoised + a * rgb + b * luma + c + d * guess
        # a clamp has no gradient outside its range, so training sees past it
        return denoised if self.training else denoised.clamp(-1.0, 1.0)

    def _painted(self, h: Tensor, style: Tensor) -> Tensor:
        """Mix the palette's colours by the head's shares: a product of 3 x colours."""
        colours = self.config.colours
        palette = style[:, self.config.styles :].view(-1, colours, 3).transpose(1, 2)
        shares = F.pixel_shuffle(self.head_shares(h), 2)
        mixed = palette @ shares.flatten(2)
        return mixed.view(-1, 3, *shares.shape[2:])

    def _embed(self, style: Tensor, sigma: Tensor, history_level: Tensor) -> Tensor:
        c_noise = torch.log(sigma)[:, None] / 4.0
        frequencies = math.pi * 2.0 ** torch.arange(8, device=c_noise.device) / 4.0
        angles = c_noise * frequencies
        level = history_level[:, None].clamp(min=0.0)
        has_history = (history_level >= 0).to(style.dtype)[:, None]
        parts = [style, torch.sin(angles), torch.cos(angles), level, has_history]
        embedded: Tensor = self.embed(torch.cat(parts, dim=1))
        return embedded

    def _trunk(self, inputs: Tensor, embedding: Tensor) -> Tensor:
        # the same numbers as stem(pixel_unshuffle(inputs, 4)), without moving a pixel
        patches = self.stem.weight.view(self.config.widths[0], -1, 4, 4)
        h: Tensor = F.conv2d(inputs, patches, self.stem.bias, stride=4)
        for block in self.down4:
            h = block(h, embedding)
        skip4 = h
        h = self.to8(h)
        for block in self.down8:
            h = block(h, embedding)
        skip8 = h
        h = self.to16(h)
        for block in self.middle:
            h = block(h, embedding)
        h = F.pixel_shuffle(self.from16(h), 2) + skip8
        for block in self.up8:
            h = block(h, embedding)
        h = F.pixel_shuffle(self.from8(h), 2) + skip4
        for block in self.up4:
            h = block(h, embedding)
        return h

    def _head(self, trunk: Tensor, pixels: Tensor, embedding: Tensor) -> Tensor:
        coarse = F.pixel_shuffle(self.from4(trunk), 2)
        # the same numbers as head_in(cat(coarse, pixel_unshuffle(pixels, 2))), without moving a
        # pixel; and an engine in int8 can give each of the two its own scale
        width = self.config.head // 2
        taps = self.head_in.weight[:, width:].reshape(-1, 9, 2, 2, 3, 3)
        patches = taps.permute(0, 1, 4, 2, 5, 3).reshape(-1, 9, 6, 6)
        h: Tensor = F.conv2d(coarse, self.head_in.weight[:, :width], self.head_in.bias, padding=1)
        h = h + F.conv2d(pixels, patches, stride=2, padding=2)
        scale, shift = self.head_film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(h * (1.0 + scale) + shift)
        return h + F.silu(self.head_mid(h))
