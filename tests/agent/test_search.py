from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_searcher.agent.loop.stopping import Interrupted
from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.search import Search
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.stop import StopReason
from lm_searcher.agent.study.storage import open_engine
from lm_searcher.spaces.errors import (
    ConfigError,
    EvaluatorError,
    SpaceError,
    StoreError,
    TableError,
)
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.nb201.space import nb201
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.tables import Table
from lm_searcher.tools.evaluators.table import TableEvaluator
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.protocols import Evaluation, Report
from lm_searcher.tools.rankers import RANKERS

SPACE = SearchSpace.of("tiny", {f"p{i}": list("abcde") for i in range(4)})  # 625
CODES = SPACE.enumerate()
VALUES = np.random.default_rng(5).normal(size=(4, 5))[np.arange(4), CODES].sum(axis=1)
BEST = "".join(map(str, CODES[VALUES.argmax()]))
WORST = "".join(map(str, CODES[VALUES.argmin()]))


def ended_by(result: Result) -> StopReason | None:
    return result.stop and result.stop.reason


def table(direction: str = "max", rows: int = 625) -> TableEvaluator:
    found = Table(SPACE, CODES[:rows], {"acc": VALUES[:rows]}, {"acc": direction})
    return TableEvaluator(found, "acc")


@dataclass
class Inline:
    """The user's function, called in this process, with a count."""

    function: Callable[[Evaluation], Any]
    metric: str = "acc"
    direction: str = "max"
    deterministic: bool = True
    inline: bool = True
    seen: list[str] = field(default_factory=list)

    def identity(self) -> dict[str, Any]:
        return {"kind": "inline"}

    def prepare(self) -> None: ...

    def evaluate(self, evaluation: Evaluation, report: Report) -> Any:
        self.seen.append(evaluation.ncode)
        return self.function(evaluation)


def measured(evaluation: Evaluation) -> float:
    return float(VALUES[int(evaluation.ncode, 5)])


def fails(evaluation: Evaluation) -> float:
    raise ValueError(f"no {evaluation.ncode}")


def ncodes(trials: Any) -> list[str]:
    return [t.ncode for t in trials]


# -- why it stops ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_finds_the_optimum_and_stops_when_the_trials_are_spent() -> None:
    result = Search(SPACE, table(), trials=80, ranker="evolution", store="memory").run()
    assert ended_by(result) is StopReason.TRIALS and result.state == "finished"
    assert len(result.trials) == len(set(ncodes(result.trials))) == 80
    assert [t.number for t in result.trials] == list(range(80))
    assert all(t.state is TrialState.COMPLETE for t in result.trials)
    best = result.incumbent
    assert best is not None and best.ncode == BEST and best.value == VALUES.max()
    assert result.best_config == SPACE.decode(BEST)
    so_far = [b for b in result.best_so_far() if b is not None]
    assert so_far == sorted(so_far) and so_far[-1] == VALUES.max()


@pytest.mark.slow
@pytest.mark.parametrize("ranker", RANKERS)
def test_every_ranker_drives_a_search(ranker: str) -> None:
    result = Search(SPACE, table(), ranker=ranker, trials=12, store="memory").run()
    assert len(set(ncodes(result.trials))) == 12


def test_it_stops_at_the_target() -> None:
    target = float(np.quantile(VALUES, 0.98))
    result = Search(
        SPACE, table(), trials=300, target=target, ranker="evolution", store="memory"
    ).run()
    assert ended_by(result) is StopReason.TARGET
    values = [t.value or 0.0 for t in result.trials]
    assert values[-1] >= target and max(values[:-1]) < target


def test_it_stops_when_patience_ends() -> None:
    result = Search(
        SPACE, table(), trials=600, patience=15, ranker="evolution", store="memory"
    ).run()
    assert ended_by(result) is StopReason.PATIENCE
    values = [t.value or 0.0 for t in result.trials]
    assert len(values) - 1 - int(np.argmax(values)) == 15


def test_it_stops_when_the_space_is_exhausted() -> None:
    result = Search({"a": [1, 2], "b": [1, 2, 3]}, Inline(lambda e: 1), store="memory").run()
    assert ended_by(result) is StopReason.EXHAUSTED and result.state == "finished"
    assert len(set(ncodes(result.trials))) == 6 and result.incumbent is not None


