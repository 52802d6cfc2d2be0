"""From a query to a prompt that fits the model's context, and from its reply to a ranking."""

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
    """Writes the prompts that the settings ask for.

    `say` is told once that something did not fit. Raises RankerError for a context that has no
    room for a single candidate.
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
        """The prompt, and the candidates that it shows: the first ones, all of them if they fit.

        Trials are dropped from the worst up. Raises RankerError if that is not enough.
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
                candidates = candidates[: n // 2]  # they are in random order
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
        """Tokens at most, without the model's tokenizer: of a code each digit may be one."""
        return len(text.encode()) // (1 if self.settings.prompt == "ncode" else 2) + 8

    def shrink(self, prompt: str) -> None:
        """Take the context to be smaller, by a quarter of this prompt."""
        self.context = self.settings.room + self.count(prompt) * 3 // 4
        self.say("the model's context is smaller than [ranker] context, says the server")

    def parse(self, reply: Completion, shown: list[str]) -> list[int]:
        """The ranking that a reply gives of the candidates shown. Raises ReplyError."""
        if reply.problem:
            raise ReplyError(reply.problem)
        if self.settings.prompt == "semantic":
            return semantic.parse(reply.text, len(shown))
        index = ncode.parse(reply.text, shown)
        if index is None:
            raise ReplyError(ncode.COMPLAINT)
        return [index]
