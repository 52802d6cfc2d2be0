"""PEFT adapters on a causal language model: safetensors only."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import peft
from safetensors import SafetensorError

from lm_searcher.spaces.errors import RankerError, first_line
from lm_searcher.tools.llm.hub import is_here, is_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def attach(model: PreTrainedModel, config: peft.PeftConfig) -> peft.PeftModel:
    """Put a new adapter, as `config` describes it, into `model`."""
    with warnings.catch_warnings():  # peft uses an old name of transformers
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        adapted = peft.get_peft_model(model, config)
    assert isinstance(adapted, peft.PeftModel)
    return adapted


def with_adapter(model: PreTrainedModel, base: str, adapter: str) -> PreTrainedModel:
    """Put a stored adapter into a causal language model and return the model.

    `base` is the model's name in messages. Raises RankerError, in one line, for an adapter that
    is missing, is not in safetensors, or does not fit the model.
    """
    place = f"adapter '{adapter}'"
    folder = Path(adapter)
    if folder.is_dir():
        if not (folder / "adapter_config.json").is_file():
            raise RankerError(f"{place}: no adapter_config.json; accepted: a PEFT directory")
        if not (folder / "adapter_model.safetensors").is_file():
            raise RankerError(f"{place}: no adapter_model.safetensors; accepted: safetensors")
    elif is_path(adapter):
        raise RankerError(f"{place}: no such directory")
    is_here(adapter, "adapter", "adapter_config.json")
    try:
        config = peft.PeftConfig.from_pretrained(adapter)
        if not folder.is_dir():
            _refuse_pickle(adapter)
        config.base_model_name_or_path = None  # the base may have been moved since
        with_it = attach(model, config)
        weights = peft.load_peft_weights(adapter, "cpu")
        found: Any = peft.set_peft_model_state_dict(with_it, weights)
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError),
        *(RuntimeError, ImportError, SafetensorError),
    ) as error:
        raise RankerError(f"{place} does not fit model '{base}' ({first_line(error)})") from error
    absent = [k for k in found.missing_keys if any(mark in k for mark in ("lora_", "adapter"))]
    if absent or found.unexpected_keys:
        key = (absent or list(found.unexpected_keys))[0]
        raise RankerError(f"{place} does not fit model '{base}' (weight {key})")
    return cast("PreTrainedModel", with_it.get_base_model())


def _refuse_pickle(adapter: str) -> None:
    from huggingface_hub import file_exists

    if not file_exists(adapter, "adapter_model.safetensors"):
        raise ValueError("it has no adapter_model.safetensors")
