"""The trial store, the same in memory, in SQLite and in PostgreSQL."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores
from stores import EXPECTED, SPACE, files_of, fill, log_of, open_store, start, timeless

from lm_searcher.agent.study.events import Ask, End, Lost, Recorded
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.opening import opened
from lm_searcher.agent.study.pruners import PrunerSettings, make_pruner
from lm_searcher.agent.study.records import Decision, Identity, memory_key
from lm_searcher.agent.study.stop import Stop, StopReason
from lm_searcher.agent.study.storage import MEMORY
from lm_searcher.agent.study.trial_store import TrialStore
from lm_searcher.spaces.history import TrialState
from lm_searcher.tools.protocols import Outcome

GOOD = Outcome({"value": 1.0}, 1.0)


def same_history(one: TrialStore, other: TrialStore) -> bool:
    before, after = one.history(), other.history()
    return all(
        np.array_equal(getattr(before, name), getattr(after, name), equal_nan=name == "scores")
        for name in ("codes", "scores", "failed", "pending")
    )


def test_trials_are_what_was_put_in(url: str) -> None:
    with open_store(url) as store:
        fill(store)
        assert timeless(store.trials) == EXPECTED
        assert len(store) == 4 and store[2] is store.trials[2]
        assert store.pending == [3]


def test_trials_survive_the_process(kept_url: str) -> None:
    with open_store(kept_url) as before:
        fill(before)
    with open_store(kept_url) as after:
        waiting = replace(before[3], state=TrialState.WAITING)
        assert list(after.trials) == [*before.trials[:3], waiting]
        assert after.pending == [3] and same_history(before, after)
        assert after.waiting == [3] and after.begin(3) == before[3] and not after.waiting
        assert after.finish(3, GOOD).value == 1.0 and not after.pending


def test_the_history_is_of_the_trials_below_a_number(url: str) -> None:
    with open_store(url) as store:
        fill(store)
        history = store.history()
        assert history.scores[[0, 2]].tolist() == [0.5, 0.375] and history.scored.tolist() == [0, 2]
        assert history.failed.tolist() == [False, True, False, False]
        assert history.pending.tolist() == [False, False, False, True]
        assert len(store.history(2)) == 2 and len(store.history(0)) == 0
        with pytest.raises(ValueError, match="read-only"):
            history.scores[0] = 99


def test_what_is_minimised_is_turned_once(kept_url: str) -> None:
    with open_store(kept_url, direction="min") as store:
        fill(store)
        assert store.history().scores[0] == -0.5 and store[0].value == 0.5
    with open_store(kept_url, direction="min") as store:
        assert store.history().scores[0] == -0.5 and store[0].value == 0.5


def test_the_history_grows_past_its_first_room(kept_url: str) -> None:
    codes = SPACE.sample(150, np.random.default_rng(0))
    with open_store(kept_url) as store:
        with store.tick():
            for number, code in enumerate(codes):
                start(store, "".join(map(str, code)), number)
                store.finish(number, Outcome({"value": float(number)}, 0.0))
        history = store.history()
        assert np.array_equal(history.codes, codes)
        assert history.scores.tolist() == list(range(150)) and not history.pending.any()
    with open_store(kept_url) as again:
        assert same_history(store, again) and [t.number for t in again.trials] == list(range(150))


def test_several_objectives_and_constraints_are_derived_anew(kept_url: str) -> None:
    objectives = ObjectiveSet.stored(
        {
            "metric": "acc",
            "direction": "max",
            "objectives": [
                {"metric": "acc", "direction": "max"},
                {"metric": "ms", "direction": "min"},
            ],
            "constraints": ["params <= 2"],
        }
    )
    same = Identity(
        space={"name": "s", "positions": []},
        objective=objectives.to_json(),
        evaluator={},
        seed=0,
    )
    with opened(files_of(kept_url), SPACE, objectives, same, None, {}) as store:
        start(store, "000")
        given = store.finish(0, Outcome({"acc": 0.5, "ms": 3, "params": 3.5}, 1.0))
        assert given.values == (0.5, 3.0) and given.violation == 0.75
    with opened(files_of(kept_url), SPACE, objectives, same, None, {}) as store:
        assert store[0] == given


# -- trials that begin, end and are lost ---------------------------------------------------------


def test_a_trial_waits_for_its_place(url: str) -> None:
    with open_store(url) as store:
        fill(store)
        assert store.add("100", 15, "tpe").state is TrialState.WAITING
        assert store.pending == [3, 4] and store.waiting == [4]
        assert store.history().pending.tolist() == [False, False, False, True, True]
        assert store.begin(4).state is TrialState.RUNNING and not store.waiting
        assert store.begin(4).seed == 15 and store.begin(0) == store[0], "it has finished"
        store.put_back()
        assert store.waiting == store.pending == [3, 4]


def test_the_first_completion_counts(url: str) -> None:
    with open_store(url) as store:
        fill(store)
        first = store[0]
        assert store.finish(0, Outcome({"value": 9.0}, 9.0)) == first
        assert store.lose(0, "the node is gone") == store.place(0, "another") == first
        assert store.report(0, 7, 0.1) is False and store[0] == first
        assert len([e for e in log_of(store) if isinstance(e, End)]) == 3


def test_a_lost_trial_waits_with_its_next_attempt(kept_url: str) -> None:
    with open_store(kept_url) as store:
        start(store, "000", 5)
        store.place(0, "node-1")
        store.report(0, 1, 0.5)
        lost = store.lose(0, "node-1 is gone")
        assert (lost.state, lost.attempt, lost.curve, lost.place) == ("WAITING", 2, (), "")
        assert store.waiting == [0] and store.begin(0).seed == 5
        store.report(0, 1, 0.25)
    with open_store(kept_url) as store:
        assert (store[0].state, store[0].attempt, store[0].curve) == ("WAITING", 2, (0.25,))
        store.finish(0, GOOD)
        assert log_of(store)[0] == Lost(trial=0, attempt=1, reason="node-1 is gone")


def test_a_curve_begins_anew_with_its_first_step(kept_url: str) -> None:
    with open_store(kept_url) as store:
        start(store, "000")
        for step in (2, 4, 6):
            store.report(0, step, step / 10)
    with open_store(kept_url) as store:
        store.begin(0)
        assert store[0].curve == (0.2, 0.4, 0.6), "it may have been found again, still running"
        store.report(0, 8, 0.8)
        assert store[0].curve == (0.2, 0.4, 0.6, 0.8)
        store.report(0, 2, 0.3)
        store.report(0, 4, 0.5)
        assert store.finish(0, GOOD).curve == (0.3, 0.5)
    with open_store(kept_url) as store:
        assert store[0].curve == (0.3, 0.5)


# -- attributes, records and the log ---------------------------------------------------------------

DECISION = Decision(trial=20, action="prune", position="width", option=1)


def test_attributes_and_records_survive(kept_url: str) -> None:
    with open_store(kept_url, run_id="abc") as store:
        store.set_attribute("a", {"x": [1, None, "é\ud800\0"]})
        store.set_attribute("a", {"x": (2,)})
        store.set_attribute("long", "x" * 50_000)
        store.write(memory_key(20, 0), DECISION)
        store.write(memory_key(20, 0), DECISION.model_copy(update={"option": 2}))
        store.write("stop", Stop(reason=StopReason.TRIALS, limit=4))
        before = dict(store.attributes)
        assert before["a"] == {"x": [2]} and before["id"] == store.id == "abc"
    with open_store(kept_url, run_id="another") as store:
        assert dict(store.attributes) == before
        assert store.attributes[memory_key(20, 0)] == DECISION.document | {"option": 2}
        with pytest.raises(TypeError):
            store.attributes["a"] = 1  # type: ignore[index]


def test_any_text_and_any_number_is_kept(kept_url: str) -> None:
    text = "é\ud800\0\n" * 3
    odd = DECISION.model_copy(update={"evidence": {"upper": 1e300, "text": text}})
    with open_store(kept_url) as store:
        store.write(memory_key(1, 0), odd)
        start(store, "000")
        store.lose(0, text)
        store.finish(0, Outcome({}, 1.0, text))
    with open_store(kept_url) as store:
        assert store.attributes[memory_key(1, 0)] == odd.document
        assert store[0].reason == text and log_of(store)[1] == Lost(trial=0, attempt=1, reason=text)


def test_the_log_has_everything_in_order(kept_url: str) -> None:
    ask = Ask(first=0, n=2, ncodes=("000", "100"))
    with open_store(kept_url) as store:
        with store.tick():
            store.log(ask)
            start(store, "000")
            start(store, "100")
        store.finish(1, GOOD)
        store.write(memory_key(20, 0), DECISION)
    with open_store(kept_url) as store:
        store.finish(0, Outcome({}, 1.0, "no"))
        assert log_of(store) == [
            ask,
            End(trial=1, state=TrialState.COMPLETE),
            Recorded(key=memory_key(20, 0), record=DECISION.document),
            End(trial=0, state=TrialState.FAIL),
        ]


# -- ticks -----------------------------------------------------------------------------------------


def snapshot(store: TrialStore) -> Any:
    history = store.history()
    return (
        list(store.trials),
        dict(store.attributes),
        store.pending,
        log_of(store),
        history.codes.tolist(),
        np.nan_to_num(history.scores, nan=-99).tolist(),
        history.pending.tolist(),
    )


def change(store: TrialStore, draw: random.Random) -> None:
    """One change of any kind."""
    pending = store.pending
    number = draw.choice(pending) if pending else 0
    kind = draw.choice(["start", "start", "finish", "lose", "report", "write", "set", "back"])
    if kind == "start":
        ncode = f"{draw.randrange(3)}{draw.randrange(2)}{draw.randrange(2)}"
        store.log(Ask(first=len(store), n=1, ncodes=(ncode,)))
        store.add(ncode, len(store), "random")
    elif kind == "write":
        store.write(memory_key(draw.randrange(3), 0), DECISION)
    elif kind == "set":
        store.set_attribute(draw.choice("ab"), draw.random())
    elif kind == "back":
        store.put_back()
    elif pending and kind == "finish":
        metrics = {"value": draw.random()}
        store.finish(number, draw.choice([GOOD, Outcome(metrics, 1.0, stopped=True)]))
    elif pending and kind == "lose":
        store.lose(number, "gone")
    elif pending:
        store.begin(number)
        store.report(number, draw.randrange(1, 4), draw.random())


@pytest.mark.slow
def test_a_tick_that_fails_leaves_everything_as_before(url: str) -> None:
    """A walk of random ticks, of which every other fails: it is as if those had not been."""
    pruner = make_pruner(PrunerSettings(name="successive_halving", reduction_factor=2))
    draw = random.Random(0)
    with open_store(url, pruner=pruner) as store, open_store(MEMORY, pruner=pruner) as plain:
        for _ in range(60):
            seed, before = draw.random(), snapshot(store)
            with suppress(ZeroDivisionError), store.tick():
                for _ in range(draw.randrange(1, 6)):
                    change(store, draw)
                raise ZeroDivisionError
            assert snapshot(store) == before
            for each in (store, plain):
                with each.tick():
                    same = random.Random(seed)
                    for _ in range(4):
                        change(each, same)
        assert timeless(store.trials) == timeless(plain.trials)
        assert snapshot(store)[2:] == snapshot(plain)[2:]
        after = snapshot(store)
    if url != MEMORY:
        with open_store(url, pruner=pruner) as store:
            waiting = [
                replace(t, state=TrialState.WAITING) if t.state == "RUNNING" else t
                for t in after[0]
            ]
            again = snapshot(store)
            assert again[0] == waiting and again[1:3] == after[1:3] and again[4:] == after[4:]


def test_within_a_tick_its_own_changes_are_seen(url: str) -> None:
    with open_store(url) as store, store.tick():
        fill(store)
        assert timeless(store.trials) == EXPECTED and store.pending == [3]
        assert store.history().scores[0] == 0.5
        with store.tick():
            store.finish(3, GOOD)
        assert store[3].state is TrialState.COMPLETE
        assert log_of(store) == [] or url == MEMORY


# -- pruning --------------------------------------------------------------------------------------

HALVING = PrunerSettings(name="successive_halving", min_resource=1, reduction_factor=2)


def train(store: TrialStore, number: int, curve: list[float]) -> tuple[int, bool]:
    """Epochs that were trained, and whether the pruner stopped there."""
    if number == len(store):
        store.add(["000", "100", "200", "010"][number % 4], number, "random")
    store.begin(number)
    for step, value in enumerate(curve, start=1):
        if store.report(number, step, value):
            store.finish(number, Outcome({"value": value}, 1.0, stopped=True), step / 4)
            return step, True
    store.finish(number, Outcome({"value": curve[-1]}, 1.0))
    return len(curve), False


@pytest.mark.parametrize("direction", ["max", "min"])
def test_successive_halving_stops_the_worse(url: str, direction: str) -> None:
    sign = 1.0 if direction == "max" else -1.0
    with open_store(url, direction=direction, pruner=make_pruner(HALVING)) as store:
        assert train(store, 0, [sign * v for v in (0.5, 0.6, 0.7, 0.8)]) == (4, False)
        assert train(store, 1, [sign * v for v in (0.1, 0.9, 0.9, 0.9)]) == (1, True)
        assert train(store, 2, [sign * v for v in (0.7, 0.8, 0.9, 0.95)]) == (4, False)
        assert [t.state for t in store.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
        assert store[1].fidelity == 0.25 and store[1].curve == (sign * 0.1,)


@pytest.mark.parametrize("name", ["median", "successive_halving"])
def test_stops_are_those_of_optuna_itself(name: str) -> None:
    """The same curves in an Optuna study, trial by trial and interleaved."""
    import optuna

    settings = PrunerSettings(name=name, min_resource=1, reduction_factor=2)  # type: ignore[arg-type]
    curves = np.random.default_rng(1).normal(size=(40, 9)).cumsum(axis=1)
    study = optuna.create_study(direction="maximize", pruner=make_pruner(settings))

    with open_store(MEMORY, pruner=make_pruner(settings)) as store:
        for first in range(0, 40, 4):
            live = {number: study.ask() for number in range(first, first + 4)}
            for _ in live:
                start(store, "000")
            for step in range(1, 10):
                for number, trial in list(live.items()):
                    value = float(curves[number, step - 1])
                    trial.report(value, step)
                    stopped = trial.should_prune()
                    assert store.report(number, step, value) == stopped, (number, step)
                    if stopped or step == 9:
                        state = optuna.trial.TrialState
                        if stopped:
                            study.tell(trial, state=state.PRUNED)
                        else:
                            study.tell(trial, value)
                        store.finish(number, Outcome({"value": value}, 1.0, stopped=stopped))
                        del live[number]
        states = [t.state for t in store.trials]
        assert states.count(TrialState.PRUNED) >= 10 and states.count(TrialState.COMPLETE) >= 3


@pytest.mark.parametrize("name", ["median", "successive_halving"])
def test_a_trial_that_was_cut_short_is_stopped_where_it_would_have_been(
    kept_url: str, name: str
) -> None:
    settings = PrunerSettings(name=name, min_resource=1, reduction_factor=2)  # type: ignore[arg-type]

    def first(store: TrialStore) -> None:
        for number in range(6):  # the median pruner's start-up trials are five
            train(store, number, [0.5, 0.6, 0.7, 0.8])

    curve = [0.6, 0.5, 0.4, 0.3]
    with open_store(MEMORY, pruner=make_pruner(settings)) as store:
        first(store)
        expected = train(store, 6, curve)
    with open_store(kept_url, pruner=make_pruner(settings)) as store:
        first(store)
        start(store, "200", 6)
        store.report(6, 1, 0.6)
        store.report(6, 4, 0.3)  # then it was killed
    with open_store(kept_url, pruner=make_pruner(settings)) as store:
        assert store[6].state is TrialState.WAITING
        assert train(store, 6, curve) == expected and expected[1]
        assert store[6].state is TrialState.PRUNED


def test_a_report_that_is_no_number_is_passed_over(url: str) -> None:
    with open_store(url, pruner=make_pruner(HALVING)) as store:
        start(store, "000")
        assert store.report(0, 1, float("nan")) is False
        assert store.report(0, 1, float("inf")) is False
        assert store[0].curve == ()


def test_no_pruner_stops_nothing(url: str) -> None:
    assert make_pruner(PrunerSettings()) is None
    with open_store(url) as store:
        assert [train(store, i, [1.0 - i / 9, 0.0])[1] for i in range(4)] == [False] * 4


@pytest.mark.slow
def test_a_store_without_a_pruner_does_without_optuna(sqlite: str) -> None:
    code = """
import sys
from stores import files_of, fill, open_store
from lm_searcher.agent.study.stored_run import stored_run
with open_store(sys.argv[1]) as store:
    fill(store)
print(len(stored_run(files_of(sys.argv[1])).trials), "optuna" in sys.modules)
"""
    support = str(Path(stores.__file__).parent)
    paths = [support, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", code, sqlite]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.stdout == "4 False\n", found.stderr
