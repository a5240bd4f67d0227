"""The blend's network: how much of the past each pixel may keep.

A network over cues of the *input* gives two maps at half resolution: the
weight that history deserves where nothing changed, and how fast that trust
falls with the disagreement of the two pictures. By construction the weight
never exceeds MAX_WEIGHT (so that the recurrence contracts: 0.85^15 < 0.1) and
disagreement can only lower it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_WEIGHT = 0.85
_START = 0.45  # weight before training
_CHANNELS = 8


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
        self.maps = nn.Conv2d(_CHANNELS, 2, 1)
        nn.init.zeros_(self.maps.weight)
        share = _START / MAX_WEIGHT
        assert self.maps.bias is not None
        with torch.no_grad():
            self.maps.bias.copy_(torch.tensor([torch.logit(torch.tensor(share)), 1.5]))

    def forward(self, luma: Tensor, past_luma: Tensor, current: Tensor, previous: Tensor) -> Tensor:
        """Return the weight of history.

        Args:
            luma: uint8 [B, H, W, 1], luma of the input picture; H and W even.
            past_luma: uint8 [B, H, W, 1], luma of the last input, motion-warped.
            current: float32 [B, 3, H, W] in [-1, 1], the new picture.
            previous: float32 [B, 3, H, W] in [-1, 1], the last output, motion-warped.

        Returns:
            float32 [B, 1, H/2, W/2] in [0, MAX_WEIGHT].
        """
        now = luma.permute(0, 3, 1, 2).to(torch.float32) / 255.0
        past = past_luma.permute(0, 3, 1, 2).to(torch.float32) / 255.0
        change = (now - past).abs()
        disagreement = F.avg_pool2d((current - previous).abs().mean(1, keepdim=True), 2)
        cues = F.avg_pool2d(torch.cat([now, 4.0 * change, 4.0 * (now - past)], dim=1), 2)
        wide = F.avg_pool2d(cues[:, 1:2], 5, stride=1, padding=2)
        trust, falloff = self.maps(self.body(torch.cat([cues, wide], dim=1))).chunk(2, dim=1)
        weight = torch.sigmoid(trust) * torch.exp(-F.softplus(falloff) * disagreement)
        return MAX_WEIGHT * weight
