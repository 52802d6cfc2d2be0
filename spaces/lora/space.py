"""The LoRA space: a rank for each target module of a base model, or each group of them.

Hu et al., arXiv 2106.09685. Rank 0 is no adapter. Parameters are known without training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import SpaceError, unknown
from lm_searcher.spaces.lora.bases import DEFAULT_BASE, EMBEDDED, PREFIX, untrained
from lm_searcher.spaces.lora.targets import Target, find_targets, grouped
from lm_searcher.spaces.ncode import MAX_OPTIONS, NCode
from lm_searcher.spaces.space import Choice, Config, SearchSpace

if TYPE_CHECKING:
    from torch import nn

RANKS = (0, 2, 4, 8)


@dataclass(frozen=True)
class Adapters:
    """From a configuration to the adapters it stands for."""

    groups: Mapping[str, tuple[Target, ...]]
    alpha: float | None
    """Of every adapter that has no position for it; None is twice the rank."""
    base_parameters: int

    def of(self, config: Mapping[str, Choice]) -> dict[str, tuple[int, float]]:
        """Rank and alpha of each adapted module; one of rank 0 is left out."""
        chosen: dict[str, tuple[int, float]] = {}
        for group, targets in self.groups.items():
            rank = int(config[group])
            alpha = config.get(alpha_name(group), self.alpha)
            if rank:
                scale = 2.0 * rank if alpha is None else float(alpha)
                chosen |= {target.name: (rank, scale) for target in targets}
        return chosen

    def cost(self, config: Config, **_: Any) -> dict[str, float]:
        """Exact: lora_params_m (millions), and their share of all the adapted model's."""
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
        """Those that these settings allow on `model`. Raises SpaceError."""
        groups = grouped(find_targets(model, targets), group)
        return cls(groups, alpha, sum(p.numel() for p in model.parameters()))


def lora(
    base: str = DEFAULT_BASE,
    targets: Sequence[str] | None = None,
    ranks: Sequence[int] = RANKS,
    alphas: Sequence[float] | None = None,
    alpha: float | None = None,
    group: str | None = None,
) -> SearchSpace:
    """The space of a base: "builtin:NAME", a directory, or a hub id of transformers or diffusers.

    A position a target module, or a group of them (see `lora_targets`), whose options are `ranks`
    in rising order; with `alphas` one more a group. Else alpha is `alpha`, or twice the rank.
    Raises SpaceError.
    """
    patterns = _patterns(base, targets)
    _check_group(group)
    _check_alpha(alphas, alpha)
    choices = _ranks(ranks)
    try:
        adapters = _adapters(base, patterns, group, alpha)
    except SpaceError as error:
        raise SpaceError(f"space 'lora', base '{base}': {error}") from None
    _check_multiples(adapters, choices)
    positions: dict[str, Sequence[Choice]] = dict.fromkeys(adapters.groups, choices)
    if alphas is not None:
        positions |= {alpha_name(name): sorted(alphas) for name in adapters.groups}
    settings = {"base": base, "targets": patterns, "group": group, "alpha": alpha}
    return SearchSpace.of(
        "lora",
        positions,
        builder="lm_searcher.spaces.lora.network:build",
        settings=settings,
        canonical_form=_Canonical(len(adapters.groups), 0 in choices) if alphas else None,
        cost=adapters.cost,
    )


def alpha_name(group: str) -> str:
    """The position of a group's alpha."""
    return f"alpha {group}"


@dataclass(frozen=True)
class _Canonical:
    """Where there is no adapter its alpha has no meaning: option 0 stands for all."""

    groups: int
    has_zero: bool

    def __call__(self, ncode: NCode) -> NCode:
        if not self.has_zero:
            return ncode
        ranks, alphas = ncode[: self.groups], ncode[self.groups :]
        kept = ("0" if rank == "0" else a for rank, a in zip(ranks, alphas, strict=True))
        return ranks + "".join(kept)


def _adapters(
    base: str, patterns: Sequence[str], group: str | None, alpha: float | None
) -> Adapters:
    known = EMBEDDED.get(base)
    if known is None or known.outline is None or tuple(patterns) != known.targets:
        return Adapters.on(untrained(base), patterns, group, alpha)
    outline = known.outline()
    targets = [Target(name, per_rank) for name, per_rank in outline.per_rank.items()]
    return Adapters(grouped(targets, group), alpha, outline.parameters)


def _patterns(base: Any, targets: Any) -> list[str]:
    if not isinstance(base, str) or not base:
        raise SpaceError(
            f"space 'lora': base = {base!r}; accepted: builtin:NAME, a directory, or a hub id"
        )
    if base.startswith(PREFIX) and base not in EMBEDDED:
        raise SpaceError(f"space 'lora': {unknown('base', base, EMBEDDED)}")
    if targets is None:
        if base not in EMBEDDED:
            raise SpaceError(f"space 'lora': targets is missing; give name patterns for '{base}'")
        targets = EMBEDDED[base].targets
    if isinstance(targets, str) or not targets or not all(isinstance(t, str) for t in targets):
        raise SpaceError(f"space 'lora': targets = {targets!r}; accepted: a list of name patterns")
    return list(targets)


def _ranks(ranks: Sequence[int]) -> list[Choice]:
    accepted = f"accepted: 2 to {MAX_OPTIONS} different integers from 0, such as [0, 4, 8]"
    whole = isinstance(ranks, Sequence) and not isinstance(ranks, str)
    if not whole or any(type(rank) is not int or rank < 0 for rank in ranks):
        raise SpaceError(f"space 'lora': ranks = {_shown(ranks)}; {accepted}")
    if len(set(ranks)) < len(ranks):
        raise SpaceError(f"space 'lora': ranks = {_shown(ranks)} repeats one; {accepted}")
    if not 2 <= len(ranks) <= MAX_OPTIONS:
        raise SpaceError(f"space 'lora': ranks has {len(ranks)}; {accepted}")
    return sorted(ranks)


def _shown(ranks: object) -> object:
    return list(ranks) if isinstance(ranks, tuple) else repr(ranks)


def _check_group(group: object) -> None:
    if group is not None and (not isinstance(group, str) or not group):
        raise SpaceError(f"space 'lora': group = {group!r}; accepted: a regular expression")


def _check_alpha(alphas: Any, alpha: Any) -> None:
    if alphas is not None and alpha is not None:
        raise SpaceError("space 'lora': both alpha and alphas; give one of them")
    if alpha is not None and not _positive(alpha):
        raise SpaceError(f"space 'lora': alpha = {alpha!r}; accepted: a number > 0")
    if alphas is not None:
        listed = isinstance(alphas, list | tuple) and len(alphas) > 1
        if not listed or not all(map(_positive, alphas)) or len(set(alphas)) < len(alphas):
            raise SpaceError(
                f"space 'lora': alphas = {alphas!r}; accepted: 2 or more different numbers > 0"
            )


def _positive(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 < value < math.inf


def _check_multiples(adapters: Adapters, ranks: Sequence[Choice]) -> None:
    for target in (t for targets in adapters.groups.values() for t in targets):
        for rank in ranks:
            if int(rank) % target.multiple:
                raise SpaceError(
                    f"space 'lora': rank {rank} on '{target.name}', a convolution of "
                    f"{target.multiple} groups; accepted: multiples of {target.multiple}"
                )
