"""The built-in base of LoRA searches for generation: a small diffusion model of digits.

A UNet of diffusers like that of Stable Diffusion (Rombach et al., arXiv 2112.10752): each level has
a transformer block with self-attention, cross-attention and a feed-forward layer. A table with one
token for each digit takes the place of the text encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lm_searcher.spaces.errors import SpaceError

try:
    from diffusers import UNet2DConditionModel
except ImportError:
    raise SpaceError("a diffusers model needs: pip install 'lm-searcher[diffusion]'") from None

SIZE = 8
"""Height and width of an image, of one channel."""
KNOWN = 8
"""The base learns the digits below this one; adapters learn the others."""
DIGITS = 10

_TOKEN = 32
_GAIN = 10.0


class Diffuser(nn.Module):
    """The network that predicts the noise, or the velocity, of a noisy digit.

    `known` holds the tokens of the digits that the base learns. `new` holds those of the other
    digits, divided by 10, so that Adam's steps on these tokens are ten times as large as others.
    New tokens are learned as in textual inversion (arXiv 2208.01618).
    """

    def __init__(self) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(
            sample_size=SIZE,
            in_channels=1,
            out_channels=1,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DCrossAttn",
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            cross_attention_dim=_TOKEN,
            attention_head_dim=1,  # the number of heads, in spite of its name
        )
        self.known = nn.Parameter(torch.randn(KNOWN, _TOKEN))
        self.new = nn.Parameter(torch.zeros(DIGITS - KNOWN, _TOKEN))

    def forward(self, noisy: Tensor, timesteps: Tensor, digits: Tensor) -> Tensor:
        """The prediction for images [n, 1, 8, 8] at timesteps [n] of digits [n]."""
        tokens = torch.cat([self.known, _GAIN * self.new])
        predicted: Tensor = self.unet(noisy, timesteps, tokens[digits][:, None]).sample
        return predicted

    @torch.no_grad()
    def begin_new(self) -> None:
        """Initialise the new digits' tokens with the mean of the known ones."""
        self.new.copy_(self.known.mean(0) / _GAIN)
