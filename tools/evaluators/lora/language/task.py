"""A causal language model adapted to new text, scored by its perplexity on that text."""

from __future__ import annotations

import importlib
import math
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import ConfigError, EvaluatorError, unknown
from lm_searcher.spaces.lora.bases import PREFIX, language
from lm_searcher.tools.evaluators.lora.base import BaseModel
from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.evaluators.lora.language.help_base import CONTEXT, help_base
from lm_searcher.tools.evaluators.lora.language.text_blocks import (
    Encode,
    Text,
    folder_text,
    library_text,
    of_bytes,
    of_tokenizer,
)
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.protocols import Metrics, Report

if TYPE_CHECKING:
    from torch import nn

METRICS = ("val_perplexity", "val_loss")
EMBEDDED = Fit(epochs=2, batch_size=4, learning_rate=0.01)
PRETRAINED = Fit(epochs=3, batch_size=4, learning_rate=2e-4)
PRETRAINED_CONTEXT = 1024
"""Tokens in a block, for other bases than the embedded one."""


@dataclass(frozen=True)
class LanguageTask:
    """Metrics: val_loss in nats a token and val_perplexity, its exponential; test_loss and
    test_perplexity on text that the search does not use. A token of the embedded base is a byte.
    """

    settings: TaskSettings

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(unknown("metric of task 'language'", self.metric, METRICS))
        _ = self.fitting

    @property
    def metric(self) -> str:
        """See Task."""
        return self.settings.metric or METRICS[0]

    @property
    def direction(self) -> str:
        """See Task."""
        return "min"

    @property
    def context(self) -> int:
        """Tokens in a block."""
        default = CONTEXT if self.settings.embedded else PRETRAINED_CONTEXT
        return self.settings.context or default

    @property
    def fitting(self) -> Fit:
        """How an adapter is trained. Raises ConfigError."""
        return self.settings.fit(EMBEDDED if self.settings.embedded else PRETRAINED)

    @cached_property
    def embedded_base(self) -> BaseModel:
        """The base that comes with the package."""
        return help_base()

    @property
    def own_base(self) -> BaseModel | None:
        """See Task."""
        return self.embedded_base if self.settings.embedded else None

    def identity(self) -> dict[str, Any]:
        """See Task."""
        own = {"base_digest": self.embedded_base.digest} if self.settings.embedded else {}
        text = "library" if self.settings.folder is None else "folder"
        fit = asdict(self.fitting)
        return {"task": "language", **fit, "context": self.context, "text": text, **own}

    def prepare(self) -> None:
        """See Task. Raises EvaluatorError, DatasetError, or RankerError for a tokenizer."""
        # Trials are forked from this process, so what `fit` needs is imported once, here.
        importlib.import_module("lm_searcher.tools.evaluators.lora.loop")
        importlib.import_module("lm_searcher.tools.evaluators.lora.language.perplexity")
        folder = Path(self.settings.base)
        if self.settings.embedded:
            self.embedded_base.make(self.settings.cache)
        elif folder.is_dir() and not list(folder.glob("*.safetensors")):
            raise EvaluatorError(f"base '{folder}' has no weights; accepted: safetensors")
        self._text()

    def _text(self) -> Text:
        return _loaded(self.settings.base, self.settings.folder, self.context)

    def base(self) -> nn.Module:
        """See Task."""
        model: Any
        if self.settings.embedded:
            model = language()
            model.load_state_dict(self.embedded_base.load(self.settings.cache))
        else:
            import torch

            from lm_searcher.tools.llm.huggingface import load_base

            on_gpu = torch.cuda.is_available()
            model = load_base(self.settings.base, torch.bfloat16 if on_gpu else torch.float32)
        if self.settings.gradient_checkpointing:
            model.activation_checkpointing_enable()
        adapted: nn.Module = model
        return adapted

    def fit(self, model: nn.Module, *, seed: int, report: Report) -> Metrics:
        """See Task."""
        import torch

        from lm_searcher.tools.devices import trial_device
        from lm_searcher.tools.evaluators.lora import loop
        from lm_searcher.tools.evaluators.lora.language.perplexity import (
            mean_loss,
            next_token_loss,
            perplexity,
        )

        device = trial_device()
        model.to(device)
        text = self._text()
        learn, valid, test = (
            torch.tensor(part, device=device) for part in (text.train, text.valid, text.test)
        )

        def score() -> float:
            loss = mean_loss(model, valid, self.fitting.batch_size)
            return loss if self.metric == "val_loss" else perplexity(loss)

        fitted = loop.train(
            model,
            self.fitting,
            examples=len(learn),
            loss=lambda rows: next_token_loss(model, learn[rows]),
            score=score,
            seed=seed,
            report=report,
        )
        valid_loss = fitted.value if self.metric == "val_loss" else math.log(fitted.value)
        test_loss = mean_loss(model, test, self.fitting.batch_size)
        metrics = {
            "val_loss": valid_loss,
            "val_perplexity": perplexity(valid_loss),
            "test_loss": test_loss,
            "test_perplexity": perplexity(test_loss),
            "epochs": float(fitted.epochs),
        }
        return metrics | ({"train_loss": fitted.train_loss} if fitted.epochs else {})


@cache
def _loaded(base: str, folder: Path | None, context: int) -> Text:
    # Cached in the process, since the task is pickled to workers and must stay small.
    encode: Encode = of_bytes
    if not base.startswith(PREFIX):
        from lm_searcher.tools.llm.huggingface import load_tokenizer

        encode = of_tokenizer(load_tokenizer(base))
    return library_text(context, encode) if folder is None else folder_text(folder, context, encode)