def test_a_table_of_some_rows_is_exhausted_with_its_rows() -> None:
    result = Search(SPACE, table(rows=30), trials=100, ranker="evolution", store="memory").run()
    assert ended_by(result) is StopReason.EXHAUSTED and not result.failures
    assert len(set(ncodes(result.trials))) == 30


def test_ten_failures_in_a_row_stop_it_with_the_last_reason() -> None:
    result = Search(SPACE, Inline(fails), ranker="evolution", store="memory").run()
    assert len(result.trials) == 10 and result.incumbent is None
    assert ended_by(result) is StopReason.FAILURES and result.stop is not None
    assert result.stop.limit == 10 and result.stop.detail == result.trials[-1].reason
    assert all(t.state is TrialState.FAIL and t.value is None for t in result.trials)


@pytest.mark.slow
def test_some_failures_do_not_stop_it() -> None:
    def sometimes(evaluation: Evaluation) -> float:
        return float("nan") if "3" in evaluation.ncode else measured(evaluation)

    result = Search(SPACE, Inline(sometimes), trials=40, ranker="evolution", store="memory").run()
    assert ended_by(result) is StopReason.TRIALS
    assert result.failures and {t.reason for t in result.failures} == {
        "'acc' is nan (float), not a finite number"
    }
    assert len(set(ncodes(result.trials))) == 40, "what failed is not tried again"


def test_it_stops_when_the_hours_are_spent() -> None:
    result = Search(SPACE, table(), hours=1e-9, ranker="evolution", store="memory").run()
    assert len(result.trials) == 1 and ended_by(result) is StopReason.HOURS


@pytest.mark.slow
def test_less_may_be_better() -> None:
    result = Search(SPACE, table("min"), trials=80, ranker="evolution", store="memory").run()
    assert result.direction == "min" and result.incumbent is not None
    assert result.incumbent.ncode == WORST and result.incumbent.value == VALUES.min()
    turned = Search(
        SPACE, table(), direction="min", trials=80, ranker="evolution", store="memory"
    ).run()
    assert ncodes(turned.trials) == ncodes(result.trials)


def test_a_batch_is_of_different_architectures_and_ends_at_the_budget() -> None:
    result = Search(SPACE, table(), trials=22, batch=5, ranker="evolution", store="memory").run()
    assert len(result.trials) == len(set(ncodes(result.trials))) == 22


@pytest.mark.slow
def test_a_seed_repeats_and_another_differs() -> None:
    runs = [
        Search(SPACE, table(), trials=30, seed=s, ranker="evolution", store="memory").run()
        for s in (1, 1, 2)
    ]
    assert ncodes(runs[0].trials) == ncodes(runs[1].trials) != ncodes(runs[2].trials)
    assert [t.seed for t in runs[0].trials] == [t.seed for t in runs[1].trials]
    assert len({t.seed for t in runs[0].trials}) == 30


def test_memory_prunes_what_is_bad_and_can_be_turned_off() -> None:
    def bad(evaluation: Evaluation) -> float:
        return measured(evaluation) - 100.0 * ("4" in evaluation.ncode)

    memory = {"stagnation": 1000, "start": 30, "elites": 5}
    options: dict[str, Any] = {"trials": 120, "ranker": "random", "store": "memory"}
    on = Search(SPACE, Inline(bad), memory=memory, **options).run()
    assert on.decisions and {d["choice"] for d in on.decisions} <= {"e"}
    assert on.subspace.size < SPACE.size
    after = on.decisions[0]["trial"]
    place = [p.name for p in SPACE.positions].index(on.decisions[0]["position"])
    late = [t.ncode[place] == "4" for t in on.trials[after:]]
    assert np.mean(late) < 0.15, "a tenth from outside"
    off = Search(SPACE, Inline(bad), memory={"enabled": False}, **options).run()
    assert off.decisions == [] and off.subspace.size == SPACE.size


def test_an_observer_sees_each_trial_begin_and_end() -> None:
    events: list[Trial | str] = []
    Search(
        SPACE, table(), trials=3, ranker="evolution", store="memory", observe=events.append
    ).run()
    states = [(e.number, str(e.state)) for e in events if isinstance(e, Trial)]
    assert states == [(n, s) for n in range(3) for s in ("RUNNING", "COMPLETE")]


# -- going on -------------------------------------------------------------------------------------


