"""Generate a reply with a causal language model."""

from __future__ import annotations

from typing import Any

import torch

from lm_searcher.tools.llm.huggingface import LoadedModel


def reply(
    loaded: LoadedModel, prompt: list[int], most: int, seed: int | None = None
) -> tuple[int, str]:
    """The number of tokens of the model's reply to `prompt` (at most `most`), and its text.

    Decoding is greedy without a seed, and samples at temperature 1 with one. The state of torch's
    generators does not change.
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
    tokens = output[0, len(prompt) :]
    return len(tokens), str(tokenizer.decode(tokens, skip_special_tokens=True))
