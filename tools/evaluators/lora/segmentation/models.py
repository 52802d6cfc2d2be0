"""Segmentation models: the embedded one, and the SegFormers and SAMs of transformers.

They differ in their inputs and in their head, which turns the encoder's features into masks. SAM
was trained with prompts only, so it is prompted with a box around the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import EvaluatorError, SpaceError, first_line
from lm_searcher.spaces.lora.bases import PREFIX
from lm_searcher.spaces.lora.configs import find_config
from lm_searcher.tools.evaluators.lora.segmentation.scenes import CLASSES, SIDE
from lm_searcher.tools.llm.hub import is_here
from lm_searcher.tools.transformers_output import errors_only

if TYPE_CHECKING:
    from torch import Tensor, nn

HEADS = {"segformer": "decode_head", "sam": "mask_decoder"}
"""The module that is the head, by the config's `model_type`."""

SEGFORMER_SIDE = 512
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Form:
    """A base's input, squares of `side` pixels normalised by channel, and its output."""

    kind: str
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int
    """Classes of its own head; 0 if it has none. A SAM's single mask means two classes."""

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return len(self.mean)


@cache
def form_of(base: str) -> Form:
    """The form of a base: embedded, or read from its config.json and, if it has one, its
    preprocessor_config.json. Raises EvaluatorError for other kinds of models.
    """
    if base.startswith(PREFIX):
        return Form("segformer", SIDE, (0.5,), (0.5,), CLASSES)
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(find_config(base).parent, trust_remote_code=False)
    except (SpaceError, OSError, ValueError) as error:
        raise EvaluatorError(f"base '{base}': {first_line(error)}") from None
    if config.model_type not in HEADS:
        raise EvaluatorError(
            f"base '{base}' is a {config.model_type}; "
            f"accepted for task 'segmentation': {', '.join(sorted(HEADS))}"
        )
    prepared = _preprocessing(base)
    mean, std = (
        tuple(float(v) for v in prepared.get(f"image_{name}", default))
        for name, default in zip(("mean", "std"), IMAGENET, strict=True)
    )
    if config.model_type == "sam":
        return Form("sam", config.vision_config.image_size, mean, std, 2)
    own = "SegformerForSemanticSegmentation" in (config.architectures or ())
    side = _side(base, prepared.get("size", SEGFORMER_SIDE))
    return Form("segformer", side, mean, std, config.num_labels if own else 0)


def _preprocessing(base: str) -> dict[str, Any]:
    import json

    from transformers.utils.hub import cached_file

    name = "preprocessor_config.json"
    here = is_here(base, "base")
    try:
        found = cached_file(
            base, name, local_files_only=here, _raise_exceptions_for_missing_entries=False
        )
        settings: dict[str, Any] = json.loads(Path(found).read_text("utf-8")) if found else {}
        return settings
    except (OSError, ValueError) as error:
        raise EvaluatorError(f"base '{base}': {name}: {first_line(error)}") from None


def _side(base: str, size: Any) -> int:
    """The square's side from an image processor's `size`, a number or a dict."""
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    if not isinstance(size, int) or size < 1:
        raise EvaluatorError(f"base '{base}': preprocessor_config.json: size is {size!r}")
    return size


def check_weights(base: str) -> None:
    """Raises EvaluatorError for a directory without safetensors."""
    folder = Path(base)
    if folder.is_dir() and not list(folder.glob("*.safetensors")):
        raise EvaluatorError(f"base '{folder}' has no weights; accepted: safetensors")


def load_segmenter(base: str, classes: int) -> nn.Module:
    """The model of a directory or hub id with a head for `classes`, float32, on the CPU.

    Weights that the head lacks are drawn from torch's generator. Raises EvaluatorError.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, SamModel, SegformerForSemanticSegmentation

    form, here = form_of(base), is_here(base, "base")
    config: Any = AutoConfig.from_pretrained(base, local_files_only=here, trust_remote_code=False)
    if form.kind == "segformer" and form.classes != classes:
        config.num_labels = classes
    elif form.kind == "sam" and classes > 2:
        config.mask_decoder_config.num_multimask_outputs = classes
    model_class: Any = SamModel if form.kind == "sam" else SegformerForSemanticSegmentation
    try:
        with errors_only():  # transformers warns of the weights that it draws
            model, report = model_class.from_pretrained(
                base,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=here,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EvaluatorError(f"base '{base}' cannot be loaded ({first_line(error)})") from None
    absent = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    own = () if form.classes == classes else (HEADS[form.kind],)
    if lost := sorted(key for key in absent if not key.startswith(own)):
        raise EvaluatorError(f"base '{base}': its weights lack {len(lost)}, such as {lost[0]}")
    loaded: nn.Module = model
    return loaded


def head_of(model: nn.Module) -> nn.Module:
    """The module that turns the encoder's features into masks."""
    config: Any = model.config
    head: nn.Module = getattr(model, HEADS[config.model_type])
    return head


def logits(model: nn.Module, images: Tensor, classes: int) -> Tensor:
    """Scores [n, classes, side, side] of normalised images [n, channels, side, side].

    For two classes, a SAM's single mask is the logit of class 1 against a logit of 0 for class 0.
    For more classes it has one mask each.
    """
    import torch
    from torch.nn import functional

    config: Any = model.config
    if config.model_type == "sam":
        side = images.shape[-1]
        boxes = torch.tensor([[0.0, 0.0, side, side]], device=images.device)
        found = model(
            pixel_values=images,
            input_boxes=boxes.expand(len(images), 1, 4),
            multimask_output=classes > 2,
        ).pred_masks[:, 0]  # of the only box: [n, masks, h, w]
        scores = found if classes > 2 else torch.cat([torch.zeros_like(found), found], 1)
    else:
        scores = model(pixel_values=images).logits
    return functional.interpolate(
        scores.float(), size=images.shape[-2:], mode="bilinear", align_corners=False
    )
