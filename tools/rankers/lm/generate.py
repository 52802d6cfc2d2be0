"""A reply of a causal language model."""

from __future__ import annotations

from typing import Any

import torch

from lm_searcher.tools.llm.huggingface import LoadedModel


def reply(
    loaded: LoadedModel, prompt: list[int], most: int, seed: int | None = None
) -> tuple[int, str]:
    """What the model says after `prompt`, in how many tokens; `most` at most.

    The likeliest token each time, or draws at temperature 1 where there is a seed. Torch's own
    generators are left as they were.
    """
    model: Any = loaded.model  # generate() is untyped
    tokenizer = loaded.tokenizer
    ids = torch.tensor([prompt], device=model.device)
    devices = [model.device] if model.device.type == "cuda" else []
    sampling = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} if seed is not None else {}
    with torch.inference_mode(), torch.random.fork_rng(devices=devices):
        if seed is not None:
            torch.manual_seed(seed)
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most,
            do_sample=seed is not None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
            **sampling,
        )
    said = output[0, len(prompt) :]
    return len(said), str(tokenizer.decode(said, skip_special_tokens=True))
