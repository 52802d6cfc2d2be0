"""The LoRA space: a rank for each target module of a base model, or for each group of them.

Hu et al., arXiv 2106.09685. Rank 0 is no adapter. The number of parameters needs no training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from lm_searcher.spaces.builtin_space import builtin_space
from lm_searcher.spaces.errors import SpaceError, unknown
from lm_searcher.spaces.lora.bases import DEFAULT_BASE, EMBEDDED, PREFIX, untrained
from lm_searcher.spaces.lora.targets import Target, find_targets, grouped
from lm_searcher.spaces.model import Accepted, AsTuple, FrozenModel, different, message_error
from lm_searcher.spaces.ncode import MAX_OPTIONS, NCode
from lm_searcher.spaces.space import Choice, Config, SearchSpace

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Adapters:
    """Turns a configuration into LoRA adapters."""

    groups: Mapping[str, tuple[Target, ...]]
    alpha: float | None
    """Alpha of the adapters if it is not searched; None: twice the rank."""
    base_parameters: int

    def of(self, config: Mapping[str, Choice]) -> dict[str, tuple[int, float]]:
        """Rank and alpha by module name, without the modules of rank 0."""
        chosen: dict[str, tuple[int, float]] = {}
        for group, targets in self.groups.items():
            rank = int(config[group])
            alpha = config.get(alpha_name(group), self.alpha)
            if rank:
                scale = 2.0 * rank if alpha is None else float(alpha)
                chosen |= {target.name: (rank, scale) for target in targets}
        return chosen

    def cost(self, config: Config, **_: Any) -> dict[str, float]:
        """``lora_params_m`` (millions) and ``trainable_share`` of the adapted model, both exact."""
        added = sum(
            int(config[group]) * target.per_rank
            for group, targets in self.groups.items()
            for target in targets
        )
        return {
            "lora_params_m": added / 1e6,
            "trainable_share": added / (self.base_parameters + added),
        }

    @classmethod
    def on(
        cls, model: nn.Module, targets: Sequence[str], group: str | None, alpha: float | None
    ) -> Adapters:
        """The adapters of the matching modules of `model`. Raises SpaceError."""
        groups = grouped(find_targets(model, targets), group)
        return cls(groups, alpha, sum(p.numel() for p in model.parameters()))


Positive = Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0, allow_inf_nan=False)]


class LoraSettings(FrozenModel):
    """Settings of the space."""

    base: Annotated[
        str, Field(min_length=1), Accepted("builtin:NAME, a directory, or a hub id")
    ] = DEFAULT_BASE
    """The model to adapt: "builtin:NAME", a directory, or a hub id of transformers or diffusers."""
    targets: Annotated[
        Annotated[tuple[str, ...], Field(min_length=1)] | None,
        AsTuple,
        Accepted("a list of name patterns"),
    ] = None
    """Patterns of the modules to adapt, see `find_targets`; a built-in base has its own."""
    ranks: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        AsTuple,
        Field(min_length=2, max_length=MAX_OPTIONS),
        AfterValidator(different),
        Accepted(f"2 to {MAX_OPTIONS} different integers from 0, such as [0, 4, 8]"),
    ] = (0, 2, 4, 8)
    """Options of each rank; 0 is no adapter."""
    alphas: Annotated[
        Annotated[
            tuple[Positive, ...],
            Field(min_length=2, max_length=MAX_OPTIONS),
            AfterValidator(different),
        ]
        | None,
        AsTuple,
        Accepted("2 or more different numbers > 0"),
    ] = None
    """Options of each alpha; without them alpha is not searched."""
    alpha: Annotated[Positive | None, Accepted("a number > 0")] = None
    """Alpha of every adapter if it is not searched; the default is twice the rank."""
    group: Annotated[
        Annotated[str, Field(min_length=1)] | None, Accepted("a regular expression")
    ] = None
    """Which modules share a rank, see `grouped`; by default none do."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.base not in EMBEDDED:
            if self.base.startswith(PREFIX):
                raise message_error(unknown("base", self.base, EMBEDDED))
            if self.targets is None:
                raise message_error(f"targets is missing; give name patterns for '{self.base}'")
        if self.alphas is not None and self.alpha is not None:
            raise message_error("both alpha and alphas; give one of them")
        return self

    @property
    def patterns(self) -> list[str]:
        """The target patterns: the settings' own, or the built-in base's."""
        return list(EMBEDDED[self.base].targets if self.targets is None else self.targets)


@builtin_space("lora", LoraSettings)
def lora(settings: LoraSettings) -> SearchSpace:
    """The space of LoRA adapters of a base model.

    Each target module, or each group of them, has a position whose options are the ranks in
    ascending order; with `alphas`, each has a second position for its alpha.
    """
    choices: list[Choice] = sorted(settings.ranks)
    try:
        adapters = _adapters(settings)
    except SpaceError as error:
        raise SpaceError(f"space 'lora', base '{settings.base}': {error}") from None
    _check_multiples(adapters, choices)
    positions: dict[str, Sequence[Choice]] = dict.fromkeys(adapters.groups, choices)
    if settings.alphas is not None:
        positions |= {alpha_name(name): sorted(settings.alphas) for name in adapters.groups}
    own_alpha = _Canonical(len(adapters.groups), 0 in choices) if settings.alphas else None
    return SearchSpace.of(
        "lora",
        positions,
        builder="lm_searcher.spaces.lora.network:build",
        settings={
            "base": settings.base,
            "targets": settings.patterns,
            "group": settings.group,
            "alpha": settings.alpha,
        },
        canonical_form=own_alpha,
        cost=adapters.cost,
    )


def alpha_name(group: str) -> str:
    """The position of a group's alpha."""
    return f"alpha {group}"


@dataclass(frozen=True)
class _Canonical:
    """The alpha of a module without an adapter has no effect: it becomes option 0."""

    groups: int
    has_zero: bool

    def __call__(self, ncode: NCode) -> NCode:
        if not self.has_zero:
            return ncode
        ranks, alphas = ncode[: self.groups], ncode[self.groups :]
        kept = ("0" if rank == "0" else a for rank, a in zip(ranks, alphas, strict=True))
        return ranks + "".join(kept)


def _adapters(settings: LoraSettings) -> Adapters:
    patterns, group, alpha = settings.patterns, settings.group, settings.alpha
    embedded = EMBEDDED.get(settings.base)
    if embedded is None or embedded.outline is None or tuple(patterns) != embedded.targets:
        return Adapters.on(untrained(settings.base), patterns, group, alpha)
    outline = embedded.outline()
    targets = [Target(name, per_rank) for name, per_rank in outline.per_rank.items()]
    return Adapters(grouped(targets, group), alpha, outline.parameters)


def _check_multiples(adapters: Adapters, ranks: Sequence[Choice]) -> None:
    for target in (t for targets in adapters.groups.values() for t in targets):
        for rank in ranks:
            if int(rank) % target.multiple:
                raise SpaceError(
                    f"space 'lora': rank {rank} on '{target.name}', a convolution of "
                    f"{target.multiple} groups; accepted: multiples of {target.multiple}"
                )
