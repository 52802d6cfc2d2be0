"""The function that turns a configuration into a network: found, checked and called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.builders import recorded_builder
from lm_searcher.spaces.errors import ConfigError, EvaluatorError
from lm_searcher.spaces.space import Config, SearchSpace
from lm_searcher.tools.data.datasets import NAMES
from lm_searcher.tools.data.texts import NAMES as TEXTS
from lm_searcher.tools.importing import resolve

if TYPE_CHECKING:
    from torch import nn

Builder = Callable[..., Any]
"""Called as ``builder(config, in_channels=, classes=, **settings)``; returns a torch.nn.Module."""


def builder_of(space: SearchSpace) -> Builder:
    """The space's builder. Raises EvaluatorError for a space without one."""
    builder = space.builder
    if builder is None:
        raise EvaluatorError(
            f"space '{space.name}' has no builder; accepted: a function or "
            '"module:function", called as builder(config, in_channels=, classes=, **settings)'
        )
    if isinstance(builder, str):
        return resolve(builder, f"builder of space '{space.name}'", EvaluatorError)
    return builder


def recorded_name(space: SearchSpace) -> str:
    """The builder's name in the identity of stored runs. It stays when a built-in one moves."""
    builder = space.builder
    if not isinstance(builder, str):
        return getattr(builder, "__name__", "")
    return recorded_builder(builder)


def scaled_settings(space: SearchSpace, width: float) -> dict[str, Any]:
    """The space's settings, `channels` multiplied by `width`. Raises ConfigError without it."""
    settings = dict(space.settings)
    if width != 1:
        if "channels" not in settings:
            raise ConfigError(
                f"width = {width:g} scales the setting `channels`, which space '{space.name}' "
                "has not; accepted: 1"
            )
        settings["channels"] = max(1, round(settings["channels"] * width))
    return settings


def check_call(space: SearchSpace, call: Mapping[str, Any], dataset: str) -> None:
    """Raises EvaluatorError if the space's builder does not take the keywords of `call`."""
    signature = inspect.signature(builder_of(space))
    try:
        signature.bind({}, **call)
    except TypeError as error:
        mismatch = _kind_mismatch(space, set(signature.parameters), dataset)
        if mismatch is not None:
            raise mismatch from error
        keywords = ", ".join(f"{k}={v!r}" for k, v in call.items())
        raise EvaluatorError(
            f"builder of space '{space.name}' cannot be called as "
            f"builder(config, {keywords}): {error}"
        ) from error


def _kind_mismatch(space: SearchSpace, parameters: set[str], dataset: str) -> EvaluatorError | None:
    """The error for a builder of image networks that gets text, or the other way round.

    A builder for images takes in_channels, one for text takes context.
    """
    of_text = dataset in TEXTS
    for_text, for_images = "context" in parameters, "in_channels" in parameters
    if of_text and for_images and not for_text:
        takes, gets, accepted, kind = "images", "text", ", ".join(NAMES), "decoder"
    elif not of_text and for_text and not for_images:
        takes, gets, accepted, kind = "text", "images", ", ".join(TEXTS), "encoder"
    else:
        return None
    return EvaluatorError(
        f"space '{space.name}' builds networks for {takes}, dataset '{dataset}' is {gets}; "
        f"accepted: dataset {accepted}, or of space 'transformer' kind = \"{kind}\""
    )


def build(space: SearchSpace, config: Config, call: Mapping[str, Any]) -> nn.Module:
    """The network of `config`. Raises EvaluatorError for a builder that returns another type."""
    return as_module(space, builder_of(space)(config, **call))


def as_module(space: SearchSpace, model: object) -> nn.Module:
    """What a builder returned, as a module. Raises EvaluatorError for another type."""
    import torch

    if not isinstance(model, torch.nn.Module):
        raise EvaluatorError(
            f"builder of space '{space.name}' returned a {type(model).__name__}; "
            "accepted: a torch.nn.Module"
        )
    return model
