"""The blend's network: how much of the past each pixel may keep.

A network over cues of the *input*, in cells of 4x4 pixels, gives two maps at half
the resolution: the weight that history deserves where nothing changed, and how
fast that trust falls with the disagreement of the two pictures. By construction
the weight never exceeds MAX_WEIGHT (so that the recurrence contracts:
0.85^15 < 0.1) and disagreement can only lower it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_WEIGHT = 0.85
_START = 0.45  # weight before training
_CHANNELS = 12


class BlendNet(nn.Module):
    """Per-pixel weight of the warped previous output."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(4, _CHANNELS, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1),
            nn.SiLU(),
        )
        # four values a cell, one for each pixel at half the resolution
        self.trust = nn.Conv2d(_CHANNELS, 4, 1)
        self.falloff = nn.Conv2d(_CHANNELS, 4, 1)
        start = torch.logit(torch.tensor(_START / MAX_WEIGHT))
        for layer, bias in ((self.trust, float(start)), (self.falloff, 1.5)):
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]

    def forward(self, luma: Tensor, past_luma: Tensor, current: Tensor, previous: Tensor) -> Tensor:
        """Return the weight of history.

        Args:
            luma: uint8 [B, H, W, 1], luma of the input picture; H and W multiples of 4.
            past_luma: uint8 [B, H, W, 1], luma of the last input, motion-warped.
            current: float32 [B, 3, H, W] in [-1, 1], the new picture.
            previous: float32 [B, 3, H, W] in [-1, 1], the last output, motion-warped.

        Returns:
            float32 [B, 1, H/2, W/2] in [0, MAX_WEIGHT].
        """
        now = luma.permute(0, 3, 1, 2).to(torch.float32) / 255.0
        past = past_luma.permute(0, 3, 1, 2).to(torch.float32) / 255.0
        disagreement = F.avg_pool2d((current - previous).abs().mean(1, keepdim=True), 2)
        change = F.avg_pool2d((now - past).abs(), 4)
        brightness = F.avg_pool2d(now, 4)
        brightening = brightness - F.avg_pool2d(past, 4)
        wide = F.avg_pool2d(change, 3, stride=1, padding=1)
        cues = torch.cat([brightness, 4.0 * change, 4.0 * brightening, 4.0 * wide], dim=1)
        h = self.body(cues)
        trust, falloff = (F.pixel_shuffle(layer(h), 2) for layer in (self.trust, self.falloff))
        weight = torch.sigmoid(trust) * torch.exp(-F.softplus(falloff) * disagreement)
        return MAX_WEIGHT * weight
