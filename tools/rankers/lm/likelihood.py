"""Log-likelihoods of many answers to prompts with a common prefix, without repeated tokens.

The common prefix is read once, and its key-value cache is kept. The remaining tokens form a tree
(a trie): the rests of the prompts are its branches, and the answers branch off them. A chunk of
the tree is passed as one sequence, in which each token attends to the prefix and to its own
ancestors, at the position that it would have in a separate pass. So the results are those of
separate passes, while memory holds one copy of the history for any number of candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOGITS = 32_000_000
"""About the most logits of one pass."""
NODES = 1024
"""The most tree tokens of one pass; the cost of attention among them is quadratic."""


@dataclass(frozen=True)
class PromptAnswers:
    """A prompt and its possible answers, as tokens."""

    prompt: Sequence[int]
    answers: Sequence[Sequence[int]]


def log_likelihoods(model: PreTrainedModel, queries: Sequence[PromptAnswers]) -> list[list[float]]:
    """The log-likelihood of each answer of each query, in nats, with its last token (end mark).

    Every prompt and every answer has at least one token. The results equal those of separate
    passes up to rounding. Models with another kind of cache get separate passes.
    """
    with torch.inference_mode():
        prefix = common([q.prompt for q in queries])
        cache = _read(model, queries[0].prompt[:prefix])
        if cache is None:
            return separately(model, queries)
        result = [[0.0] * len(q.answers) for q in queries]
        for tree in _trees(queries, prefix, min(NODES, LOGITS // _vocabulary(model))):
            logs = _log_probabilities(model, tree, cache, prefix)
            for (query, answer), steps in tree.paths.items():
                at, token = zip(*steps, strict=True)
                result[query][answer] = float(logs[list(at), list(token)].sum())
    return result


def shares(model: PreTrainedModel) -> bool:
    """Whether the shared cache gives the results of separate passes.

    Some architectures ignore the given positions; for these it does not.
    """
    words = _vocabulary(model)
    start = [i * 7 % words for i in range(1, 12)]
    answers = [[2 % words, 3 % words], [2 % words, 5 % words], [4 % words, 1 % words]]
    queries = [
        PromptAnswers([*start, 6 % words], answers),
        PromptAnswers([*start, 8 % words], answers),
    ]
    try:
        found = np.array(log_likelihoods(model, queries))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.25  # bfloat16 has three digits
    return bool(np.allclose(found, separately(model, queries), rtol=0.01, atol=tolerance))


def separately(model: PreTrainedModel, queries: Sequence[PromptAnswers]) -> list[list[float]]:
    """As `log_likelihoods`, by one pass per answer: slow, but correct for any model."""
    result = []
    with torch.inference_mode():
        for query in queries:
            scores = []
            for answer in query.answers:
                ids = torch.tensor([[*query.prompt, *answer[:-1]]], device=model.device)
                logits = model(input_ids=ids, use_cache=False).logits[0, -len(answer) :]
                logs = logits.float().log_softmax(-1)
                scores.append(float(logs[range(len(answer)), list(answer)].sum()))
            result.append(scores)
    return result


def _vocabulary(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().vocab_size)


def common(prompts: Sequence[Sequence[int]]) -> int:
    """The length of the common prefix; each prompt has at least one more token."""
    first, *others = prompts
    count = min(len(prompt) for prompt in prompts) - 1
    for other in others:
        count = next((i for i in range(count) if first[i] != other[i]), count)
    return count


def _read(model: PreTrainedModel, tokens: Sequence[int]) -> Any:
    """The key-value cache after `tokens`; None if the model has another kind of cache.

    Other kinds are sliding windows, recurrent states, and attention other than torch's.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache(config=model.config)
    plain = all(type(layer) is DynamicLayer for layer in cache.layers)
    if not plain or model.config._attn_implementation != "sdpa":
        return None
    if tokens:
        ids = torch.tensor([list(tokens)], device=model.device)
        model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
    return cache if cache.get_seq_length() == len(tokens) else None


@dataclass
class _Tree:
    """Tokens with their parents; -1 stands for the end of the prefix. Parents come first."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    paths: dict[tuple[int, int], list[tuple[int, int]]] = field(default_factory=dict)
    """(query, answer) -> for each token of the answer: the node that predicts it, and the token."""
    _places: dict[tuple[int, int], int] = field(default_factory=dict)

    def grow(self, at: int, tokens: Sequence[int]) -> list[int]:
        """The nodes of a chain of `tokens` below `at`; missing nodes are added."""
        path = []
        for token in tokens:
            if (at, token) not in self._places:
                self._places[at, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(at)
            at = self._places[at, token]
            path.append(at)
        return path

    def ancestry(self) -> tuple[np.ndarray[Any, Any], list[int]]:
        """The mask [n, n] of the ancestors that each token attends to, and each token's depth."""
        n = len(self.tokens)
        depth: list[int] = []
        seen = np.zeros((n, n), bool)
        for i, parent in enumerate(self.parents):
            if parent >= 0:
                seen[i] = seen[parent]
            seen[i, i] = True
            depth.append(depth[parent] + 1 if parent >= 0 else 0)
        return seen, depth


def _trees(queries: Sequence[PromptAnswers], prefix: int, most: int) -> Iterator[_Tree]:
    """All answers, in trees of about `most` tokens."""
    tree = _Tree()
    for i, query in enumerate(queries):
        for j, answer in enumerate(query.answers):
            end = tree.grow(-1, query.prompt[prefix:])[-1]
            # Each output predicts the next token, so an answer is read from the node before.
            at = [end, *tree.grow(end, answer[:-1])]
            tree.paths[i, j] = list(zip(at, answer, strict=True))
            if len(tree.tokens) >= most:
                yield tree
                tree = _Tree()
    if tree.paths:
        yield tree


def _log_probabilities(model: PreTrainedModel, tree: _Tree, cache: Any, prefix: int) -> Tensor:
    """Log-probabilities of the next token after each tree token, [n, vocabulary].

    The cache is cropped to its former length.
    """
    seen, depth = tree.ancestry()
    # [n, prefix + n]: all of the prefix, then the ancestors.
    mask = np.concatenate([np.ones((len(seen), prefix), bool), seen], axis=1)
    device = model.device
    output = model(
        input_ids=torch.tensor([tree.tokens], device=device),
        position_ids=torch.tensor([depth], device=device) + prefix,
        attention_mask=torch.from_numpy(mask)[None, None].to(device),
        past_key_values=cache,
        use_cache=True,
    )
    cache.crop(-len(seen))
    logs: Tensor = output.logits[0].float().log_softmax(-1)
    return logs