def search(folder: Path, evaluator: Any = None, **options: Any) -> Search:
    options = {"ranker": "evolution", "name": "r", "folder": folder, "space": SPACE} | options
    return Search(evaluator=evaluator or table(), **options)


def test_hours_count_the_time_of_earlier_processes(tmp_path: Path) -> None:
    search(tmp_path, trials=6).run()
    with search(tmp_path, trials=9) as again:
        context = again._open()
        stored = context.records.seconds
        assert stored is not None and context.seconds >= stored > 0
        context.store.set_attribute("seconds", 7200.0)
    ended = search(tmp_path, trials=9, hours=1.0).run()
    assert ended_by(ended) is StopReason.HOURS and len(ended.trials) == 6


@pytest.mark.slow
def test_a_larger_budget_goes_on_as_if_it_had_been_so_from_the_start(tmp_path: Path) -> None:
    whole = Search(SPACE, table(), trials=45, ranker="evolution", store="memory").run()
    first = search(tmp_path, trials=25).run()
    assert ncodes(first.trials) == ncodes(whole.trials)[:25]
    again = search(tmp_path, trials=25).run()
    assert ncodes(again.trials) == ncodes(first.trials) and again.stop == first.stop
    seen: list[Any] = []
    more = search(tmp_path, trials=45).run(begun=lambda trials: seen.extend(trials))
    assert len(seen) == 25
    assert [(t.ncode, t.value, t.seed) for t in more.trials] == [
        (t.ncode, t.value, t.seed) for t in whole.trials
    ]
    assert more.decisions == whole.decisions and more.subspace.allowed == whole.subspace.allowed


@pytest.mark.slow
def test_a_smaller_budget_ends_at_once(tmp_path: Path) -> None:
    search(tmp_path, trials=12).run()
    result = search(tmp_path, trials=5).run()
    assert len(result.trials) == 12 and ended_by(result) is StopReason.TRIALS


class Cut(Exception):
    """Stands for the end of the process."""


@pytest.mark.slow
@pytest.mark.parametrize("when", [0, 2, 5])
def test_cut_short_anywhere_and_then_given_another_budget(tmp_path: Path, when: int) -> None:
    """The process ends within a step; the next one has a smaller budget, the last a larger."""
    left = 5 + when

    def observe(event: Trial | str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Cut

    with pytest.raises(Cut):
        search(tmp_path, trials=14, observe=observe).run()
    done = len(read_run(RunFiles.of("r", tmp_path, None)).trials)
    smaller = search(tmp_path, trials=1).run()
    assert len(smaller.trials) <= done
    assert all(t.state.finished for t in smaller.trials)
    larger = search(tmp_path, trials=14).run()
    whole = Search(SPACE, table(), trials=14, ranker="evolution", store="memory").run()
    assert [(t.ncode, t.value) for t in larger.trials] == [(t.ncode, t.value) for t in whole.trials]


@pytest.mark.slow
def test_a_run_cut_short_while_confirming_searches_a_larger_budget(tmp_path: Path) -> None:
    confirm = {"top": 2, "seeds": 2}

    def cut(event: Trial | str) -> None:
        if isinstance(event, str):
            raise Cut

    with pytest.raises(Cut):
        search(tmp_path, trials=10, confirm=confirm, observe=cut).run()
    result = search(tmp_path, trials=15, confirm=confirm).run()
    assert len(result.trials) == 15 and ended_by(result) is StopReason.TRIALS
    assert result.incumbent is not None and result.incumbent.seeds == 2


def test_an_interruption_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    mine = search(tmp_path, trials=10)

    def interrupt(event: Trial | str) -> None:
        if isinstance(event, Trial) and event.number == 4 and mine._context:
            mine._context.control.request_drain("by the test")

    mine.observe = interrupt
    with pytest.raises(Interrupted):
        mine.run()
    stored = read_run(RunFiles.of("r", tmp_path, None))
    assert stored.state == "interrupted" and len(stored.trials) == 5
    assert all(t.state.finished for t in stored.trials)
    assert len(search(tmp_path, trials=10).run().trials) == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "has another seed: 0 there, 1 here"),
        ({"direction": "min"}, "has another objective direction: max there, min here"),
        ({"evaluator": Inline(measured)}, "has another evaluator kind: table there, inline here"),
        (
            {"evaluator": TableEvaluator(Table(SPACE, CODES, {"acc": -VALUES}, {}), "acc")},
            "has another evaluator digest",
        ),
        (
            {"space": SearchSpace.of("other", {f"p{i}": list("abcde") for i in range(4)})},
            "has another space name: tiny there, other here",
        ),
        (
            {
                "space": SearchSpace.of(
                    "tiny", {f"p{i}": list("abcd"[i:] + "efg") for i in range(4)}
                )
            },
            "has another space positions[0]: ['p0', ['a', 'b', 'c', 'd', 'e'], False] there",
        ),
        (
            {
                "space": SearchSpace.of(
                    "tiny", {f"{'pq'[i == 3]}{i}": list("abcde") for i in range(4)}
                )
            },
            "has another space positions[3]: ['p3', ['a', 'b', 'c', 'd', 'e'], False] there, ['q3'",
        ),
        (
            {"space": SearchSpace.of("tiny", {f"p{i}": list("abcde") for i in range(3)})},
            "has another space positions: [['p0'",
        ),
    ],
    ids=["seed", "direction", "evaluator", "table", "name", "options", "position", "fewer"],
)
@pytest.mark.parametrize("how", ["run", "ask"])
def test_another_search_under_the_same_name_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str, how: str
) -> None:
    before = search(tmp_path, trials=4).run()
    given = dict(options)
    other = search(tmp_path, given.pop("evaluator", None), trials=9, **given)
    with pytest.raises(StoreError) as refusal:
        getattr(other, how)()
    text = str(refusal.value)
    assert message in text and text.startswith("run 'r' in store") and "\n" not in text
    assert text.endswith("choose another --name")
    after = search(tmp_path, trials=5).run()  # the lock was let go of, and nothing is lost
    assert ncodes(after.trials)[:4] == ncodes(before.trials)


