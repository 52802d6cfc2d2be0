"""The settings of the evaluator that trains a network."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import model_validator

from lm_searcher.spaces.settings import Count, SettingsModel
from lm_searcher.tools.data.texts import NAMES as TEXTS
from lm_searcher.tools.evaluators.training import recipe as keys


class TrainOptions(SettingsModel):
    """What is learned, and how a network is trained on it.

    A key of the recipe that is left out takes the data set's own value (recipe.py).
    """

    ROLE: ClassVar = "evaluator"

    dataset: str = "digits"
    """digits, cifar10, cifar100, folder, pydoc, text, or "module:function"."""
    folder: Path | None = None
    """Where CIFAR's python folder lies, or the images of dataset "folder"; for text a file, or a
    folder of files *.txt."""
    image_size: Count | None = None
    """Dataset "folder" only: the side in pixels to which images are resized and cropped."""
    cache: Path | None = None
    """Dataset "folder" only: where decoded images are kept; default: .images in the folder of
    runs."""
    epochs: keys.Epochs | None = None
    batch_size: keys.BatchSize | None = None
    learning_rate: keys.LearningRate | None = None
    weight_decay: keys.WeightDecay | None = None
    optimizer: keys.Optimizer | None = None
    steps: keys.Steps | None = None
    context: Count | None = None
    """Text only: bytes that the model sees at a time."""
    label_smoothing: keys.LabelSmoothing | None = None
    augment: keys.Augment | None = None
    cutout: keys.Cutout | None = None
    gradient_clip: keys.GradientClip | None = None
    auxiliary_weight: keys.AuxiliaryWeight | None = None
    warmup: keys.Warmup | None = None
    data_fraction: keys.DataFraction | None = None
    width: keys.Width | None = None
    compile: bool = False
    """Images only: run the training step by torch.compile, for long trainings."""
    cuda_graph: bool = False
    """Images only: record the training step as a CUDA graph."""
    latency: bool = False
    """Images only: measure `latency_ms`, one image through the trained model."""

    @model_validator(mode="after")
    def _images(self) -> Self:
        if self.dataset != "folder":
            if self.image_size is not None or self.cache is not None:
                raise ValueError('image_size and cache go with dataset = "folder" only')
        elif self.folder is None or self.image_size is None:
            raise ValueError(
                'dataset = "folder" needs folder = "PATH" and image_size = PIXELS, as 224'
            )
        return self

    @property
    def of_text(self) -> bool:
        """Whether a language model is trained."""
        return self.dataset in TEXTS
