"""Prompts that fit the model's context, and rankings from the model's replies."""

from __future__ import annotations

from collections.abc import Callable

from lm_searcher.prompts import ncode, semantic
from lm_searcher.prompts.budget import PromptTooLong, fit
from lm_searcher.prompts.history import LIMIT
from lm_searcher.prompts.reply import ReplyError
from lm_searcher.spaces.errors import RankerError
from lm_searcher.spaces.ncode import DIGITS
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.llm.completion import Completion
from lm_searcher.tools.llm.settings import EndpointSettings
from lm_searcher.tools.protocols import Objective
from lm_searcher.tools.rankers.shortlisting import ShortlistQuery


class Prompter:
    """Writes prompts of the form that the settings name, and parses the replies.

    `say` receives a note if trials or candidates do not fit. Raises RankerError for a context
    without room for a single candidate.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        space: SearchSpace,
        objective: Objective,
        say: Callable[[str], None],
    ) -> None:
        self.settings, self.picks, self.say = settings, objective.picks, say
        positions = [(p.name, p.choices) for p in space.positions]
        self.task = semantic.Task(
            space.name,
            objective.metric,
            objective.direction,
            positions,
            objective.parts,
            objective.constraints,
        )
        self.context = settings.context
        self.prompt(ShortlistQuery([DIGITS[0] * len(positions)], [], [], 0))

    def prompt(self, query: ShortlistQuery) -> tuple[str, list[str]]:
        """The prompt, and the candidates in it: all of them, or the first ones that fit.

        The worst trials are dropped first, then candidates. Raises RankerError if two candidates
        without any trial do not fit.
        """
        room, entries = self.context - self.settings.room, min(len(query.history), LIMIT)
        candidates = query.candidates
        while True:
            try:
                render = self._rendering(query, candidates)
                prompt, kept = fit(render, entries, self.count, room)
                break
            except PromptTooLong as error:
                n = len(candidates)
                if n <= 2:
                    raise RankerError(
                        f"[ranker] context = {self.context} is too small for {n} "
                        f"candidate{'s' * (n > 1)} and a reply of {self.settings.room} tokens: "
                        f"the prompt may take {error}"
                    ) from None
                candidates = candidates[: n // 2]  # the candidates are in random order
        if kept < entries or len(candidates) < len(query.candidates):
            self.say(
                f"the model's context of {self.context} tokens takes {kept} of {entries} trials "
                f"and {len(candidates)} candidates: the worst trials are not shown from here on"
            )
        return prompt, candidates

    def _rendering(self, query: ShortlistQuery, candidates: list[str]) -> Callable[[int], str]:
        if self.settings.prompt == "ncode":
            return lambda k: ncode.render(query.history, candidates, limit=k)
        return lambda k: semantic.render(
            self.task,
            query.history,
            candidates,
            picks=self.picks,
            pending=query.pending,
            limit=k,
        )

    def count(self, text: str) -> int:
        """An upper estimate of the tokens without the model's tokenizer.

        In the paper's prompt each digit of a code may be a token; other text has at least two
        bytes a token.
        """
        return len(text.encode()) // (1 if self.settings.prompt == "ncode" else 2) + 8

    def shrink(self, prompt: str) -> None:
        """Assume a context for a reply and three quarters of this prompt, after an overflow."""
        self.context = self.settings.room + self.count(prompt) * 3 // 4
        self.say("the model's context is smaller than [ranker] context, says the server")

    def parse(self, reply: Completion, shown: list[str]) -> list[int]:
        """The indices of `shown` that a reply names, best first. Raises ReplyError."""
        if reply.problem:
            raise ReplyError(reply.problem)
        if self.settings.prompt == "semantic":
            return semantic.parse(reply.text, len(shown))
        index = ncode.parse(reply.text, shown)
        if index is None:
            raise ReplyError(ncode.COMPLAINT)
        return [index]
