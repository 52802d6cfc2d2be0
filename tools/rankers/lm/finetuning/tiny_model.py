"""A small language model with random weights: a tokenizer for digits, and a Llama.

With this model the whole path from training to serving runs without a download.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import ConfigError, unknown
from lm_searcher.spaces.ncode import DIGITS

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ message['content'] }}"
    "{% endif %}{% endfor %}"
)
"""The user's message unchanged; some servers offer chat completions only."""

CONTEXT = 8192
"""The most tokens of prompt and answer together."""

SIZES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "tiny": {"width": 96, "layers": 4, "heads": 4},
        "small": {"width": 384, "layers": 8, "heads": 6},
    }
)
"""About 0.5 and 14 million parameters."""


TAGS = [chr(0xE000 + i) for i in range(1, 32)]
"""Private characters that mark a digit's decision, from the second on; the tokenizer inserts them
and removes them again."""


def digit_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per digit, and one per score with its delimiters.

    Scores are rounded to hundredths. So a history entry of six decisions has seven tokens instead
    of fourteen. For the first 32 decisions the digits 0-9 are different tokens in each decision,
    so that a small model need not learn to count the decisions.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    scores = [f"|{n // 100}.{n % 100:02d}," for n in range(101)]
    marks = ["<pad>", "<end>", "<unk>"]
    words = [*marks, ";", *DIGITS, *scores, *(tag + d for tag in TAGS for d in DIGITS[:10])]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    # A small model has no use for the last two decimals. The tags are inserted from the last to
    # the first, because each pattern matches plain digits before the tagged one.
    rounded = normalizers.Replace(Regex(r"(?<=\|[01]\.\d\d)\d+(?=,)"), "")
    tagged = [
        normalizers.Replace(Regex(f"(?<=^[0-9a-z]{{{n}}}|[,;][0-9a-z]{{{n}}})(?=[0-9])"), tag)
        for n, tag in reversed(list(enumerate(TAGS, start=1)))
    ]
    core.normalizer = normalizers.Sequence([rounded, *tagged])
    tags = f"[{TAGS[0]}-{TAGS[-1]}]"
    core.pre_tokenizer = pre_tokenizers.Split(
        Regex(rf"\|[01]\.\d\d,|{tags}[0-9]|."), behavior="isolated"
    )
    core.decoder = decoders.Sequence([decoders.Replace(Regex(tags), ""), decoders.Fuse()])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unk>",
        model_max_length=CONTEXT,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def from_scratch(
    size: str, seed: int = 0, **changed: int
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A model of one of SIZES with random weights of `seed`, and its tokenizer.

    `changed` overrides width, layers and heads. Raises ConfigError.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if size not in SIZES:
        raise ConfigError(unknown("from-scratch preset", size, SIZES))
    shape = {**SIZES[size], **changed}
    tokenizer = digit_tokenizer()
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": shape["width"],
        "intermediate_size": 8 * shape["width"] // 3 // 8 * 8,
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**settings))
    return model, tokenizer
