"""Loading a causal language model and its adapter: safetensors only, no code from the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lm_searcher.spaces.errors import RankerError, first_line
from lm_searcher.tools.rankers.lm.text import merges_digits
from lm_searcher.tools.transformers_output import hide_progress_bars

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
NO_LIMIT = 10**9
"""A tokenizer without a limit of its own says some huge number."""


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model that is ready to rank."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    context: int
    """The most tokens of prompt and answer together."""

    @property
    def merges(self) -> bool:
        """Whether the tokenizer makes one token of several digits."""
        return merges_digits(self.tokenizer)


def load(model: str, adapter: str | None = None, device: str | None = None) -> LoadedModel:
    """The model of a directory or a Hugging Face id, with a PEFT adapter if one is named.

    A directory that holds an adapter alone brings its base. bf16 on a GPU, float32 elsewhere.
    Raises RankerError in one line for what cannot be loaded.
    """
    import torch

    from lm_searcher.tools.rankers.lm.adapter import with_adapter  # peft loads slowly

    if adapter is None and _adapter_alone(Path(model)):
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


def _adapter_alone(folder: Path) -> bool:
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
    """The most tokens that both take."""
    text = model.config.get_text_config()
    limits = [
        getattr(text, "max_position_embeddings", None),
        getattr(text, "n_positions", None),
        tokenizer.model_max_length,
    ]
    return min(int(n) for n in limits if n is not None and n > 0) if any(limits) else NO_LIMIT


def load_tokenizer(model: str, adapter: str | None = None) -> PreTrainedTokenizerBase:
    """The adapter's tokenizer where it brings one, else the model's. Raises RankerError."""
    from transformers import AutoTokenizer

    own = adapter is not None and (Path(adapter) / "tokenizer_config.json").is_file()
    place = cast(str, adapter) if own else model
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
    """The causal language model alone, on the CPU. Raises RankerError."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    hide_progress_bars()

    folder = Path(model)
    if folder.is_dir():
        _check_folder(folder)
    elif folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
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


def is_here(model: str, kind: str = "model", file: str = "config.json") -> bool:
    """Whether a model's files are on this machine: a directory, or an id in the hub's cache.

    `kind` is what a message calls it, `file` one that it has.

    Raises RankerError for an id that is not, where the hub does not have it or is not reached:
    at once, without the library's minute of attempts.
    """
    import httpx2
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    if Path(model).is_dir():
        return True
    try:
        if isinstance(huggingface_hub.try_to_load_from_cache(model, file), str):
            return True
        huggingface_hub.model_info(model, timeout=10)
    except RepositoryNotFoundError:
        raise RankerError(f"{kind} '{model}': no such directory, and none on the hub") from None
    except (OSError, ValueError, httpx2.HTTPError) as error:
        raise RankerError(
            f"{kind} '{model}': no such directory, not in the hub's cache, and the hub is not "
            f"reached ({first_line(error)})"
        ) from None
    return False


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise RankerError(f"model '{folder}': no config.json; accepted: a Hugging Face directory")
    if not list(folder.glob("*.safetensors")):
        pickles = [p.name for p in sorted(folder.iterdir()) if p.suffix in PICKLES]
        found = f"only {pickles[0]}, a pickle, which may run code" if pickles else "no weights"
        raise RankerError(f"model '{folder}': {found}; accepted: safetensors")
