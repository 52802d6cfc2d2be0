"""What a search keeps and shows of a ranker that asks a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lm_searcher.agent.loop.stopping import Interrupted
from lm_searcher.agent.results.live import LiveView
from lm_searcher.agent.results.report import render
from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.results.summary import print_summary
from lm_searcher.agent.search import Search
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.errors import ConfigError, RankerError
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.tables import Table
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.evaluators.table import TableEvaluator
from lm_searcher.tools.protocols import AskingRanker, Cancelled, Evaluation, Metrics, Report
from lm_searcher.tools.rankers.random import RandomRanker
from lm_searcher.tools.rankers.shortlisting import NoAnswer, ShortlistQuery, ShortlistRanker

SPACE = SearchSpace.of("grid", {f"p{i}": [0, 1, 2, 3] for i in range(5)})  # 1,024


CODES = SPACE.enumerate()
VALUES = -((CODES - 2.0) ** 2).sum(axis=1)
MEASURE = TableEvaluator(Table(SPACE, CODES, {"value": VALUES}, {"value": "max"}), "value")


def value(ncode: str) -> float:
    return float(VALUES[int(ncode, 4)])


class Oracle(ShortlistRanker):
    """A model that knows the answer, and is silent at every fourth query."""

    def __init__(self) -> None:
        super().__init__(RandomRanker(), 8)
        self.asked: list[ShortlistQuery] = []
        self.prepared = self.cancelled = 0

    def choose(self, query: ShortlistQuery) -> list[int]:
        self.asked.append(query)
        self.usage += Usage(asks=1, prompt_tokens=100, completion_tokens=5, cost=0.5)
        self.say_once("the oracle speaks")
        if len(query.history) % 4 == 3:
            raise NoAnswer("the oracle is silent")
        values = [value(code) for code in query.candidates]
        return np.argsort(values)[::-1][:2].tolist()

    def prepare(self) -> None:
        self.prepared += 1

    def cancel(self) -> None:
        self.cancelled += 1


def search(ranker: Any, **keywords: Any) -> Search:
    made = Search(SPACE, MEASURE, **{"trials": 20, "store": "memory", "name": "run", **keywords})
    made.problem = replace(made.problem, ranker=ranker)
    return made


@pytest.mark.slow
def test_the_account_is_kept_with_each_trial(tmp_path: Path) -> None:
    oracle = Oracle()
    assert isinstance(oracle, AskingRanker)
    search(oracle, folder=tmp_path, store=None).run()
    found = read_run(Search(SPACE, name="run", folder=tmp_path).files)
    accounts = [trial.usage for trial in found.trials]
    assert accounts[:5] == [None] * 5 and oracle.prepared == 1
    for number, account in enumerate(accounts[5:], start=5):
        assert account is not None and account.tokens == 105 and account.decisions == 1
        assert (account.fallbacks, account.reason) == (
            (1, "the oracle is silent") if number % 4 == 3 else (0, "")
        )
    assert found.usage == oracle.spent and found.usage.fallbacks == 4
    assert found.usage.asks == len(oracle.asked) == 15 and found.usage.cost == 7.5
    document = found.to_json()
    assert document["account"]["prompt_tokens"] == 1500
    assert document["trials"][4]["account"] is None
    assert document["trials"][7]["account"]["reason"] == "the oracle is silent"


@pytest.mark.slow
def test_a_run_that_goes_on_counts_from_what_was_spent(tmp_path: Path) -> None:
    search(Oracle(), folder=tmp_path, store=None, trials=10).run()
    later = Oracle()
    result = search(later, folder=tmp_path, store=None, trials=20).run()
    assert len(later.asked) == 10 and later.spent.asks == 15
    assert result.usage == later.spent
    other = Search(SPACE, MEASURE, name="run", folder=tmp_path, ranker="evolution", trials=25)
    assert other.run().usage == later.spent  # nothing was asked


def test_a_batch_has_one_account() -> None:
    oracle = Oracle()
    result = search(oracle, workers=1, batch=3, trials=20).run()
    numbers = [t.number for t in result.trials if t.usage is not None]
    assert numbers == [6, 9, 12, 15, 18]
    assert result.usage.asks == len(oracle.asked) == 5
    best = max(oracle.asked[0].candidates, key=value)
    assert result.trials[6].ncode == best


def test_ask_and_tell() -> None:
    oracle = Oracle()
    with search(oracle, initial=0) as asking:
        for _ in range(4):
            for trial in asking.ask(2):
                asking.tell(trial, value(trial.ncode))
        result = asking.result()
    assert [t.number for t in result.trials if t.usage] == [0, 2, 4, 6]
    assert result.usage == oracle.spent and oracle.prepared == 1
    assert not oracle.asked[0].history and len(oracle.asked[1].history) == 2


def test_what_the_model_reads() -> None:
    oracle = Oracle()
    with search(oracle, initial=0) as asking:
        first, second = asking.ask(2)
        asking.tell(first, failed="broken")
        asking.ask(1)
    query = oracle.asked[1]
    assert query.history == [(first.ncode, None)] and query.pending == [second.ncode]
    assert len(set(query.candidates)) == 8
    assert not {first.ncode, second.ncode} & set(query.candidates)


def test_it_is_told_live_and_in_the_report() -> None:
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    view = LiveView(console, "title", ObjectiveSet.of("value"), 20)
    result = search(Oracle(), observe=view).run()
    told = console.export_text(clear=False)
    console.file.close()
    assert told.count("the oracle speaks") == 1
    assert told.count("(picked by the fallback: the oracle is silent)") == 4
    assert view.usage == result.usage
    words = str(result.usage)
    assert words == (
        "11 of 15 decisions; 15 asks; 1,500 + 75 tokens; cost 7.5000; "
        "4 by the fallback, the last: the oracle is silent"
    )
    with open("/dev/null", "w") as nothing:
        shown = Console(record=True, width=250, file=nothing)
        print_summary(shown, result, "")
        shown.print(view.render())
        assert shown.export_text().count(words) == 2
    page = render(result)
    assert words in page and page.count("the oracle is silent</td>") == 4


def test_a_ranker_that_asks_nobody_is_not_mentioned() -> None:
    result: Result = search(RandomRanker()).run()
    assert result.to_json()["account"] is None and result.usage == Usage()
    assert "What the model was asked" not in render(result)


def test_what_cannot_work_ends_before_anything_is_written(tmp_path: Path) -> None:
    class Missing(Oracle):
        def prepare(self) -> None:
            raise RankerError("no such model")

    for begin in (lambda s: s.run(), lambda s: s.ask()):
        with pytest.raises(RankerError, match="no such model"):
            begin(search(Missing(), folder=tmp_path / "runs", store=None))
        assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_ctrl_c_during_an_ask_loses_nothing(tmp_path: Path) -> None:
    class Slow(Oracle):
        def choose(self, query: ShortlistQuery) -> list[int]:
            if len(query.history) == 9:
                raise Cancelled
            return super().choose(query)

    with pytest.raises(Interrupted):
        search(Slow(), folder=tmp_path, store=None).run()
    whole = search(Oracle()).run()
    later = Oracle()
    result = search(later, folder=tmp_path, store=None).run()
    assert [t.ncode for t in result.trials] == [t.ncode for t in whole.trials]
    assert result.usage == whole.usage and len(later.asked) == 11


@pytest.mark.slow
def test_what_was_answered_before_a_crash_is_not_asked_again(tmp_path: Path) -> None:
    class Crash(BaseException): ...

    class Crashing(TableEvaluator):
        def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
            if evaluation.number == 8:
                raise Crash
            return super().evaluate(evaluation, report)

    whole = search(Oracle()).run()
    with pytest.raises(Crash):
        made = Search(SPACE, Crashing(MEASURE.table, "value"), name="run", folder=tmp_path)
        made.problem = replace(made.problem, ranker=Oracle())
        made.run()
    later = Oracle()
    result = search(later, folder=tmp_path, store=None).run()
    assert [len(query.history) for query in later.asked] == list(range(9, 20))
    assert [t.ncode for t in result.trials] == [t.ncode for t in whole.trials]
    assert result.usage == whole.usage == later.spent


def test_settings_go_to_rankers_that_take_them() -> None:
    with pytest.raises(ConfigError, match=r"unknown key in \[ranker\] 'timeout'"):
        Search(SPACE, MEASURE, ranker={"name": "tpe", "timeout": 3.0})
    with pytest.raises(ConfigError, match=r"unknown key in \[ranker\] 'promt'"):
        Search(SPACE, MEASURE, ranker={"name": "tpe", "promt": "ncode"})
