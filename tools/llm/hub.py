"""Where the files of a Hugging Face model are: a directory, the hub's cache, or the hub."""

from __future__ import annotations

from pathlib import Path

from lm_searcher.spaces.errors import RankerError, first_line

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def is_here(model: str, kind: str = "model", file: str = "config.json") -> bool:
    """Whether a model's files are on this machine: a directory, or an id in the hub's cache.

    `kind` names the model in messages; `file` is a file that the model must have. For an id that
    is not on this machine the hub is asked. Raises RankerError if the hub does not have the
    model or cannot be reached; at once, without the library's minute of attempts.
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


def is_path(model: str) -> bool:
    """Whether a name can only be a path; an id of the hub is ``name`` or ``owner/name``."""
    return Path(model).is_absolute() or model.startswith((".", "~")) or model.count("/") > 1


def check_model_folder(folder: Path) -> None:
    """Raises RankerError for a directory without config.json or without safetensors."""
    if not (folder / "config.json").is_file():
        raise RankerError(f"model '{folder}': no config.json; accepted: a Hugging Face directory")
    if not list(folder.glob("*.safetensors")):
        pickles = [p.name for p in sorted(folder.iterdir()) if p.suffix in PICKLES]
        found = f"only {pickles[0]}, a pickle, which may run code" if pickles else "no weights"
        raise RankerError(f"model '{folder}': {found}; accepted: safetensors")
