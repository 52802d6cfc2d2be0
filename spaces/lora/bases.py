"""The models that LoRA searches adapt, untrained: the embedded ones, and those of a config."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import SpaceError, first_line, unknown

if TYPE_CHECKING:
    from torch import nn

PREFIX = "builtin:"
DEFAULT_BASE = f"{PREFIX}language"
CONFIGS = ("config.json", "unet/config.json", "transformer/config.json")
"""A model's own, or that of the denoiser of a diffusers pipeline."""


@dataclass(frozen=True)
class EmbeddedBase:
    """An architecture that comes with the package."""

    build: Callable[[], nn.Module]
    """The untrained model; it may be called under ``torch.device("meta")``."""
    targets: tuple[str, ...]
    """The patterns of the modules to adapt, unless the run file has its own."""
    outline: Callable[[], Outline] | None = None
    """What these match, where it is to be known without loading a framework: it must agree."""


@dataclass(frozen=True)
class Outline:
    """The modules that an embedded base has adapted, and its size, without the model."""

    per_rank: Mapping[str, int]
    """By name, in the model's order: the parameters of a rank of 1."""
    parameters: int


def language_outline() -> Outline:
    """Of `language`: lists of spaces show it, and are not to wait for torch."""
    width, inner, layers = 96, 256, 3
    shapes = {
        "self_attn.q_proj": 2 * width,
        "self_attn.v_proj": 2 * width,
        "mlp.up_proj": width + inner,
        "mlp.down_proj": width + inner,
    }
    layer = 4 * width**2 + 3 * width * inner + 2 * width
    return Outline(
        {f"model.layers.{i}.{name}": size for i in range(layers) for name, size in shapes.items()},
        layers * layer + 2 * 256 * width + width,
    )


def language() -> nn.Module:
    """A small Llama over bytes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=256,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


SEGMENTER: dict[str, Any] = {
    "num_channels": 1,
    "num_encoder_blocks": 3,
    "depths": [1, 1, 1],
    "hidden_sizes": [16, 32, 48],
    "patch_sizes": [5, 3, 3],
    "strides": [2, 2, 2],
    "sr_ratios": [4, 2, 1],
    "num_attention_heads": [1, 2, 3],
    "mlp_ratios": [2, 2, 2],
    "decoder_hidden_size": 32,
    "classifier_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
}


def segmenter(classes: int = 4) -> nn.Module:
    """A small SegFormer for grey images of 32x32, with the background among the classes."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    labels = {number: str(number) for number in range(classes)}
    return SegformerForSemanticSegmentation(SegformerConfig(**SEGMENTER, id2label=labels))


def diffuser() -> nn.Module:
    """A small diffusion model of digits."""
    from lm_searcher.spaces.lora.diffuser import Diffuser

    return Diffuser()


EMBEDDED: dict[str, EmbeddedBase] = {
    DEFAULT_BASE: EmbeddedBase(
        language, ("q_proj", "v_proj", "up_proj", "down_proj"), language_outline
    ),
    "builtin:segmenter": EmbeddedBase(
        segmenter, ("patch_embeddings.proj", "[qv]_proj", "fc1", "fc2")
    ),
    "builtin:diffuser": EmbeddedBase(diffuser, ("attn1.to_v", "attn2.to_v", "ff.net.2")),
}
"""A new embedded base is a function and one line here."""


def untrained(base: str, device: str = "meta") -> nn.Module:
    """The base's architecture: "builtin:NAME", a directory, or a hub id.

    On the meta device, where it takes no memory, unless another is named. Raises SpaceError.
    """
    import torch

    with torch.device(device):
        if base.startswith(PREFIX):
            if base not in EMBEDDED:
                raise SpaceError(unknown("base", base, EMBEDDED) + ", a directory, or a hub id")
            return EMBEDDED[base].build()
        path = find_config(base)
        try:
            return _from_config(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
            raise SpaceError(f"{path.name} makes no model ({first_line(error)})") from error


def find_config(base: str) -> Path:
    """The config.json of the model to adapt, fetched where it must be. Raises SpaceError."""
    folder = Path(base)
    if folder.is_dir():
        found = next((folder / name for name in CONFIGS if (folder / name).is_file()), None)
        if found is None:
            raise SpaceError("no config.json; accepted: a model of transformers or diffusers")
        return found
    if folder.is_absolute() or base.startswith((".", "~")) or base.count("/") > 1:
        raise SpaceError("no such directory")
    return _from_hub(base)


def _from_hub(base: str) -> Path:
    import httpx2
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        for name in CONFIGS:
            if isinstance(cached := huggingface_hub.try_to_load_from_cache(base, name), str):
                return Path(cached)
        # Asked before the download, since it gives up soon where the hub is not reached.
        listed = {f.rfilename for f in huggingface_hub.model_info(base, timeout=10).siblings or ()}
        for name in CONFIGS:
            if name in listed:
                return Path(huggingface_hub.hf_hub_download(base, name))
    except RepositoryNotFoundError:
        raise SpaceError("no such directory, and none on the hub") from None
    except (OSError, ValueError, httpx2.HTTPError) as error:
        raise SpaceError(
            "no such directory, not in the hub's cache, and the hub is not reached "
            f"({first_line(error)})"
        ) from None
    raise SpaceError("no config.json on the hub; accepted: a model of transformers or diffusers")


def _from_config(path: Path) -> nn.Module:
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if name := config.get("_class_name"):
        return _of_diffusers(str(name), config)
    import transformers

    settings = transformers.AutoConfig.from_pretrained(path.parent, trust_remote_code=False)
    names = getattr(settings, "architectures", None)
    if not names:
        raise ValueError("it names no architectures")
    model: nn.Module = getattr(transformers, names[0])(settings)
    return model


def _of_diffusers(name: str, config: dict[str, Any]) -> nn.Module:
    try:
        import diffusers
    except ImportError:
        raise SpaceError("a diffusers model needs: pip install 'lm-searcher[diffusion]'") from None
    model: nn.Module = getattr(diffusers, name).from_config(config)
    return model
