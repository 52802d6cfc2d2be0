"""The `lm` ranker: a causal language model in this process, with the paper's prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.prompts import ncode
from lm_searcher.prompts.budget import PromptTooLong, fit
from lm_searcher.prompts.history import LIMIT
from lm_searcher.spaces.errors import RankerError
from lm_searcher.spaces.ncode import NCode
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.llm.huggingface import LoadedModel, load
from lm_searcher.tools.protocols import Objective, Ranker
from lm_searcher.tools.rankers import make_fallback
from lm_searcher.tools.rankers.lm import likelihood
from lm_searcher.tools.rankers.lm.generate import reply
from lm_searcher.tools.rankers.lm.settings import LMSettings
from lm_searcher.tools.rankers.lm.text import answer_ids, merges_digits, prompt_ids
from lm_searcher.tools.rankers.shortlisting import NoAnswer, ShortlistQuery, ShortlistRanker

ASKS = 3
"""In mode `generate`: replies before the fallback ranker decides."""
SPARE = 4
"""Tokens that a reply may have besides a candidate and the end mark."""


class LMRanker(ShortlistRanker):
    """Ranks by a causal language model; other candidates follow in the fallback's order.

    Mode `score` ranks by the log-likelihood of a candidate and the end mark. The candidates are
    divided into prompts of `listed`, as in training; the best of each prompt meet in the next
    round, until one prompt is left. The ranking is by the number of rounds, then by likelihood
    relative to the other candidates of the prompt. Mode `generate` takes the model's reply as the
    choice: a greedy reply, then sampled ones. If none is a candidate, the fallback ranker decides.

    The model is loaded at the first use. Raises RankerError for a model that cannot be loaded, or
    whose context has no room for a single candidate.
    """

    def __init__(
        self, settings: LMSettings, space: SearchSpace, objective: Objective, fallback: Ranker
    ) -> None:
        super().__init__(fallback, max(settings.compared, objective.picks))
        self.settings, self.picks = settings, objective.picks
        self.positions = len(space.positions)

    @classmethod
    def for_space(
        cls, what: str, space: SearchSpace, given: Mapping[str, Any], objective: Objective
    ) -> LMRanker:
        """The ranker of ``PATH-OR-ID[+ADAPTER]`` and keys of [ranker]. Raises ConfigError."""
        settings = LMSettings.of(what, given)
        return cls(settings, space, objective, make_fallback(settings.fallback, space))

    def prepare(self) -> None:
        """See AskingRanker: loads the model, and adds notes about its limitations."""
        name = self.settings.model
        if merges_digits(self._loaded.tokenizer):
            self.say_once(
                f"ranker lm: the tokenizer of '{name}' merges digits, so that a token is several "
                "decisions; only a model that was fine-tuned so ranks well"
            )
        if self.settings.mode == "score" and not self._shares:
            self.say_once(
                f"ranker lm: the cache of '{name}' cannot be shared; every candidate takes a pass "
                "over the whole prompt"
            )
        assert self._listed  # raises RankerError if no candidate fits

    def cancel(self) -> None:
        """See AskingRanker: a decision waits for no server, so it is finished."""

    def choose(self, query: ShortlistQuery) -> list[int]:
        """See ShortlistRanker."""
        if self.settings.mode == "score":
            return [int(i) for i in self._tournament(query)]
        chosen: list[int] = []
        while len(chosen) < min(self.picks, len(query.candidates)):
            left = [i for i in range(len(query.candidates)) if i not in chosen]
            try:
                chosen.append(left[self._generated(query, left[: self._listed], len(chosen))])
            except NoAnswer:
                if not chosen:
                    raise
                break
        return chosen

    # -- the model -----------------------------------------------------------------------------

    @cached_property
    def _loaded(self) -> LoadedModel:
        return load(self.settings.model, self.settings.adapter)

    @cached_property
    def _shares(self) -> bool:
        return likelihood.shares(self._loaded.model)

    @cached_property
    def _context(self) -> int:
        return min(self._loaded.context, self.settings.context or self._loaded.context)

    @cached_property
    def _answer(self) -> int:
        """The number of tokens of an answer, with the end mark."""
        return len(answer_ids(self._loaded.tokenizer, "0" * self.positions))

    @cached_property
    def _listed(self) -> int:
        """Candidates in a prompt, at most `listed`. Raises RankerError if not even one fits."""
        code = "0" * self.positions
        for count in range(self.settings.listed, 0, -1):
            if self._tokens(ncode.render([], [code] * count)) <= self._room:
                return count
        raise RankerError(
            f"model '{self._loaded.name}': its context of {self._context:,} tokens has no room "
            f"for one candidate of {self.positions} decisions"
        )

    @property
    def _room(self) -> int:
        return self._context - self._answer - SPARE

    def _tokens(self, prompt: str) -> int:
        return len(prompt_ids(self._loaded.tokenizer, prompt))

    def _prompt(self, query: ShortlistQuery, texts: Sequence[NCode], most: int = LIMIT) -> str:
        """A prompt with the best trials that fit, at most `most`."""
        entries = min(len(query.history), most)
        try:
            prompt, shown = fit(
                lambda k: ncode.render(query.history, texts, limit=k),
                entries,
                self._tokens,
                self._room,
            )
        except PromptTooLong as error:
            raise NoAnswer(str(error)) from None
        if shown < entries:
            self.say_once(
                f"ranker lm: {self._context:,} tokens of context have no room for the whole "
                "history; prompts leave out the worst trials"
            )
        return prompt

    # -- choosing ------------------------------------------------------------------------------

    def _tournament(self, query: ShortlistQuery) -> NDArray[np.intp]:
        """The order of the candidates, best first."""
        texts = query.candidates
        rounds, scores = np.zeros(len(texts), np.int64), np.zeros(len(texts))
        playing = np.arange(len(texts))
        while True:
            groups = np.array_split(playing, -(-len(playing) // self._listed))
            found = self._likelihoods(query, [[texts[i] for i in g] for g in groups])
            for group, logs in zip(groups, found, strict=True):
                # The log-probability of each candidate, given that one of the group is named.
                scores[group] = logs - np.logaddexp.reduce(logs)
            playing = np.array([g[np.argmax(scores[g])] for g in groups])
            if len(groups) == 1 or self._listed == 1:
                break
            rounds[playing] += 1
        return np.lexsort((-scores, -rounds))

    def _likelihoods(
        self, query: ShortlistQuery, groups: Sequence[Sequence[NCode]]
    ) -> list[NDArray[np.float64]]:
        """The log-likelihood of each candidate in the prompt of its group."""
        tokenizer = self._loaded.tokenizer
        prompts = [prompt_ids(tokenizer, self._prompt(query, group)) for group in groups]
        queries = [
            likelihood.PromptAnswers(prompt, [answer_ids(tokenizer, text) for text in group])
            for prompt, group in zip(prompts, groups, strict=True)
        ]
        self.usage += Usage(asks=len(groups), prompt_tokens=sum(map(len, prompts)))
        score = likelihood.log_likelihoods if self._shares else likelihood.separately
        return [np.array(logs) for logs in score(self._loaded.model, queries)]

    def _generated(self, query: ShortlistQuery, places: Sequence[int], picked: int) -> int:
        """The index within `places` of the candidate that the model names. Raises NoAnswer."""
        texts = [query.candidates[i] for i in places]
        prompt = prompt_ids(self._loaded.tokenizer, self._prompt(query, texts))
        text = ""
        for ask in range(ASKS):
            seed = query.seed * 1009 + picked * ASKS + ask
            tokens, text = reply(self._loaded, prompt, self._answer + SPARE, seed if ask else None)
            self.usage += Usage(
                asks=1, reasks=int(ask > 0), prompt_tokens=len(prompt), completion_tokens=tokens
            )
            if (place := ncode.parse(text, texts)) is not None:
                return place
        raise NoAnswer(f"{ASKS} replies that are no candidate, the last: {text[:60]!r}")
