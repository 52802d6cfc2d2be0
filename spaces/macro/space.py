"""A space of whole networks: stages of MobileNet's inverted residual blocks.

Sandler et al. (arXiv 1801.04381) and, for squeeze-excite, Howard et al. (arXiv 1905.02244). Each
stage has one kernel, expansion, depth, width and squeeze-excite for all its blocks.

No two codes build the same network: depth changes the number of a stage's blocks, and every other
option changes the number of weights in its first block. So there is no canonical form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from lm_searcher.spaces.builtin_space import builtin_space
from lm_searcher.spaces.model import Accepted, AsTuple, Count, FrozenModel
from lm_searcher.spaces.ncode import MAX_OPTIONS
from lm_searcher.spaces.space import Choice, SearchSpace

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)


Integers = Annotated[
    tuple[Annotated[int, Field(ge=2)], ...],
    AsTuple,
    Field(min_length=1),
    Accepted("a list of integers from 2, one for each stage"),
]


class MacroSettings(FrozenModel):
    """Settings of the space; the defaults are for photographs of 224 pixels.

    For images of 8 pixels, all strides but one should be 1.
    """

    widths: Integers = (24, 40, 80, 112, 160)
    """Width of each stage; its options are this one, a quarter less and a quarter more."""
    strides: Annotated[
        tuple[Literal[1, 2], ...],
        AsTuple,
        Field(validate_default=True),
        Accepted("a list of 1 and 2, one for each of the widths"),
    ] = (2, 2, 2, 1, 2)
    """Stride of the first block of each stage."""
    depth: Annotated[
        int, Field(ge=1, le=MAX_OPTIONS), Accepted(f"integers from 1 to {MAX_OPTIONS}")
    ] = 4
    """The most blocks in a stage."""
    stem: Count = 16
    """Width of the convolution before the stages."""
    stem_stride: Annotated[Literal[1, 2], Accepted("1, 2")] = 2
    """Stride of the convolution before the stages."""
    head: Count = 1280
    """Width of the convolution after the stages."""

    @field_validator("strides")
    @classmethod
    def _one_for_each_width(cls, strides: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if len(strides) != len(info.data.get("widths", strides)):
            raise ValueError
        return strides


@builtin_space("macro", MacroSettings)
def macro(settings: MacroSettings) -> SearchSpace:
    """The space of whole networks."""
    return SearchSpace.of(
        "macro",
        {
            f"stage {stage} {name}": choices
            for stage, width in enumerate(settings.widths, start=1)
            for name, choices in _choices(width, settings.depth).items()
        },
        builder="lm_searcher.spaces.macro.network:build",
        settings=settings.model_dump(mode="json"),
        cost=cost,
    )


def _choices(width: int, depth: int) -> dict[str, Sequence[Choice]]:
    # Wide layers have multiples of 8 channels, which accelerators compute faster.
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
    """The blocks of a configuration, in order. Raises KeyError for one of another space."""
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
    """``params_m`` and ``flops_m`` of one square image, both exact.

    FLOPs as PyTorch's FlopCounterMode counts them: convolutions and linear layers only, 2 for
    each multiply-add.
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
