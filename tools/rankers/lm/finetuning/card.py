"""The model card of a trained language model: nothing in it but what was run and measured."""

from __future__ import annotations

import platform
from importlib.metadata import version

from lm_searcher.tools.rankers.lm.finetuning.measure import Figures
from lm_searcher.tools.rankers.lm.finetuning.model import Trained
from lm_searcher.tools.rankers.lm.finetuning.progress import Spent
from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig

PACKAGES = ("lm-searcher", "torch", "transformers", "peft", "accelerate", "numpy")


def model_card(
    config: LMTrainConfig,
    trained: Trained,
    command: str,
    data: str,
    spent: Spent,
    figures: Figures,
) -> str:
    """Markdown, with the front matter that the Hugging Face hub reads."""
    kind = "peft" if config.adapter == "lora" else "transformers"
    base = f"base_model: {config.base}\n" if config.base else ""
    learnt, parameters = trained.parameters
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    facts = {
        "Trained on": f"{data}: {config.samples:,} histories with {config.questions} set(s) of "
        f"{config.candidates} candidates each",
        "Begins from": config.base or f"random weights ({config.from_scratch})",
        "Parameters": f"{parameters:,}, of which {learnt:,} are trained",
        "Command": f"`{command or 'train() from Python'}`",
        "Settings": ", ".join(f"{name} {value}" for name, value in config.fixed.items()),
        "Seed": str(config.seed),
        "Hardware": "; then ".join(spent.machines),
        "Spent": f"{spent.seconds / 3600:.2f} hours, {spent.step:,} steps",
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
{figures.samples} samples whose subspaces are not in the training data, one question each:

| answer loss, nats | best picked | others beaten (0.5 is chance) | regret |
|---|---|---|---|
| {figures.loss:.3f} | {figures.accuracy:.3f} | {figures.percentile:.3f} | {figures.regret:.3f} |

Regret is (best - picked) / (best - median of the candidates).
"""
