"""Transformers: embedding width, depth, and for each layer its heads and feed-forward width.

An encoder reads images as patches, a decoder reads symbols from left to right. Every layer has
choices of its own, as in HAT (Wang et al., arXiv 2005.14187); those of layers beyond the depth
mean nothing. Cost is known without building anything, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from lm_searcher.spaces.errors import SpaceError, unknown
from lm_searcher.spaces.ncode import DIGITS, NCode
from lm_searcher.spaces.space import Choice, SearchSpace

KINDS = ("encoder", "decoder")
POOLINGS = ("mean", "class")
WIDTH, LAYERS = "width", "layers"


def heads_of(layer: int) -> str:
    """The position of a layer's heads; layers count from 1."""
    return f"heads {layer}"


def hidden_of(layer: int) -> str:
    """The position of a layer's feed-forward width."""
    return f"hidden {layer}"


def transformer(
    kind: str = "encoder",
    widths: Iterable[int] = (32, 48, 64, 96),
    layers: Iterable[int] = (1, 2, 3, 4, 5, 6),
    heads: Iterable[int] = (1, 2, 4, 8),
    hidden: Iterable[int] = (32, 64, 128, 256),
    patch: int = 2,
    pooling: str = "mean",
    tied: bool = True,
) -> SearchSpace:
    """The space: 2 positions and 2 for each of the most layers; the defaults are for small data.

    `patch` (pixels) and `pooling` (of the patches: their mean, or a class token) are for
    encoders; a decoder that is `tied` predicts with its own embedding. Each of `heads` divides
    each of `widths`, so that every code builds. Raises SpaceError for anything else.
    """
    _among("kind", kind, KINDS)
    _among("pooling", pooling, POOLINGS)
    choices = {
        name: _counts(name, given)
        for name, given in (
            ("widths", widths),
            ("layers", layers),
            ("heads", heads),
            ("hidden", hidden),
        )
    }
    for width in choices["widths"]:
        for head in choices["heads"]:
            if width % head:
                raise _error("heads", head, f"numbers that divide each width ({width} is one)")
            if kind == "decoder" and width // head % 2:
                raise _error("heads", head, f"in a decoder, heads of even width ({width} is one)")
        if kind == "encoder" and width % 4:
            raise _error("widths", width, "multiples of 4 in an encoder, for its places in 2-D")
    if not isinstance(patch, int) or isinstance(patch, bool) or patch < 1:
        raise _error("patch", patch, "integers from 1")
    if not isinstance(tied, bool):
        raise _error("tied", tied, "true, false")
    positions: dict[str, tuple[int, ...]] = {WIDTH: choices["widths"], LAYERS: choices["layers"]}
    for layer in range(1, max(choices["layers"]) + 1):
        positions |= {heads_of(layer): choices["heads"], hidden_of(layer): choices["hidden"]}
    encoder = kind == "encoder"
    return SearchSpace.of(
        "transformer",
        positions,
        builder=f"lm_searcher.spaces.transformer.network:{kind}",
        settings={"patch": patch, "pooling": pooling} if encoder else {"tied": tied},
        canonical_form=partial(canonical, choices["layers"]),
        describe=partial(describe, choices),
        cost=encoder_cost if encoder else decoder_cost,
    )


def _among(setting: str, value: object, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise SpaceError(unknown(f"{setting} of space 'transformer'", str(value), accepted))


def _counts(setting: str, given: object) -> tuple[int, ...]:
    values = tuple(given) if isinstance(given, list | tuple | range) else ()
    if not values or not all(type(v) is int and v >= 1 for v in values):
        raise _error(setting, given, "lists of integers from 1")
    if len(set(values)) < len(values):
        raise _error(setting, given, "each number once")
    return values


def _error(setting: str, value: object, accepted: str) -> SpaceError:
    return SpaceError(f"space 'transformer': {setting} = {value!r}; accepted: {accepted}")


def canonical(layers: tuple[int, ...], ncode: NCode) -> NCode:
    """The code with 0 for the choices of layers that are not there."""
    used = 2 + 2 * layers[DIGITS.index(ncode[1])]
    return ncode[:used] + "0" * (len(ncode) - used)


def describe(choices: Mapping[str, tuple[int, ...]], ncode: NCode) -> str:
    """Width, and heads and feed-forward width of each layer that is there."""
    digits = [DIGITS.index(digit) for digit in ncode]
    depth = choices["layers"][digits[1]]
    pairs = zip(digits[2::2], digits[3::2], strict=True)
    blocks = [f"{choices['heads'][h]}/{choices['hidden'][f]}" for h, f in pairs]
    return (
        f"width {choices['widths'][digits[0]]}, layers {depth}, "
        f"heads/hidden {' '.join(blocks[:depth])}"
    )


def shape(config: Mapping[str, Choice]) -> tuple[int, list[tuple[int, int]]]:
    """Width, and (heads, feed-forward width) of each layer that is there."""
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
    """`params_m` and `flops_m` of one image, `image_size` its side or its height and width."""
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
    """`params_m` and `flops_m` of one window of `context` symbols, `classes` different ones."""
    width, blocks = shape(config)
    params = classes * (1 if tied else 2) * width
    return _with_layers(params, 2 * context * width * classes, context, width, blocks)


def _with_layers(
    params: int, flops: int, tokens: int, width: int, blocks: list[tuple[int, int]]
) -> dict[str, float]:
    """In millions, with the layers and the last norm added.

    Operations as PyTorch's FlopCounterMode counts: 2 a multiply-add, matrix products only, and
    attention whole, though a causal one needs but half.
    """
    params += 2 * width
    for _, hidden in blocks:
        params += 4 * width + 4 * width * (width + 1) + 2 * width * hidden + width + hidden
        flops += tokens * (8 * width**2 + 4 * width * hidden) + 4 * tokens**2 * width
    return {"params_m": params / 1e6, "flops_m": flops / 1e6}
