"""Transformers: embedding width, depth, and for each layer its heads and feed-forward width.

An encoder reads images as patches, a decoder reads symbols from left to right. Every layer has
its own options, as in HAT (Wang et al., arXiv 2005.14187); options of layers beyond the depth have
no effect. Costs are exact and need no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lm_searcher.spaces.builtin_space import builtin_space
from lm_searcher.spaces.model import (
    Accepted,
    AsTuple,
    Count,
    Flag,
    FrozenModel,
    different,
    setting_error,
)
from lm_searcher.spaces.ncode import DIGITS, NCode
from lm_searcher.spaces.space import Choice, SearchSpace

WIDTH, LAYERS = "width", "layers"


def heads_of(layer: int) -> str:
    """The position of a layer's heads; layers count from 1."""
    return f"heads {layer}"


def hidden_of(layer: int) -> str:
    """The position of a layer's feed-forward width."""
    return f"hidden {layer}"


Counts = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...],
    AsTuple,
    Field(min_length=1),
    AfterValidator(different),
    Accepted("lists of different integers from 1"),
]


class TransformerSettings(FrozenModel):
    """Settings of the space; the defaults are for small data."""

    kind: Annotated[Literal["encoder", "decoder"], Accepted("encoder, decoder")] = "encoder"
    """An encoder classifies images; a decoder is a language model."""
    widths: Counts = (32, 48, 64, 96)
    """Options of the embedding width. In an encoder: multiples of 4."""
    layers: Counts = (1, 2, 3, 4, 5, 6)
    """Options of the depth."""
    heads: Counts = (1, 2, 4, 8)
    """Options of each layer's attention heads; each divides each width."""
    hidden: Counts = (32, 64, 128, 256)
    """Options of each layer's feed-forward width."""
    patch: Count = 2
    """Side of an encoder's patches in pixels."""
    pooling: Annotated[Literal["mean", "class"], Accepted("mean, class")] = "mean"
    """What an encoder classifies: the mean of the patches, or a class token."""
    tied: Flag = True
    """Whether a decoder predicts with its own embedding."""

    @model_validator(mode="after")
    def _every_code_builds(self) -> Self:
        for width, heads in product(self.widths, self.heads):
            if width % heads:
                raise setting_error(
                    "heads", heads, f"numbers that divide each width ({width} is one)"
                )
            if self.kind == "decoder" and width // heads % 2:
                accepted = f"in a decoder, heads of even width ({width} is a width)"
                raise setting_error("heads", heads, accepted)
        if self.kind == "encoder" and (odd := [w for w in self.widths if w % 4]):
            raise setting_error("widths", odd[0], "multiples of 4 in an encoder, for 2-D positions")
        return self


@builtin_space("transformer", TransformerSettings)
def transformer(settings: TransformerSettings) -> SearchSpace:
    """The space of transformers: 2 positions, and 2 more for each layer of the deepest network."""
    choices = {name: getattr(settings, name) for name in ("widths", "layers", "heads", "hidden")}
    positions: dict[str, tuple[int, ...]] = {WIDTH: settings.widths, LAYERS: settings.layers}
    for layer in range(1, max(settings.layers) + 1):
        positions |= {heads_of(layer): settings.heads, hidden_of(layer): settings.hidden}
    encoder = settings.kind == "encoder"
    return SearchSpace.of(
        "transformer",
        positions,
        builder=f"lm_searcher.spaces.transformer.network:{settings.kind}",
        settings=settings.model_dump(include={"patch", "pooling"} if encoder else {"tied"}),
        canonical_form=partial(canonical, settings.layers),
        describe=partial(describe, choices),
        cost=encoder_cost if encoder else decoder_cost,
    )


def canonical(layers: tuple[int, ...], ncode: NCode) -> NCode:
    """The code with option 0 at the positions of layers beyond the depth."""
    used = 2 + 2 * layers[DIGITS.index(ncode[1])]
    return ncode[:used] + "0" * (len(ncode) - used)


def describe(choices: Mapping[str, tuple[int, ...]], ncode: NCode) -> str:
    """The width, and heads and feed-forward width of each layer up to the depth."""
    digits = [DIGITS.index(digit) for digit in ncode]
    depth = choices["layers"][digits[1]]
    pairs = zip(digits[2::2], digits[3::2], strict=True)
    blocks = [f"{choices['heads'][h]}/{choices['hidden'][f]}" for h, f in pairs]
    return (
        f"width {choices['widths'][digits[0]]}, layers {depth}, "
        f"heads/hidden {' '.join(blocks[:depth])}"
    )


def shape(config: Mapping[str, Choice]) -> tuple[int, list[tuple[int, int]]]:
    """The width, and (heads, feed-forward width) of each layer up to the depth."""
    depth = int(config[LAYERS])
    blocks = [(int(config[heads_of(i)]), int(config[hidden_of(i)])) for i in range(1, depth + 1)]
    return int(config[WIDTH]), blocks


def encoder_cost(
    config: Mapping[str, Choice],
    *,
    in_channels: int,
    classes: int,
    image_size: int | tuple[int, int],
    patch: int = 2,
    pooling: str = "mean",
    **_: object,
) -> dict[str, float]:
    """`params_m` and `flops_m` of one image, `image_size` is its side, or its height and width."""
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    patches = -(-sides[0] // patch) * -(-sides[1] // patch)
    width, blocks = shape(config)
    pixels = in_channels * patch**2
    token = pooling == "class"
    params = (pixels + 1) * width + token * width + (width + 1) * classes
    flops = 2 * patches * pixels * width + 2 * width * classes
    return _with_layers(params, flops, patches + token, width, blocks)


def decoder_cost(
    config: Mapping[str, Choice], *, classes: int, context: int, tied: bool = True, **_: object
) -> dict[str, float]:
    """`params_m` and `flops_m` of one window of `context` symbols out of `classes`."""
    width, blocks = shape(config)
    params = classes * (1 if tied else 2) * width
    return _with_layers(params, 2 * context * width * classes, context, width, blocks)


def _with_layers(
    params: int, flops: int, tokens: int, width: int, blocks: list[tuple[int, int]]
) -> dict[str, float]:
    """`params` and `flops` plus those of the layers and the last norm, in millions.

    FLOPs as PyTorch's FlopCounterMode counts them: 2 for each multiply-add, matrix products only.
    Causal attention counts in full, though it needs half.
    """
    params += 2 * width
    for _, hidden in blocks:
        params += 4 * width + 4 * width * (width + 1) + 2 * width * hidden + width + hidden
        flops += tokens * (8 * width**2 + 4 * width * hidden) + 4 * tokens**2 * width
    return {"params_m": params / 1e6, "flops_m": flops / 1e6}
