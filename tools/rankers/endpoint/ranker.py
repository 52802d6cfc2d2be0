"""The ranker that asks an OpenAI-compatible server (chat.completions)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lm_searcher.prompts.reply import ReplyError
from lm_searcher.prompts.semantic import schema
from lm_searcher.spaces.errors import RankerError, unknown
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.llm.client import OVERFLOW, Client, Refused, Unreachable
from lm_searcher.tools.llm.completion import Completion
from lm_searcher.tools.llm.retry import Unanswered
from lm_searcher.tools.llm.settings import EndpointSettings
from lm_searcher.tools.protocols import Objective, Ranker
from lm_searcher.tools.rankers import make_fallback
from lm_searcher.tools.rankers.endpoint.prompter import Prompter
from lm_searcher.tools.rankers.shortlisting import NoAnswer, ShortlistQuery, ShortlistRanker

REASKS = 2
"""How often a wrong reply is asked for again."""
QUOTED = 400
"""Characters of a wrong reply that the model is shown again."""

OPTIONAL = ("response_format", "temperature", "seed", "max_tokens")
"""What a request has beyond model and messages; a server may refuse any of it."""

Message = dict[str, str]


class EndpointRanker(ShortlistRanker):
    """Lets a served language model choose from a short list.

    What the server refuses of a request is left out from then on. After a decision without any
    answer the next one tries once only, so that a dead server does not hold the search up.
    Token counts are the server's, or estimated from lengths where it gives none.
    """

    def __init__(
        self, settings: EndpointSettings, space: SearchSpace, objective: Objective, fallback: Ranker
    ) -> None:
        super().__init__(fallback, max(settings.shown, objective.picks))
        self.settings, self.picks = settings, objective.picks
        self.prompter = Prompter(settings, space, objective, self.say_once)
        self.client = Client(settings)
        self._optional = list(OPTIONAL)
        self._down = False
        self._probe = Usage()

    @classmethod
    def for_space(
        cls, what: str, space: SearchSpace, given: Mapping[str, Any], objective: Objective
    ) -> EndpointRanker:
        """Of ``MODEL@URL`` and keys of [ranker]. Raises ConfigError, RankerError."""
        settings = EndpointSettings.of(what, given)
        settings.key()  # whether there is one, before anything heavy is loaded
        return cls(settings, space, objective, make_fallback(settings.fallback, space))

    def prepare(self) -> None:
        """See AskingRanker: asks for one token, the only thing that every server can do."""
        self.client.reset()
        self._down = False
        message = {"role": "user", "content": "Answer with 0."}
        request = {"model": self.settings.model, "messages": [message]}
        try:
            try:
                body = self.client.send(request | {"max_tokens": 1})
            except Refused:  # of so short a reply, perhaps
                body = self.client.send(request)
        except (Unreachable, Refused) as error:
            raise RankerError(f"ranker endpoint: {error}") from None
        except Unanswered as error:
            self._look_for_model(error)
        else:
            self._probe = self._taken(Completion.of(body), [message])

    def _look_for_model(self, error: Unanswered) -> None:
        """Some servers fail where others say that there is no such model: see what they list."""
        listed = self.client.models() if error.failed else []
        if listed and self.settings.model not in listed:
            raise RankerError(
                f"ranker endpoint: '{self.settings.url}' does not answer ({error}), and "
                + self.client.clean(unknown("model", self.settings.model, listed), 300)
            )
        self.say_once(f"the ranker's server does not answer yet ({error}); going on")

    def cancel(self) -> None:
        """See AskingRanker."""
        self.client.cancel()

    def choose(self, query: ShortlistQuery) -> list[int]:
        """See ShortlistRanker."""
        self.usage += self._probe
        self._probe = Usage()
        if self.settings.prompt == "semantic":
            return self._decide(query)
        chosen: list[int] = []  # the paper's prompt is answered by one candidate: ask for each
        while len(chosen) < min(self.picks, len(query.candidates) - 1):
            left = [i for i in range(len(query.candidates)) if i not in chosen]
            codes = [query.candidates[i] for i in left]
            try:
                chosen.append(left[self._decide(replace(query, candidates=codes))[0]])
            except NoAnswer:
                if not chosen:
                    raise
                break
        return chosen

    def _decide(self, query: ShortlistQuery) -> list[int]:
        """The model's ranking; a wrong reply is asked for again, and told what was wrong."""
        prompt, shown = self.prompter.prompt(query)
        messages: list[Message] = [{"role": "user", "content": prompt}]
        wrong = ""
        for again in range(1 + REASKS):
            self.usage += Usage(reasks=int(again > 0))
            try:
                reply = self._ask(messages, query.seed, len(shown))
                return self.prompter.parse(reply, shown)
            except _Overflow:
                self.prompter.shrink(prompt)
                return self._decide(query)
            except ReplyError as error:
                wrong = str(error).rstrip(".")
                messages = [
                    messages[0],
                    {"role": "assistant", "content": reply.text[:QUOTED] or "(nothing)"},
                    {"role": "user", "content": f"That answer cannot be used: {wrong}."},
                ]
        raise NoAnswer(f"{1 + REASKS} wrong replies, the last: {wrong}")

    def _ask(self, messages: list[Message], seed: int, n: int) -> Completion:
        """One answer, counted. Raises NoAnswer, _Overflow, RankerError, Cancelled."""
        self._check_limits()
        attempts = 1 if self._down else self.settings.attempts
        while True:
            try:
                body, retries = self.client.ask(self._request(messages, seed, n), attempts)
                break
            except Refused as error:
                if OVERFLOW.search(str(error)):
                    raise _Overflow from None
                if not self._leave_out(str(error)):
                    raise NoAnswer(f"the server refuses the request ({error})") from None
            except Unanswered as error:
                self.usage += Usage(retries=error.retries)
                self._down = True
                tries = f"{error.retries + 1} attempt" + "s" * (error.retries > 0)
                raise NoAnswer(f"{error} ({tries})") from None
        self._down = False
        answer = Completion.of(body)
        self.usage += self._taken(answer, messages) + Usage(retries=retries)
        return answer

    def _request(self, messages: list[Message], seed: int, n: int) -> dict[str, Any]:
        """A request for a ranking of `n` candidates."""
        request: dict[str, Any] = {"model": self.settings.model, "messages": messages}
        optional: dict[str, Any] = {
            "temperature": 0,
            "seed": seed,
            "max_tokens": self.settings.room,
        }
        if self.settings.prompt == "semantic":
            named = {"name": "ranking", "strict": True, "schema": schema(n)}
            optional["response_format"] = {"type": "json_schema", "json_schema": named}
        return request | {key: v for key, v in optional.items() if key in self._optional}

    def _leave_out(self, refusal: str) -> bool:
        """Leave out from now on what the server refuses: what it names, or all of it.

        False if nothing is left that could be left out.
        """
        named = [key for key in self._optional if key in refusal] or self._optional
        self._optional = [key for key in self._optional if key not in named]
        if named:
            self.say_once(f"the server refuses {', '.join(named)}: left out from here on")
        return bool(named)

    def _taken(self, answer: Completion, messages: list[Message]) -> Usage:
        """What one answer took."""
        sent, got = answer.prompt_tokens, answer.completion_tokens
        if sent is None:
            sent = sum(self.prompter.count(message["content"]) for message in messages)
        if got is None:
            got = self.prompter.count(answer.text)
        return Usage(
            asks=1,
            prompt_tokens=sent,
            completion_tokens=got,
            cost=self.settings.cost(sent, got),
        )

    def _check_limits(self) -> None:
        settings, used = self.settings, self.spent + self.usage
        if settings.max_tokens_total is not None and used.tokens >= settings.max_tokens_total:
            raise NoAnswer(f"max_tokens_total of {settings.max_tokens_total:,} is reached")
        if settings.max_cost is not None and used.cost >= settings.max_cost:
            raise NoAnswer(f"max_cost of {settings.max_cost:g} is reached")


class _Overflow(Exception):
    """The prompt is longer than the server's context."""
