"""The networks of the transformer space, in PyTorch: pre-norm blocks, GELU, no dropout."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_searcher.spaces.space import Choice
from lm_searcher.spaces.transformer.space import shape


def encoder(
    config: Mapping[str, Choice],
    *,
    in_channels: int,
    classes: int,
    patch: int = 2,
    pooling: str = "mean",
) -> nn.Module:
    """A fresh vision transformer: images [n, in_channels, h, w] -> logits [n, classes].

    Images may have any size; they are padded with zeros to a multiple of `patch`.
    """
    width, blocks = shape(config)
    return Encoder(width, blocks, in_channels, classes, patch, pooling == "class")


def decoder(
    config: Mapping[str, Choice], *, classes: int, context: int, tied: bool = True
) -> nn.Module:
    """A fresh language model: symbols [n, t] -> logits [n, t, classes].

    The logits at a place depend on the symbols up to it, and predict the next one. The network
    does not depend on `context`, the number of symbols in a training example.
    """
    width, blocks = shape(config)
    return Decoder(width, blocks, classes, tied)


ROTARY_BASE = 10000.0


class Block(nn.Module):
    """Attention and a feed-forward layer, each after a norm and with a residual connection.

    A causal block has rotary position embeddings.
    """

    def __init__(self, width: int, heads: int, hidden: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        # Each block starts as the identity: deep and shallow networks learn faster.
        for layer in (self.project, self.narrow):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        joined = self.queries_keys_values(self.norm1(x))
        # [n, t, 3, heads, width / heads] -> three of [n, heads, t, width / heads]
        q, k, v = joined.view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.causal:
            q, k = rotated(q), rotated(k)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.project(mixed.transpose(1, 2).reshape(n, length, width))
        x = x + self.narrow(functional.gelu(self.widen(self.norm2(x))))
        return x


class Encoder(nn.Module):
    """See `encoder`. Position embeddings are sines of row and column, for any image size."""

    def __init__(
        self,
        width: int,
        blocks: list[tuple[int, int]],
        in_channels: int,
        classes: int,
        patch: int,
        class_token: bool,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.token = nn.Parameter(0.02 * torch.randn(width)) if class_token else None
        self.blocks = nn.Sequential(*(Block(width, *block, causal=False) for block in blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        short = (0, -width % self.patch, 0, -height % self.patch)
        x = self.embed(functional.pad(images, short))
        x = (x + places(x.shape[1], x.shape[2], x.shape[3], x.device)).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), 1, -1), x], dim=1)
        x = self.blocks(x)
        pooled = x.mean(dim=1) if self.token is None else x[:, 0]
        logits: Tensor = self.head(self.norm(pooled))
        return logits


def places(width: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Sines and cosines of row and column at width / 4 frequencies, [width, rows, columns]."""
    rates = 100.0 ** -(torch.arange(width // 4, device=device) / (width // 4))
    down, across = (torch.outer(rates, torch.arange(n, device=device)) for n in (rows, columns))
    down = torch.cat([down.sin(), down.cos()])[:, :, None].expand(-1, rows, columns)
    across = torch.cat([across.sin(), across.cos()])[:, None].expand(-1, rows, columns)
    return torch.cat([down, across])


class Decoder(nn.Module):
    """See `decoder`."""

    def __init__(self, width: int, blocks: list[tuple[int, int]], classes: int, tied: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, width)
        self.blocks = nn.Sequential(*(Block(width, *block, causal=True) for block in blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes, bias=False)
        # The scale of a linear layer, since it is also the head; with 1 the first logits are huge.
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, symbols: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.embed(symbols))))
        return logits


def rotated(x: Tensor) -> Tensor:
    """`x` [n, heads, t, d] with each vector rotated by its place; d is even.

    The product of two vectors then depends on their distance (rotary embeddings, Su et al., arXiv
    2104.09864).
    """
    length, half = x.shape[2], x.shape[3] // 2
    rates = ROTARY_BASE ** -(torch.arange(half, device=x.device) / half)
    angles = torch.outer(torch.arange(length, device=x.device), rates)
    a, b = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)
