"""The model card of a trained language model: only facts that were recorded or measured."""

from __future__ import annotations

import platform
from importlib.metadata import version

from lm_searcher.tools.rankers.lm.finetuning.measure import PickMetrics
from lm_searcher.tools.rankers.lm.finetuning.model import TrainableModel
from lm_searcher.tools.rankers.lm.finetuning.progress import TrainingState
from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig

PACKAGES = ("lm-searcher", "torch", "transformers", "peft", "accelerate", "numpy")


def model_card(
    config: LMTrainConfig,
    trained: TrainableModel,
    command: str,
    data: str,
    state: TrainingState,
    metrics: PickMetrics,
) -> str:
    """The card in Markdown, with the front matter that the Hugging Face hub reads."""
    kind = "peft" if config.adapter == "lora" else "transformers"
    base = f"base_model: {config.base}\n" if config.base else ""
    trainable, parameters = trained.parameters
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    facts = {
        "Trained on": f"{data}: {config.samples:,} histories with {config.questions} set(s) of "
        f"{config.candidates} candidates each",
        "Begins from": config.base or f"random weights ({config.from_scratch})",
        "Parameters": f"{parameters:,}, of which {trainable:,} are trained",
        "Command": f"`{command or 'finetune() from Python'}`",
        "Settings": ", ".join(f"{name} {value}" for name, value in config.fixed.items()),
        "Seed": str(config.seed),
        "Hardware": "; then ".join(state.machines),
        "Spent": f"{state.seconds / 3600:.2f} hours, {state.step:,} steps",
        "Versions": f"Python {platform.python_version()}, {packages}",
    }
    lines = "\n".join(f"- **{name}** {fact}" for name, fact in facts.items())
    return f"""---
library_name: {kind}
{base}tags: [neural-architecture-search, ranking]
---
# A ranking language model of lm-searcher

Reads `code|score,...,cand;cand;...;` and answers with the most promising candidate.
Use: `--ranker lm:PATH` with this folder.

{lines}

## Held-out samples
{metrics.samples} samples whose subspaces are not in the training data, one candidate set each:

| answer loss, nats | best picked | others beaten (0.5 is chance) | regret |
|---|---|---|---|
| {metrics.loss:.3f} | {metrics.accuracy:.3f} | {metrics.percentile:.3f} | {metrics.regret:.3f} |

Regret is (best - picked) / (best - median of the candidates).
"""
