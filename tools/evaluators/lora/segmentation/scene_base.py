"""The embedded base of segmentation: a small SegFormer that knows plain scenes of digits."""

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
_LAST = "decode_head.classifier."


def scene_base() -> BaseModel:
    """The base; its recipe names the model and shows some of the scenes that it learns."""
    made_of = {"model": SEGMENTER, "drawn": scenes("train", 8, shifted=False).digest}
    recipe = {"scenes": SCENES, "seed": 0, "made_of": made_of, **asdict(FIT)}
    first = "lm_searcher.tools.evaluators.lora.scene_base:train_base"
    return BaseModel("segmenter", f"{__name__}:train_base", recipe, recorded_as=first)


def load_scene_base(base: BaseModel, cache: Path | None, classes: int) -> nn.Module:
    """The trained model; for other classes than its own, the last layer is drawn anew."""
    model, state = segmenter(classes), base.load(cache)
    if classes != CLASSES:
        state = {name: t for name, t in state.items() if not name.startswith(_LAST)}
    model.load_state_dict(state, strict=classes == CLASSES)
    return model


def train_base(scenes: int, seed: int, made_of: Any, **fit: Any) -> dict[str, Tensor]:
    """The weights of `scene_base`. `made_of` tells a recipe from that of another version."""
    import torch

    from lm_searcher.tools.evaluators.lora import loop
    from lm_searcher.tools.evaluators.lora.segmentation.mask_scores import Masks

    torch.manual_seed(seed)
    model, form = segmenter(), form_of("builtin:segmenter")
    plain = scene_data(scenes, 1, shifted=False).train
    learn = Masks.of(plain, CLASSES, form.mean, form.std, torch.device("cpu"))
    loop.train(
        model,
        Fit(**fit),
        examples=scenes,
        loss=lambda rows: learn.loss(model, rows),
        score=lambda: 0.0,
        seed=seed,
        report=lambda step, value: False,
    )
    return model.state_dict()
