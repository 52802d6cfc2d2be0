"""The embedded base of segmentation: a small SegFormer trained on plain scenes of digits."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.lora.bases import SEGMENTER, segmenter
from lm_searcher.tools.evaluators.lora.base import BaseModel
from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.evaluators.lora.segmentation.models import form_of
from lm_searcher.tools.evaluators.lora.segmentation.scenes import CLASSES, scene_data, scenes

if TYPE_CHECKING:
    from torch import Tensor, nn

FIT = Fit(epochs=14, batch_size=32, learning_rate=3e-3, weight_decay=0.01)
SCENES = 1500
RECORDED_AS = "lm_searcher.tools.evaluators.lora.scene_base:train_base"
_LAST = "decode_head.classifier."


def scene_base() -> BaseModel:
    """The base; its recipe contains the model's sizes and a digest of a few scenes."""
    made_of = {"model": SEGMENTER, "drawn": scenes("train", 8, shifted=False).digest}
    recipe = {"scenes": SCENES, "seed": 0, "made_of": made_of, **asdict(FIT)}
    return BaseModel("segmenter", f"{__name__}:train_base", recipe, RECORDED_AS)


def load_scene_base(base: BaseModel, cache: Path | None, classes: int) -> nn.Module:
    """The trained model. For another number of classes, the last layer is initialised anew."""
    model, state = segmenter(classes), base.load(cache)
    if classes != CLASSES:
        state = {name: t for name, t in state.items() if not name.startswith(_LAST)}
    model.load_state_dict(state, strict=classes == CLASSES)
    return model


def train_base(scenes: int, seed: int, made_of: Any, **fit: Any) -> dict[str, Tensor]:
    """The weights of `scene_base`. `made_of` belongs to the recipe and is not used here."""
    import torch

    from lm_searcher.tools.evaluators.lora.loop import train_base_model
    from lm_searcher.tools.evaluators.lora.segmentation.mask_scores import Masks

    torch.manual_seed(seed)
    model, form = segmenter(), form_of("builtin:segmenter")
    plain = scene_data(scenes, 1, shifted=False).train
    learn = Masks.of(plain, CLASSES, form.mean, form.std, torch.device("cpu"))
    train_base_model(
        model,
        Fit(**fit),
        examples=scenes,
        loss=lambda rows: learn.loss(model, rows),
        seed=seed,
    )
    return model.state_dict()
