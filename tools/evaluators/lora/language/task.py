"""A causal language model adapted to new text, scored by its perplexity there."""

from __future__ import annotations

import hashlib
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
from lm_searcher.tools.evaluators.lora.language.text_blocks import (
    Encode,
    Text,
    blocks,
    folder_text,
    library_text,
    of_bytes,
    of_tokenizer,
    topics,
)
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.protocols import Metrics, Report

if TYPE_CHECKING:
    from torch import Tensor, nn

METRICS = ("val_perplexity", "val_loss")
EMBEDDED = Fit(epochs=2, batch_size=4, learning_rate=0.01)
PRETRAINED = Fit(epochs=3, batch_size=4, learning_rate=2e-4)
CONTEXT = {True: 128, False: 1024}
"""Tokens in a block: of the embedded base, and of others."""

BASE_FIT = Fit(epochs=1, batch_size=8, learning_rate=4e-3, weight_decay=0.01)


@dataclass(frozen=True)
class LanguageTask:
    """Loss is in nats a token, perplexity its exponential; both also of text that is held out
    from the search (test_loss, test_perplexity). A token of the embedded base is a byte.
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
        return self.settings.context or CONTEXT[self.settings.embedded]

    @property
    def fitting(self) -> Fit:
        """How an adapter is trained. Raises ConfigError."""
        return self.settings.fit(EMBEDDED if self.settings.embedded else PRETRAINED)

    @cached_property
    def embedded_base(self) -> BaseModel:
        """The base that comes with the package: trained on Python's help texts."""
        digest = hashlib.sha256(topics().encode()).hexdigest()
        recipe = {"text": digest, "seed": 0, "context": 128, **asdict(BASE_FIT)}
        first = "lm_searcher.tools.evaluators.lora.language:train_base"
        return BaseModel("language", f"{__name__}:train_base", recipe, recorded_as=first)

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

        from lm_searcher.tools.evaluators.lora import loop
        from lm_searcher.tools.evaluators.lora.language.perplexity import (
            mean_loss,
            next_token_loss,
            perplexity,
        )

        device = loop.device()
        model.to(device=device)
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


def train_base(text: str, seed: int, context: int, **fit: Any) -> dict[str, Tensor]:
    """The embedded base's weights. `text` is the digest of what it learns, for its recipe."""
    import torch

    from lm_searcher.tools.evaluators.lora import loop
    from lm_searcher.tools.evaluators.lora.language.perplexity import next_token_loss

    torch.manual_seed(seed)
    model = language()
    learn = torch.tensor(blocks(of_bytes(topics()), context))
    loop.train(
        model,
        Fit(**fit),
        examples=len(learn),
        loss=lambda rows: next_token_loss(model, learn[rows]),
        score=lambda: 0.0,
        seed=seed,
        report=lambda step, value: False,
    )
    return model.state_dict()


@cache
def _loaded(base: str, folder: Path | None, context: int) -> Text:
    # In the process, not in the task: that is pickled to workers, and is to stay small.
    encode: Encode = of_bytes
    if not base.startswith(PREFIX):
        from lm_searcher.tools.llm.huggingface import load_tokenizer

        encode = of_tokenizer(load_tokenizer(base))
    return library_text(context, encode) if folder is None else folder_text(folder, context, encode)