@pytest.mark.slow
def test_a_foreign_study_of_that_name_is_refused(tmp_path: Path) -> None:
    import optuna

    url = f"sqlite:///{tmp_path / 'other.db'}"
    storage = optuna.storages.RDBStorage(url)
    study = optuna.create_study(study_name="r", storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    storage.remove_session()
    storage.engine.dispose()
    for how in ("ask", "run"):
        with pytest.raises(StoreError, match="holds trials of another program"):
            getattr(search(tmp_path, store=url), how)()
    with pytest.raises(StoreError, match="is no run"):
        read_run(RunFiles.of("r", tmp_path, url))


@pytest.mark.slow
def test_a_run_that_was_killed_while_it_was_being_made_begins_anew(tmp_path: Path) -> None:
    """Before there are tables, before there is a run; and a study that an earlier version left."""
    import optuna

    files = RunFiles.of("r", tmp_path, None)
    files.folder.mkdir()
    (files.folder / "trials.db").touch()
    with pytest.raises(StoreError, match="holds no runs yet"):
        read_run(files)
    assert len(search(tmp_path, trials=3).run().trials) == 3
    for left in ("tables", "study"):
        mine = search(tmp_path / left, trials=3)
        with open_engine(mine.files.url):
            message = "unknown run 'r'"
        if left == "study":
            storage = optuna.storages.RDBStorage(mine.files.url)
            study = optuna.create_study(study_name="r", storage=storage)
            study.set_user_attr("space", mine.problem.identity.space)
            storage.remove_session()
            storage.engine.dispose()
            message = "is no run that has begun"
        with pytest.raises(StoreError, match=message):
            read_run(mine.files)
        assert len(mine.run().trials) == 3
        assert len(read_run(mine.files).trials) == 3


@pytest.mark.slow
def test_one_process_at_a_time_drives_a_run(tmp_path: Path) -> None:
    with search(tmp_path) as one:
        one.ask()
        assert read_run(RunFiles.of("r", tmp_path, None)).state == "running"
        with pytest.raises(StoreError, match=r"run 'r' is locked: another process drives it"):
            search(tmp_path).ask()
    assert read_run(RunFiles.of("r", tmp_path, None)).state == "interrupted"


# -- asked and told -------------------------------------------------------------------------------


def test_ask_and_tell_with_several_pending_and_out_of_order() -> None:
    mine = Search(SPACE, trials=50, store="memory")
    asked = mine.ask(4) + mine.ask(3)
    assert [a.number for a in asked] == list(range(7))
    assert len({a.ncode for a in asked}) == 7, "what is pending is not asked again"
    assert asked[0].config == SPACE.decode(asked[0].ncode)
    for a in (asked[5], asked[0], asked[6]):
        assert mine.tell(a, measured(a)).value == measured(a)
    failed = mine.tell(asked[1].number, failed="the cat sat on it")
    assert failed.state is TrialState.FAIL and failed.reason == "the cat sat on it"
    told = mine.tell(asked[2], {"value": 1.5, "params": 3}, seconds=2.5)
    assert told.metrics == {"value": 1.5, "params": 3.0} and told.seconds == 2.5
    more = mine.ask(5)
    assert [a.number for a in more] == list(range(7, 12))
    assert len({a.ncode for a in asked + more}) == 12
    result = mine.result()
    states = [str(t.state) for t in result.trials]
    assert (
        states
        == ["COMPLETE", "FAIL", "COMPLETE", "RUNNING", "RUNNING", *["COMPLETE"] * 2]
        + ["RUNNING"] * 5
    )
    mine.close()


def test_a_metric_that_is_never_given_is_refused_at_once() -> None:
    calls: list[int] = []

    def measure(config: Any) -> dict[str, float]:
        calls.append(1)
        return {"acc": 1.0, "lat_ms": 2.0}

    with pytest.raises(EvaluatorError, match=r"'accuracy'.*acc, lat_ms"):
        Search(
            SPACE, measure, metric="accuracy", ranker="evolution", store="memory", trials=20
        ).run()
    with Search(SPACE, store="memory") as mine:
        (asked,) = mine.ask()
        with pytest.raises(EvaluatorError, match=r"'value'.*other"):
            mine.tell(asked, {"other": 1})
        assert mine.tell(asked, {"value": 1}).value == 1.0, "still pending"
        lost = mine.tell(mine.ask()[0], {"other": 1})
        assert lost.state is TrialState.FAIL and lost.reason is not None


@pytest.mark.parametrize("value", [float("nan"), "0.9", None])
def test_what_is_told_and_is_no_number_is_a_failed_trial(value: Any) -> None:
    with Search(SPACE, store="memory") as mine:
        told = mine.tell(mine.ask()[0], value)
        assert told.state is TrialState.FAIL and told.reason


def test_only_what_was_asked_is_told_and_once() -> None:
    with Search(SPACE, store="memory") as mine:
        (asked,) = mine.ask()
        mine.tell(asked, 1.0)
        for number in (0, 1, -1):
            with pytest.raises(ConfigError, match=f"trial {number} is not pending"):
                mine.tell(number, 1.0)
        for n in (0, -1):
            with pytest.raises(
                ConfigError, match=re.escape(f"ask({n}): accepted: integers from 1")
            ):
                mine.ask(n)


def test_asked_to_the_end_of_the_space_and_no_further() -> None:
    with Search({"a": [1, 2, 3], "b": [1, 2]}, store="memory") as mine:
        assert len(mine.ask(4)) == 4
        assert len(mine.ask(4)) == 2
        assert mine.ask(4) == []


def test_a_batch_is_full_though_identical_architectures_lead_the_ranking() -> None:
    positions = {"a": list(range(30)), "b": list(range(30))}
    space = SearchSpace.of("s", positions, canonical_form=lambda n: n[0] + "0")  # b says nothing
    with Search(space, store="memory") as mine:
        for a in mine.ask(6):
            mine.tell(a, float(a.config["a"]))
        asked = mine.ask(20)
        assert len(asked) == 20 and len({space.canonical(a.ncode) for a in asked}) == 20
        assert len(mine.ask(20)) == 4


@pytest.mark.slow
def test_ask_and_tell_survive_the_process_and_run_goes_on_from_there(tmp_path: Path) -> None:
    with search(tmp_path, trials=10) as mine:
        asked = mine.ask(3)
        mine.tell(asked[1], measured(asked[1]))
    with search(tmp_path, trials=10) as mine:
        with pytest.raises(ConfigError, match="trial 1 is not pending"):
            mine.tell(1, 0.0)
        mine.tell(2, 0.5)
    result = search(tmp_path, trials=10).run()
    assert len(result.trials) == len(set(ncodes(result.trials))) == 10
    assert ncodes(result.trials)[:3] == [a.ncode for a in asked]
    assert result.trials[2].value == 0.5
    assert all(t.state is TrialState.COMPLETE for t in result.trials)


def test_a_search_without_an_evaluator_does_not_run() -> None:
    with pytest.raises(ConfigError, match="has no evaluator"):
        Search(SPACE, ranker="evolution", store="memory").run()


# -- what cannot work -----------------------------------------------------------------------------


def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refusals: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: Search("nb20", table()), SpaceError, "did you mean 'nb201'?"),
        (lambda: Search(SPACE, table(), ranker="tpee"), ConfigError, "did you mean 'tpe'?"),
        (lambda: Search(SPACE, table(), trails=3), ConfigError, "did you mean 'trials'?"),
        (lambda: Search(SPACE, table(), hours=-1), ConfigError, "[budget] hours = -1"),
        (lambda: Search({"a": []}, table()), SpaceError, "choices is empty"),
        (lambda: Search({"a": [1, 1]}, table()), SpaceError, "duplicate choices (1)"),
        (lambda: Search(SPACE, table(), metric="ac").run(), TableError, "did you mean 'acc'?"),
    ]
    for attempt, kind, message in refusals:
        with pytest.raises(kind, match=re.escape(message)):
            attempt()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_file_names_its_run(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,acc\n" + "".join(f"{i},{i % 2},{i}\n" for i in range(9)))
    text = f'[evaluator]\nkind = "table"\npath = "{tmp_path / "t.csv"}"\nmetric = "acc"\n'
    text += f'[run]\nfolder = "{tmp_path / "runs"}"\n'
    for file, name in (("my run (2).toml", "my-run--2-"), ("_.toml", "run")):
        (tmp_path / file).write_text(text)
        mine = Search.from_file(tmp_path / file)
        assert mine.files.name == name
        result = mine.run()
        assert len(result.trials) == 9 and ended_by(result) is StopReason.EXHAUSTED
        assert read_run(RunFiles.of(name, tmp_path / "runs", None)).run == name


@pytest.mark.slow
def test_a_real_table(shared_data: Callable[[str], Path]) -> None:
    from lm_searcher.spaces.nb201.space import nb201
    from lm_searcher.spaces.table_files import load_table

    found = load_table(shared_data("nasbench201.npz"), metric="c10_val", space=nb201())
    result = Search(nb201(), TableEvaluator(found, "c10_val"), trials=80, store="memory").run()
    assert result.incumbent is not None
    assert result.incumbent.value > 90.9, "near the optimum, 91.6"
    canonical = [nb201().canonical(t.ncode) for t in result.trials]
    assert len(set(canonical)) == 80


@pytest.mark.slow
def test_a_run_that_failures_ended_can_be_begun_again(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()

    def measure(config: dict[str, int]) -> float:
        if broken.exists():
            raise OSError("the disk is full")
        return float(sum(config.values()))

    def search() -> Search:
        space = {f"p{i}": [0, 1, 2, 3] for i in range(3)}
        return Search(space, measure, trials=20, folder=tmp_path, name="completed")

    ended = search().run()
    assert ended_by(ended) is StopReason.FAILURES and "the disk is full" in str(ended.stop)
    broken.unlink()
    result = search().run()
    assert ended_by(result) is StopReason.TRIALS
    assert [t.state.value for t in result.trials] == ["FAIL"] * 10 + ["COMPLETE"] * 10


def test_at_the_last_epoch_nothing_is_stopped_and_before_it_the_worse_are() -> None:
    class Curve(TrainEvaluator):
        """Reports of three epochs, the worse the later the trial."""

        def evaluate(self, evaluation: Evaluation, report: Report) -> dict[str, float]:
            value = -float(evaluation.number)
            for epoch in (1, 2, 3):
                if report(epoch, value):
                    break
            return {"val_accuracy": value, "epochs": float(epoch)}

    def states(first: int) -> list[tuple[TrialState, float]]:
        evaluator = Curve(nb201(channels=2, cells=1), epochs=3, inline=True)
        pruner = {"name": "median", "min_resource": first}
        keywords: dict[str, Any] = {"trials": 7, "store": "memory", "confirm": {"top": 0}}
        found = Search(evaluator.space, evaluator, pruner=pruner, ranker="random", **keywords).run()
        return [(t.state, t.fidelity) for t in found.trials]

    assert states(3) == [(TrialState.COMPLETE, 1.0)] * 7
    assert states(2)[5:] == [(TrialState.PRUNED, 2 / 3)] * 2
