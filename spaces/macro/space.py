"""A space of whole networks: stages of MobileNet's inverted residual blocks.

Sandler et al. (arXiv 1801.04381) and, for squeeze-excite, Howard et al. (arXiv 1905.02244). A
stage decides on kernel, expansion, depth, width and squeeze-excite of all its blocks.

No two codes build the same network: each option of a stage changes the number of weights of its
first block, but for depth, which changes that of its blocks. So there is no canonical form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.space import Choice, SearchSpace

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)


def macro(
    widths: Sequence[int] = (24, 40, 80, 112, 160),
    strides: Sequence[int] = (2, 2, 2, 1, 2),
    depth: int = 4,
    stem: int = 16,
    stem_stride: int = 2,
    head: int = 1280,
) -> SearchSpace:
    """The space; the defaults are for photographs of 224 pixels.

    `widths` are the stages' middle choices of width, `strides` those of their first blocks,
    `depth` the most blocks a stage may have; `stem` and `head` are the widths of the convolutions
    before and after the stages. For images of 8 pixels, strides of 1 but one. Raises SpaceError.
    """
    _require("widths", widths, _integers(widths, 2), "a list of integers from 2, one a stage")
    fit = _integers(strides, 1) and set(strides) <= {1, 2} and len(strides) == len(widths)
    _require("strides", strides, fit, "a list of 1 and 2, one for each of the widths")
    _require("depth", depth, _integers([depth], 1) and depth <= 36, "integers from 1 to 36")
    _require("stem", stem, _integers([stem], 1), "integers from 1")
    _require("stem_stride", stem_stride, stem_stride in (1, 2), "1, 2")
    _require("head", head, _integers([head], 1), "integers from 1")
    sizes = {"depth": depth, "stem": stem, "stem_stride": stem_stride, "head": head}
    return SearchSpace.of(
        "macro",
        {
            f"stage {stage} {name}": choices
            for stage, width in enumerate(widths, start=1)
            for name, choices in _choices(width, depth).items()
        },
        builder="lm_searcher.spaces.macro.network:build",
        settings={"widths": list(widths), "strides": list(strides), **sizes},
        cost=cost,
    )


def _require(setting: str, value: object, holds: bool, accepted: str) -> None:
    if not holds:
        raise SpaceError(f"space 'macro': {setting} = {value!r}; accepted: {accepted}")


def _integers(values: object, least: int) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) > 0
        and all(isinstance(v, int) and not isinstance(v, bool) and v >= least for v in values)
    )


def _choices(width: int, depth: int) -> dict[str, Sequence[Choice]]:
    # A quarter less and more; where it is many, as many as accelerators like.
    unit = 8 if width >= 32 else 1
    less, more = (unit * round(width * share / unit) for share in (0.75, 1.25))
    return {
        "kernel": KERNELS,
        "expansion": EXPANSIONS,
        "depth": range(1, depth + 1),
        "width": (min(less, width - 1), width, max(more, width + 1)),
        "squeeze-excite": (False, True),
    }


@dataclass(frozen=True)
class Block:
    """One inverted residual block."""

    inputs: int
    outputs: int
    kernel: int
    expansion: int
    stride: int
    excites: bool

    @property
    def hidden(self) -> int:
        """Channels of the depthwise convolution."""
        return self.inputs * self.expansion

    @property
    def squeezed(self) -> int:
        """Channels between squeeze and excite."""
        return max(1, self.hidden // 4)


def blocks(config: Mapping[str, Choice], stem: int, strides: Sequence[int]) -> Iterator[Block]:
    """The blocks of a configuration in order. Raises KeyError for one of another space."""
    inputs = stem
    for stage, stride in enumerate(strides, start=1):
        kernel, expansion, depth, outputs = (
            int(config[f"stage {stage} {name}"])
            for name in ("kernel", "expansion", "depth", "width")
        )
        excites = bool(config[f"stage {stage} squeeze-excite"])
        for block in range(depth):
            step = stride if block == 0 else 1
            yield Block(inputs, outputs, kernel, expansion, step, excites)
            inputs = outputs


def cost(
    config: Mapping[str, Choice],
    *,
    strides: Sequence[int],
    stem: int,
    stem_stride: int,
    head: int,
    in_channels: int = 3,
    classes: int = 10,
    image_size: int = 224,
    **_: Any,
) -> dict[str, float]:
    """``params_m`` and ``flops_m`` of a square image, exactly; the latter as PyTorch's
    FlopCounterMode counts: convolutions and linear layers only, 2 a multiply-add.
    """
    side = -(-image_size // stem_stride)
    weights, others, adds = 9 * in_channels * stem, 2 * stem, 9 * in_channels * stem * side**2
    outputs = stem
    for block in blocks(config, stem, strides):
        hidden, outputs = block.hidden, block.outputs
        expand, spatial, project = (
            block.inputs * hidden, block.kernel**2 * hidden, hidden * outputs
        )  # fmt: skip
        adds += expand * side**2
        side = -(-side // block.stride)
        adds += (spatial + project) * side**2
        weights += expand + spatial + project
        others += 4 * hidden + 2 * outputs  # batch norms
        if block.excites:
            adds += 2 * hidden * block.squeezed
            weights += 2 * hidden * block.squeezed
            others += hidden + block.squeezed  # biases
    weights += outputs * head + head * classes
    others += 2 * head + classes
    adds += outputs * head * side**2 + head * classes
    return {"params_m": (weights + others) / 1e6, "flops_m": 2 * adds / 1e6}
