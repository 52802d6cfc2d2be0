"""Models by their config.json, from a directory or the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import SpaceError, first_line

if TYPE_CHECKING:
    from torch import nn

CONFIGS = ("config.json", "unet/config.json", "transformer/config.json")
"""The config of a model, or of the denoiser of a diffusers pipeline."""


def find_config(base: str) -> Path:
    """The config.json of the model to adapt, downloaded if necessary. Raises SpaceError."""
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
        # Before the download, since it fails sooner if the hub cannot be reached.
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


def from_config(path: Path) -> nn.Module:
    """The untrained model of a config.json. Raises SpaceError."""
    try:
        return _model(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise SpaceError(f"{path.name} makes no model ({first_line(error)})") from error


def _model(path: Path) -> nn.Module:
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
