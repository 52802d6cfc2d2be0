"""Runs as studies of an Optuna storage, read through Optuna's own interface."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import TrialState
from optuna_view_results import CONSTRAINED, GOALS, result_of
from postgres import Postgres
from stores import SPACE, fill, open_store, start

from lm_searcher.agent import RunStorage, Search
from lm_searcher.agent.optuna_view.sources import FixedResults, StoredRuns
from lm_searcher.agent.optuna_view.storage import ResultStorage
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.spaces.errors import StoreError
from lm_searcher.tools.protocols import Outcome


def study_at(folder: Path, name: str = "one") -> Study:
    return optuna.load_study(study_name=name, storage=RunStorage(folder=folder))


# -- what is read ---------------------------------------------------------------------------------


def test_a_trial_of_each_kind(folder: Path) -> None:
    began = datetime.now().timestamp()
    complete, failed, pruned, waiting = study_at(folder).trials
    assert [t.number for t in study_at(folder).trials] == [0, 1, 2, 3]
    assert (complete.state, complete.value) == (TrialState.COMPLETE, 0.5)
    assert complete.params == {"width": 16, "act": "relu", "bias": True}
    assert complete.distributions["width"] == CategoricalDistribution((16, 32, 64))
    assert complete.intermediate_values == {1: 0.25, 2: 0.5}
    assert complete.user_attrs == {
        **{"ncode": "000", "seed": 11, "seconds": 1.2346, "incumbent": True},
        **{"metric:value": 0.5, "metric:params": 3.0},
    }
    assert complete.datetime_start and complete.datetime_complete and complete.duration
    assert math.isclose(complete.datetime_complete.timestamp(), began, abs_tol=600)
    assert (failed.state, failed.values) == (TrialState.FAIL, None)
    assert failed.user_attrs["reason"] == "out of memory"
    assert failed.user_attrs["usage"]["asks"] == 2
    assert (pruned.state, pruned.value) == (TrialState.PRUNED, 0.125)
    assert pruned.user_attrs["place"] == "node-3 gpu 1" and pruned.user_attrs["fidelity"] == 0.25
    assert (waiting.state, waiting.datetime_complete) == (TrialState.WAITING, None)
    for trial in (complete, failed, pruned, waiting):
        trial._validate()  # what Optuna asks of a trial that is added to a study


def test_the_study_of_a_run(folder: Path) -> None:
    study = study_at(folder)
    assert study.study_name == "one" and study.direction is StudyDirection.MAXIMIZE
    assert study.metric_names == ["value"]
    assert study.best_trial.number == 0 and study.best_value == 0.5
    attributes = study.user_attrs
    assert attributes["space"] == SPACE.name and attributes["state"] == "interrupted"
    assert (attributes["incumbent"], attributes["incumbent ncode"]) == (0, "000")
    assert {"seed", "config", "versions"} <= attributes.keys()


def test_ids(folder: Path) -> None:
    with open_store(RunFiles.of("two", folder, None).url, "two", "min") as store:
        fill(store)
    storage = RunStorage(folder=folder)
    assert optuna.get_all_study_names(storage) == ["one", "two"]
    for study in storage.get_all_studies():
        assert storage.get_study_id_from_name(study.study_name) == study._study_id
        assert storage.get_study_name_from_id(study._study_id) == study.study_name
        assert storage.get_study_directions(study._study_id) == study.directions
        for trial in storage.get_all_trials(study._study_id):
            assert storage.get_trial(trial._trial_id) == trial
            assert storage.get_trial_number_from_id(trial._trial_id) == trial.number
            given = storage.get_trial_id_from_study_id_trial_number(study._study_id, trial.number)
            assert given == trial._trial_id
            for name, value in trial.params.items():
                internal = storage.get_trial_param(trial._trial_id, name)
                assert trial.distributions[name].to_external_repr(internal) == value
    ids = [t._trial_id for s in (0, 1) for t in storage.get_all_trials(s)]
    assert len(set(ids)) == len(ids) == 8
    assert storage.get_n_trials(1, TrialState.COMPLETE) == 1
    assert [t.number for t in storage.get_all_trials(0, states=(TrialState.FAIL,))] == [1]
    with pytest.raises(KeyError):
        storage.get_all_trials(2)
    with pytest.raises(KeyError):
        storage.get_trial(ids[-1] + 1)
    with pytest.raises(KeyError, match="did you mean"):
        optuna.load_study(study_name="on", storage=storage)


def test_what_is_changed_in_a_copy_changes_nothing_else(folder: Path) -> None:
    storage = RunStorage("one", folder=folder)
    storage.get_all_trials(0)[0].user_attrs.clear()
    storage.get_all_trials(0, deepcopy=False).clear()
    assert storage.get_all_trials(0)[0].user_attrs


def test_constraints_are_those_of_optuna() -> None:
    points = [(0.9, 5.0), (0.8, 3.0), (0.7, 1.0)]
    result = result_of(CONSTRAINED, *({"acc": acc, "size": size} for acc, size in points))
    study = optuna.load_study(study_name="made", storage=ResultStorage(FixedResults(result)))
    assert study.metric_names == ["acc", "size"]
    assert study.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    assert [t.constraints for t in study.trials] == [
        {"size <= 3": margin} for margin in (2.0, 0.0, -2.0)
    ]
    assert [t.number for t in study.best_trials] == [1, 2]
    assert [t.number for t in study.trials if t.user_attrs.get("front")] == [1, 2]
    assert sorted(study.user_attrs["front"]) == [1, 2]


def test_the_best_trial_is_a_feasible_one() -> None:
    one = ObjectiveSet(CONSTRAINED.goals[:1], CONSTRAINED.constraints)
    result = result_of(one, {"acc": 0.9, "size": 5.0}, {"acc": 0.8, "size": 3.0})
    storage = ResultStorage(FixedResults(result))
    assert storage.get_best_trial(0).number == 1
    assert optuna.load_study(study_name="made", storage=storage).best_trial.number == 1


# -- what goes on ---------------------------------------------------------------------------------


def test_a_live_run_shows_what_is_new_and_keeps_what_is_not(tmp_path: Path) -> None:
    files = RunFiles.of("live", tmp_path, None)
    source = StoredRuns(tmp_path, None, every=0.0)
    storage = ResultStorage(source)
    assert storage.get_all_studies() == []
    with open_store(files.url, "live") as store:
        fill(store)
        before = storage.get_all_trials(0, deepcopy=False)
        assert [t.state for t in before][2:] == [TrialState.PRUNED, TrialState.RUNNING]
        assert storage.get_study_user_attrs(0)["state"] == "running"
        assert source.result("live") is source.result("live"), "nothing has changed"
        store.report(3, 1, 0.75)
        assert storage.get_trial(3).intermediate_values == {1: 0.75}
        store.finish(3, Outcome({"value": 1.0}, 1.0))
        assert start(store, "001", 15, "tpe") == 4
        after = storage.get_all_trials(0, deepcopy=False)
        assert [t.state for t in after][3:] == [TrialState.COMPLETE, TrialState.RUNNING]
        assert before[3].state is TrialState.RUNNING, "what was read once does not change"
        assert [a is b for a, b in zip(before, after, strict=False)] == [False, True, True, False]
        assert [t.user_attrs.get("incumbent") for t in after[:4]] == [None, None, None, True]
    assert storage.get_trial(4).state is TrialState.WAITING, "nobody drives the run any more"
    assert storage.get_study_user_attrs(0)["state"] == "interrupted"


def test_the_store_is_looked_at_once_in_a_while(folder: Path) -> None:
    source = StoredRuns(folder, None, every=math.inf)
    first = source.result("one")
    with open_store(RunFiles.of("one", folder, None).url, "one"):
        assert source.result("one") is first


def test_a_run_that_is_removed(folder: Path) -> None:
    named = ResultStorage(StoredRuns(folder, None, ["one"], every=0.0))
    all_runs = ResultStorage(StoredRuns(folder, None, every=0.0))
    assert len(named.get_all_studies()) == len(all_runs.get_all_studies()) == 1
    (folder / "one" / "trials.db").unlink()
    assert len(named.get_all_trials(0)) == 4, "the last that was read"
    assert all_runs.get_all_studies() == []


def test_a_store_that_is_removed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'all.db'}"
    with open_store(url, "one") as store:
        fill(store)
    storage = ResultStorage(StoredRuns(tmp_path, url, every=0.0))
    assert len(storage.get_all_trials(0)) == 4
    (tmp_path / "all.db").unlink()
    assert len(storage.get_all_trials(0)) == 4, "the last that was read"
    with pytest.raises(StoreError, match="no such file"):
        RunStorage(store=url).get_all_studies()


def test_runs_of_one_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'all.db'}"
    for name in ("b", "a"):
        with open_store(url, name) as store:
            fill(store)
    assert optuna.get_all_study_names(RunStorage(store=url)) == ["a", "b"]
    assert optuna.get_all_study_names(RunStorage("b", store=url)) == ["b"]
    with pytest.raises(StoreError, match="unknown run 'c'"):
        RunStorage("c", store=url)


@pytest.mark.slow
def test_a_live_run_on_a_database_server(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.url()
    with open_store(url, "live") as store:
        fill(store)
        source = StoredRuns(tmp_path, url, every=0.0)
        storage = ResultStorage(source)
        assert [t.number for t in storage.get_all_trials(0)] == [0, 1, 2, 3]
        store.finish(3, Outcome({"value": 1.0}, 1.0))
        assert storage.get_best_trial(0).number == 3
    assert storage.get_study_user_attrs(0)["state"] == "interrupted"
    assert source.result("live") is source.result("live")


# -- what is refused ------------------------------------------------------------------------------

WRITERS = sorted(
    name
    for name in vars(BaseStorage)
    if name.startswith(("create_", "delete_", "set_")) and name != "create_new_study"
)


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_written(folder: Path, name: str) -> None:
    with pytest.raises(StoreError, match="read-only"):
        getattr(RunStorage(folder=folder), name)(0)


def test_a_study_is_not_made_but_found(folder: Path) -> None:
    storage = RunStorage(folder=folder)
    found = optuna.create_study(study_name="one", storage=storage, load_if_exists=True)
    assert len(found.trials) == 4
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        optuna.create_study(study_name="one", storage=storage)
    with pytest.raises(StoreError, match="read-only"):
        optuna.create_study(study_name="other", storage=storage)
    with pytest.raises(StoreError, match="read-only"):
        found.ask()


# -- Optuna's figures -----------------------------------------------------------------------------


def measure(config: dict[str, Any]) -> dict[str, float]:
    if config == {"width": 16, "act": "relu", "bias": True}:
        raise ValueError("fails")
    size = config["width"] / 16 + config["bias"]
    return {"acc": size + (config["act"] == "gelu"), "size": size}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.filterwarnings("ignore:PedAnovaImportanceEvaluator:UserWarning")
@pytest.mark.filterwarnings("ignore:The number of trials is too small:UserWarning")
@pytest.mark.parametrize("several", [False, True])
def test_every_figure_of_optuna(folder: Path, several: bool) -> None:
    goals = {"objectives": GOALS, "constraints": ["size <= 3.0"]}
    settings: dict[str, Any] = goals if several else {"metric": "acc"}
    space = {p.name: p.choices for p in SPACE.positions}
    made = {"trials": 12, "ranker": "random", "folder": folder, "name": "run"}
    Search(space, measure, **made, **settings).run()
    for name in ("one", "run"):
        study = study_at(folder, name)
        for figure in figures(study):
            assert figure.to_json()


def figures(study: Study) -> list[Any]:
    plots = optuna.visualization
    plain = [plots.plot_intermediate_values(study), plots.plot_timeline(study)]
    target: dict[str, Any] = {}
    if len(study.directions) > 1:
        target = {"target": lambda trial: trial.values[0], "target_name": "acc"}
        plain += [
            plots.plot_pareto_front(study),
            plots.plot_hypervolume_history(study, [0.0, 10.0]),
        ]
    return plain + [
        plot(study, **target)
        for plot in (
            *(plots.plot_optimization_history, plots.plot_parallel_coordinate),
            *(plots.plot_param_importances, plots.plot_contour, plots.plot_slice),
            *(plots.plot_edf, plots.plot_rank),
        )
    ]
