"""The ranker that asks an OpenAI-compatible server (chat.completions)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lm_searcher.prompts.reply import ReplyError
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
from lm_searcher.tools.rankers.endpoint.request_format import Message, RequestFormat
from lm_searcher.tools.rankers.shortlisting import NoAnswer, ShortlistQuery, ShortlistRanker

REASKS = 2
"""How often the model is asked again after an unusable reply."""
QUOTED = 400
"""The most characters of an unusable reply that are quoted back to the model."""


class EndpointRanker(ShortlistRanker):
    """Lets a served language model choose from a short list.

    After a decision without any answer the next decision makes one attempt only, so that a dead
    server does not hold the search up. Token counts are the server's, or estimated from lengths
    if it reports none.
    """

    def __init__(
        self, settings: EndpointSettings, space: SearchSpace, objective: Objective, fallback: Ranker
    ) -> None:
        super().__init__(fallback, max(settings.shown, objective.picks))
        self.settings, self.picks = settings, objective.picks
        self.prompter = Prompter(settings, space, objective, self.say_once)
        self.format = RequestFormat(settings, self.say_once)
        self.client = Client(settings)
        self._down = False
        self._probe = Usage()

    @classmethod
    def for_space(
        cls, what: str, space: SearchSpace, given: Mapping[str, Any], objective: Objective
    ) -> EndpointRanker:
        """The ranker of ``MODEL@URL`` and keys of [ranker]. Raises ConfigError, RankerError."""
        settings = EndpointSettings.of(what, given)
        settings.key()  # raises for a missing key before anything heavy is loaded
        return cls(settings, space, objective, make_fallback(settings.fallback, space))

    def prepare(self) -> None:
        """See AskingRanker: requests one token, which every server can do."""
        self.client.reset()
        self._down = False
        message = {"role": "user", "content": "Answer with 0."}
        request = {"model": self.settings.model, "messages": [message]}
        try:
            try:
                body = self.client.send(request | {"max_tokens": 1})
            except Refused:  # perhaps because of max_tokens
                body = self.client.send(request)
        except (Unreachable, Refused) as error:
            raise RankerError(f"ranker endpoint: {error}") from None
        except Unanswered as error:
            self._check_model_name(error)
        else:
            self._probe = self._usage_of(Completion.of(body), [message])

    def _check_model_name(self, error: Unanswered) -> None:
        """Raises RankerError if the server lists models and not this one: some servers answer
        with HTTP 500 for an unknown model."""
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
        chosen: list[int] = []  # a reply to the paper's prompt names one candidate: ask repeatedly
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
        """The model's ranking. After an unusable reply the model is told the reason."""
        prompt, shown = self.prompter.prompt(query)
        messages: list[Message] = [{"role": "user", "content": prompt}]
        wrong = ""
        for again in range(1 + REASKS):
            self.usage += Usage(reasks=int(again > 0))
            try:
                reply = self._complete(messages, query.seed, len(shown))
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

    def _complete(self, messages: list[Message], seed: int, n: int) -> Completion:
        """One completion, added to `usage`. Raises NoAnswer, _Overflow, RankerError, Cancelled."""
        self._check_limits()
        attempts = 1 if self._down else self.settings.attempts
        while True:
            try:
                request = self.format.request(messages, seed, n)
                body, retries = self.client.ask(request, attempts)
                break
            except Refused as error:
                if OVERFLOW.search(str(error)):
                    raise _Overflow from None
                if not self.format.drop_refused(str(error)):
                    raise NoAnswer(f"the server refuses the request ({error})") from None
            except Unanswered as error:
                self.usage += Usage(retries=error.retries)
                self._down = True
                tries = f"{error.retries + 1} attempt" + "s" * (error.retries > 0)
                raise NoAnswer(f"{error} ({tries})") from None
        self._down = False
        answer = Completion.of(body)
        self.usage += self._usage_of(answer, messages) + Usage(retries=retries)
        return answer

    def _usage_of(self, answer: Completion, messages: list[Message]) -> Usage:
        """Tokens and cost of one answer."""
        sent, received = answer.prompt_tokens, answer.completion_tokens
        if sent is None:
            sent = sum(self.prompter.count(message["content"]) for message in messages)
        if received is None:
            received = self.prompter.count(answer.text)
        return Usage(
            asks=1,
            prompt_tokens=sent,
            completion_tokens=received,
            cost=self.settings.cost(sent, received),
        )

    def _check_limits(self) -> None:
        """Raises NoAnswer once the run has used up its tokens or its money."""
        settings, used = self.settings, self.spent + self.usage
        if settings.max_tokens_total is not None and used.tokens >= settings.max_tokens_total:
            raise NoAnswer(f"max_tokens_total of {settings.max_tokens_total:,} is reached")
        if settings.max_cost is not None and used.cost >= settings.max_cost:
            raise NoAnswer(f"max_cost of {settings.max_cost:g} is reached")


class _Overflow(Exception):
    """The prompt is longer than the server's context."""
