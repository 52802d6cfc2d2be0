"""Load a causal language model, its tokenizer and a PEFT adapter.

Weights are read from safetensors only, and no code that comes with a model is run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lm_searcher.spaces.errors import RankerError, first_line
from lm_searcher.tools.llm.hub import check_model_folder, is_here, is_path
from lm_searcher.tools.transformers_output import hide_progress_bars

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NO_LIMIT = 10**9
"""The context of a model that states no limit, in tokens."""


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model with its tokenizer, ready for inference."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    context: int
    """The most tokens of prompt and answer together."""


def load(model: str, adapter: str | None = None, device: str | None = None) -> LoadedModel:
    """Load the model of a directory or a Hugging Face id, with a PEFT adapter if one is named.

    A directory that holds only an adapter is loaded together with the base that the adapter
    names. The weights are bfloat16 on a GPU and float32 elsewhere. Raises RankerError, in one
    line, for anything that cannot be loaded.
    """
    import torch

    from lm_searcher.tools.llm.adapter import with_adapter  # importing peft is slow

    if adapter is None and _is_adapter(Path(model)):
        model, adapter = _base_of(Path(model)), model
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_base(model, torch.bfloat16 if device.startswith("cuda") else torch.float32)
    tokenizer = load_tokenizer(model, adapter)
    if adapter is not None:
        loaded = with_adapter(loaded, model, adapter)
    loaded = loaded.to(device)  # type: ignore[arg-type]
    loaded.requires_grad_(False)
    loaded.train(False)
    name = f"{model}+{adapter}" if adapter else model
    return LoadedModel(name, loaded, tokenizer, context_of(loaded, tokenizer))


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def _base_of(folder: Path) -> str:
    try:
        base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    if not isinstance(base, str) or not base:
        raise RankerError(f"adapter '{folder}' names no base; give it as lm:BASE+{folder}")
    return base


def context_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The most tokens that both the model and the tokenizer accept."""
    text = model.config.get_text_config()
    limits = [
        getattr(text, "max_position_embeddings", None),
        getattr(text, "n_positions", None),
        tokenizer.model_max_length,
    ]
    return min(int(n) for n in limits if n is not None and n > 0) if any(limits) else NO_LIMIT


def load_tokenizer(model: str, adapter: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer in the adapter's folder if there is one, else the model's.

    Raises RankerError.
    """
    from transformers import AutoTokenizer

    place = model
    if adapter is not None and (Path(adapter) / "tokenizer_config.json").is_file():
        place = adapter
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            place, trust_remote_code=False, local_files_only=is_here(place)
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise RankerError(f"model '{place}': no tokenizer ({first_line(error)})") from error
    if tokenizer.eos_token_id is None:
        raise RankerError(f"model '{place}': its tokenizer has no end mark (eos_token)")
    return cast("PreTrainedTokenizerBase", tokenizer)


def load_base(model: str, dtype: Any) -> PreTrainedModel:
    """Load a causal language model without an adapter, on the CPU. Raises RankerError."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    hide_progress_bars()

    folder = Path(model)
    if folder.is_dir():
        check_model_folder(folder)
    elif is_path(model):
        raise RankerError(f"model '{model}': no such directory")
    try:
        found: Any = AutoModelForCausalLM.from_pretrained(
            model,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=is_here(model),
            output_loading_info=True,
        )
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError),
        *(RuntimeError, ImportError, SafetensorError),
    ) as error:
        raise RankerError(f"model '{model}': cannot be loaded ({first_line(error)})") from error
    loaded, report = found
    if missing := sorted(report["missing_keys"]):
        raise RankerError(f"model '{model}': its weights lack {len(missing)}, such as {missing[0]}")
    return cast("PreTrainedModel", loaded)
