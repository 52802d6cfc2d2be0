"""The `lm` ranker: a causal language model behind the Ranker protocol, in the paper's prompt."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lm_searcher.prompts import ncode
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.ncode import Codes, NCode, to_ncodes
from lm_searcher.spaces.trial import History
from lm_searcher.tools.protocols import Ranker, Ranking
from lm_searcher.tools.rankers.lm.likelihood import (
    Question,
    log_likelihoods,
    separately,
    shares,
)
from lm_searcher.tools.rankers.lm.load import LoadedModel
from lm_searcher.tools.rankers.lm.text import answer_ids, prompt_ids

Entries = list[tuple[NCode, float | None]]


@dataclass(frozen=True)
class LMSettings:
    """How a language model ranks."""

    mode: Literal["score", "generate"] = "score"
    candidates: int = 256
    """How many of the pool the model compares: the fallback ranker's first ones."""
    listed: int = 10
    """Candidates in one prompt; the paper's models are trained with 10."""
    history: int = 200
    """Most entries of the history in a prompt."""
    asks: int = 3
    """generate: how often the model may answer before the fallback ranker decides."""


class LMRanker:
    """Ranks by a causal language model; what it does not rank follows in the fallback's order.

    `score`: the log-likelihood of candidate and end mark after the paper's prompt. The candidates
    are dealt into prompts of `listed`, as in training; the best of each prompt meet in the next
    round, until one prompt is left. Rounds come before likelihoods in the ranking, likelihoods
    count relative to the prompt's other candidates.

    `generate`: the model is asked for one of the first `listed`, greedily, then with sampling;
    the answer comes first. Where no reply names a candidate the fallback's order stands, and
    `fallbacks` is counted up.

    Both shuffle by the seed, since a candidate's place in a prompt should not matter and does.
    Raises ConfigError if the model's context has no room for a single candidate.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        positions: int,
        fallback: Ranker,
        settings: LMSettings = LMSettings(),
    ) -> None:
        self.loaded, self.fallback, self.settings = loaded, fallback, settings
        self.asked = self.fallbacks = 0
        self.dropped = False
        """Whether history had to be left out for want of room."""
        self.shares = settings.mode == "generate" or shares(loaded.model)
        code = "0" * positions
        self._answer = len(answer_ids(loaded.tokenizer, code))
        for self._listed in range(settings.listed, 0, -1):
            if self._room([], [code] * self._listed) >= 0:
                break
        else:
            raise ConfigError(
                f"model '{loaded.name}': its context of {loaded.context} tokens has no room for "
                f"one candidate of {positions} decisions"
            )
        self._say()

    def _say(self) -> None:
        name = self.loaded.name
        if self.loaded.merges:
            warnings.warn(
                f"model '{name}': its tokenizer merges digits, so that a token is several "
                "decisions; a model fine-tuned with it still ranks, another may not",
                stacklevel=3,
            )
        if not self.shares:
            warnings.warn(
                f"model '{name}': its cache cannot be shared; each candidate takes a whole pass",
                stacklevel=3,
            )

    def rank(self, pool: Codes, history: History, *, seed: int) -> Ranking:
        """See Ranker."""
        order = self.fallback.rank(pool, history, seed=seed)
        rng = np.random.default_rng([seed, len(history), 0x11])
        entries = _entries(history)
        first = order[: self.settings.candidates]
        if self.settings.mode == "generate":
            first = first[: self._listed]
            chosen = self._generated(pool[first], entries, rng)
            return order if chosen is None else np.concatenate(
                [first[[chosen]], np.delete(order, chosen)])  # fmt: skip
        best = self._tournament(to_ncodes(pool[first]), entries, rng)
        return np.concatenate([first[best], order[len(first) :]])

    # -- scoring -------------------------------------------------------------------------------

    def _tournament(
        self, texts: list[NCode], entries: Entries, rng: np.random.Generator
    ) -> NDArray[np.intp]:
        """The order of the texts, the most promising first."""
        n = len(texts)
        rounds, scores = np.zeros(n, np.int64), np.zeros(n)
        playing = rng.permutation(n)
        entries = self._fitting(entries, [texts[i] for i in playing[: self._listed]])
        while True:
            groups = np.array_split(playing, -(-len(playing) // self._listed))
            found = self._likelihoods(entries, [[texts[i] for i in g] for g in groups])
            for group, logs in zip(groups, found, strict=True):
                scores[group] = logs - np.logaddexp.reduce(logs)
            playing = np.array([g[np.argmax(scores[g])] for g in groups])
            if len(groups) == 1:
                break
            rounds[playing] += 1
        shuffled = rng.permutation(n)
        return shuffled[np.lexsort((-scores[shuffled], -rounds[shuffled]))]

    def _likelihoods(
        self, entries: Entries, groups: Sequence[Sequence[NCode]]
    ) -> list[NDArray[np.float64]]:
        tokenizer = self.loaded.tokenizer
        questions = [
            Question(
                prompt_ids(tokenizer, self._prompt(entries, group)),
                [answer_ids(tokenizer, text) for text in group],
            )
            for group in groups
        ]
        score = log_likelihoods if self.shares else separately
        return [np.array(logs) for logs in score(self.loaded.model, questions)]

    # -- generating ----------------------------------------------------------------------------

    def _generated(self, codes: Codes, entries: Entries, rng: np.random.Generator) -> int | None:
        """The place of the candidate that the model names; None if it names none."""
        places = rng.permutation(len(codes))
        texts = [to_ncodes(codes)[i] for i in places]
        prompt = self._prompt(self._fitting(entries, texts), texts)
        ids = prompt_ids(self.loaded.tokenizer, prompt)
        for ask in range(self.settings.asks):
            self.asked += 1
            reply = self._reply(ids, None if ask == 0 else int(rng.integers(2**31)))
            if (place := ncode.parse(reply, texts)) is not None:
                return int(places[place])
        self.fallbacks += 1
        return None

    def _reply(self, prompt: list[int], seed: int | None) -> str:
        """What the model says: greedily, or at temperature 1 where there is a seed."""
        import torch

        model, tokenizer = self.loaded.model, self.loaded.tokenizer
        ids = torch.tensor([prompt], device=model.device)
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices=devices):
            if seed is not None:
                torch.manual_seed(seed)
            output = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self._answer + 4,
                do_sample=seed is not None,
                temperature=1.0 if seed is not None else None,
                top_k=0 if seed is not None else None,
                top_p=1.0 if seed is not None else None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.eos_token_id,
            )
        text: str = tokenizer.decode(output[0, len(prompt) :], skip_special_tokens=True)
        return text

    # -- prompts -------------------------------------------------------------------------------

    def _prompt(self, entries: Entries, texts: Sequence[NCode]) -> str:
        return ncode.render(entries, texts, limit=self.settings.history)

    def _room(self, entries: Entries, texts: Sequence[NCode]) -> int:
        """How many tokens the context has beyond this prompt and its answer."""
        prompt = prompt_ids(self.loaded.tokenizer, self._prompt(entries, texts))
        return self.loaded.context - len(prompt) - self._answer - 4

    def _fitting(self, entries: Entries, texts: Sequence[NCode]) -> Entries:
        """The best entries for which there is room, best first; the worst are left out."""
        ranked = sorted(entries, key=lambda e: -np.inf if e[1] is None else e[1], reverse=True)
        ranked = ranked[: self.settings.history]
        while ranked and (room := self._room(ranked, texts)) < 0:
            whole = self.loaded.context - room
            ranked = ranked[: min(len(ranked) - 1, len(ranked) * self.loaded.context // whole)]
            if not self.dropped:
                self.dropped = True
                warnings.warn(
                    f"model '{self.loaded.name}': a context of {self.loaded.context} tokens; "
                    "prompts leave out the worst of the history",
                    stacklevel=2,
                )
        return ranked


def _entries(history: History) -> Entries:
    """Code and score of each finished trial, None for a failure; pending ones are left out."""
    codes = to_ncodes(history.codes)
    known = zip(codes, history.scores, history.pending, strict=True)
    return [(c, None if np.isnan(s) else float(s)) for c, s, pending in known if not pending]
