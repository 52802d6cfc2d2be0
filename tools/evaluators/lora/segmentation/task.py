"""A segmentation model adapted to new images, scored by its masks."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import ConfigError, DatasetError, unknown
from lm_searcher.tools.evaluators.lora.base import BaseModel
from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.evaluators.lora.segmentation.labelled_images import MaskedData
from lm_searcher.tools.evaluators.lora.segmentation.mask_folder import ACCEPTED, load_masked
from lm_searcher.tools.evaluators.lora.segmentation.models import (
    Form,
    check_weights,
    form_of,
    head_of,
    load_segmenter,
)
from lm_searcher.tools.evaluators.lora.segmentation.scene_base import load_scene_base, scene_base
from lm_searcher.tools.evaluators.lora.segmentation.scenes import scene_data
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.protocols import Metrics, Report

if TYPE_CHECKING:
    from torch import nn

METRICS = ("val_miou", "val_s_measure")
EMBEDDED = Fit(epochs=8, batch_size=16, learning_rate=5e-3)
PRETRAINED = Fit(epochs=30, batch_size=4, learning_rate=1e-4)
ADAPTED = (500, 200)
"""Shifted scenes for the embedded base: to train on, and for each of validation and test."""


@dataclass(frozen=True)
class SegmentationTask:
    """Metrics: val_miou, the mean IoU over the classes, and val_s_measure, the S-measure of the
    foreground; test_miou and test_s_measure on images that the search does not use;
    head_params_m, the millions of parameters that are trained besides the adapters: the mask
    decoder of a SAM, and the decode head of a SegFormer whose classes are not those of the data.
    Without a folder, the images are shifted scenes of digits.
    """

    settings: TaskSettings

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(unknown("metric of task 'segmentation'", self.metric, METRICS))
        if self.settings.folder is None and not self.settings.embedded:
            raise DatasetError(
                f"base '{self.settings.base}' needs images; accepted for folder: {ACCEPTED}"
            )
        _ = self.fitting

    @property
    def metric(self) -> str:
        """See Task."""
        return self.settings.metric or METRICS[0]

    @property
    def direction(self) -> str:
        """See Task."""
        return "max"

    @property
    def fitting(self) -> Fit:
        """How an adapter is trained. Raises ConfigError."""
        return self.settings.fit(EMBEDDED if self.settings.embedded else PRETRAINED)

    @cached_property
    def embedded_base(self) -> BaseModel:
        """The base that comes with the package."""
        return scene_base()

    @property
    def own_base(self) -> BaseModel | None:
        """See Task."""
        return self.embedded_base if self.settings.embedded else None

    def identity(self) -> dict[str, Any]:
        """See Task."""
        own = {"base_digest": self.embedded_base.digest} if self.settings.embedded else {}
        return {
            "task": "segmentation",
            **asdict(self.fitting),
            "images": list(ADAPTED) if self.settings.folder is None else "folder",
            "classes": self.settings.classes,
            "train_head": self.settings.train_head,
            **own,
        }

    def prepare(self) -> None:
        """See Task. Raises EvaluatorError, DatasetError or ConfigError."""
        # Trials are forked from this process, so what `fit` needs is imported once, here.
        importlib.import_module("transformers.models.segformer.modeling_segformer")
        importlib.import_module("lm_searcher.tools.evaluators.lora.loop")
        importlib.import_module("lm_searcher.tools.evaluators.lora.segmentation.mask_scores")
        if self.settings.embedded:
            self.embedded_base.make(self.settings.cache)
        else:
            check_weights(self.settings.base)
        _ = self._head_learns()

    @property
    def _form(self) -> Form:
        return form_of(self.settings.base)

    def _data(self) -> MaskedData:
        return _loaded(self.settings.folder, self._form, self.settings.classes)

    def _head_learns(self) -> bool:
        """Whether the head is trained. Raises ConfigError if it must be and is not to be."""
        classes, form = self._data().classes, self._form
        own = form.classes == classes
        if self.settings.train_head is None:
            return form.kind == "sam" or not own
        if not own and not self.settings.train_head:
            raise ConfigError(
                f"train_head = false, but the head of base '{self.settings.base}' is not for "
                f"{classes} classes and would stay random; accepted: true"
            )
        return self.settings.train_head

    def base(self) -> nn.Module:
        """See Task."""
        classes = self._data().classes
        if self.settings.embedded:
            model: Any = load_scene_base(self.embedded_base, self.settings.cache, classes)
        else:
            model = load_segmenter(self.settings.base, classes)
        if self.settings.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        base: nn.Module = model
        return base

    def fit(self, model: nn.Module, *, seed: int, report: Report) -> Metrics:
        """See Task."""
        from lm_searcher.tools.devices import trial_device
        from lm_searcher.tools.evaluators.lora import loop
        from lm_searcher.tools.evaluators.lora.segmentation.mask_scores import Masks

        head_params = 0
        if self._head_learns():
            head = head_of(model)
            head_params = sum(p.numel() for p in head.parameters() if not p.requires_grad)
            head.requires_grad_(True)
        device = trial_device()
        model.to(device)
        data, form, batch = self._data(), self._form, self.fitting.batch_size
        learn, valid, test = (
            Masks.of(part, data.classes, form.mean, form.std, device)
            for part in (data.train, data.valid, data.test)
        )
        with_s = self.metric == "val_s_measure"
        fitted = loop.train(
            model,
            self.fitting,
            examples=len(data.train),
            loss=lambda rows: learn.loss(model, rows),
            score=lambda: valid.score(model, batch, with_s)[self.metric.removeprefix("val_")],
            seed=seed,
            report=report,
        )
        scores = {"val": valid.score(model, batch, True), "test": test.score(model, batch, True)}
        return {
            **{f"{part}_{name}": v for part, found in scores.items() for name, v in found.items()},
            "train_loss": fitted.train_loss,
            "epochs": float(fitted.epochs),
            "head_params_m": head_params / 1e6,
        }


@cache
def _loaded(folder: Path | None, form: Form, classes: int | None) -> MaskedData:
    # Cached in the process, since the task is pickled to workers and must stay small.
    if folder is None:
        return scene_data(*ADAPTED, shifted=True)
    return load_masked(folder, form.side, form.channels, classes)
