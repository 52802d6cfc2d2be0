"""The `lm` ranker: a causal language model in this process, in the paper's prompt."""

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
from lm_searcher.tools.llm.huggingface import LoadedModel, load
from lm_searcher.tools.protocols import Objective, Ranker
from lm_searcher.tools.rankers import make_fallback
from lm_searcher.tools.rankers.lm import likelihood
from lm_searcher.tools.rankers.lm.generate import reply
from lm_searcher.tools.rankers.lm.settings import LMSettings
from lm_searcher.tools.rankers.lm.text import answer_ids, merges_digits, prompt_ids
from lm_searcher.tools.rankers.shortlisting import NoAnswer, ShortlistQuery, ShortlistRanker

ASKS = 3
"""generate: replies until the fallback ranker decides."""
SPARE = 4
"""Tokens that a reply may have beyond a candidate and the end mark."""


class LMRanker(ShortlistRanker):
    """Ranks by a causal language model; what it does not rank follows in the fallback's order.

    `score` ranks by the log-likelihood of candidate and end mark. The candidates are dealt into
    prompts of `listed`, as in training; the best of each prompt meet in the next round, until
    one prompt is left. Rounds come first in the ranking, then likelihoods, relative to those of
    the prompt's other candidates. `generate` takes a reply as the choice: a greedy one, then
    sampled ones; where none of them is a candidate the fallback ranker decides.

    The model is loaded at the first use. Raises RankerError for one that cannot be loaded, or
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
        """Of ``PATH-OR-ID[+ADAPTER]`` and keys of [ranker]. Raises ConfigError."""
        settings = LMSettings.of(what, given)
        return cls(settings, space, objective, make_fallback(settings.fallback, space))

    def prepare(self) -> None:
        """See AskingRanker: loads the model and says what is peculiar about it."""
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
        assert self._listed

    def cancel(self) -> None:
        """See AskingRanker: a decision here waits for nobody, and is finished."""

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
        """Tokens of an answer, the end mark among them."""
        return len(answer_ids(self._loaded.tokenizer, "0" * self.positions))

    @cached_property
    def _listed(self) -> int:
        """Candidates in one prompt: as many as are wanted and fit. Raises RankerError."""
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
        """With as much history as fits, `most` entries at most, the worst left out first."""
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
        """The order of the candidates, the most promising first."""
        texts = query.candidates
        rounds, scores = np.zeros(len(texts), np.int64), np.zeros(len(texts))
        playing = np.arange(len(texts))
        while True:
            groups = np.array_split(playing, -(-len(playing) // self._listed))
            found = self._likelihoods(query, [[texts[i] for i in g] for g in groups])
            for group, logs in zip(groups, found, strict=True):
                scores[group] = logs - np.logaddexp.reduce(logs)
            playing = np.array([g[np.argmax(scores[g])] for g in groups])
            if len(groups) == 1 or self._listed == 1:
                break
            rounds[playing] += 1
        return np.lexsort((-scores, -rounds))

    def _likelihoods(
        self, query: ShortlistQuery, groups: Sequence[Sequence[NCode]]
    ) -> list[NDArray[np.float64]]:
        tokenizer = self._loaded.tokenizer
        prompts = [prompt_ids(tokenizer, self._prompt(query, group)) for group in groups]
        queries = [
            likelihood.PromptAnswers(prompt, [answer_ids(tokenizer, text) for text in group])
            for prompt, group in zip(prompts, groups, strict=True)
        ]
        self.add(asks=len(groups), prompt_tokens=sum(map(len, prompts)))
        score = likelihood.log_likelihoods if self._shares else likelihood.separately
        return [np.array(logs) for logs in score(self._loaded.model, queries)]

    def _generated(self, query: ShortlistQuery, places: Sequence[int], picked: int) -> int:
        """The place among `places` of what the model names. Raises NoAnswer."""
        texts = [query.candidates[i] for i in places]
        prompt = prompt_ids(self._loaded.tokenizer, self._prompt(query, texts))
        said = ""
        for ask in range(ASKS):
            seed = query.seed * 1009 + picked * ASKS + ask
            tokens, said = reply(self._loaded, prompt, self._answer + SPARE, seed if ask else None)
            self.add(
                asks=1, reasks=int(ask > 0), prompt_tokens=len(prompt), completion_tokens=tokens
            )
            if (place := ncode.parse(said, texts)) is not None:
                return place
        raise NoAnswer(f"{ASKS} replies that are no candidate, the last: {said[:60]!r}")
