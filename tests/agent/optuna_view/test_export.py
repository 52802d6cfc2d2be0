"""A run as a plain Optuna study."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna_view_results import CONSTRAINED, result_of

from lm_searcher.agent import Result, RunStorage
from lm_searcher.agent.optuna_view.export import export_study
from lm_searcher.agent.optuna_view.sources import FixedResults
from lm_searcher.agent.optuna_view.storage import ResultStorage
from lm_searcher.agent.results.result import read_run
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.spaces.errors import StoreError

pytestmark = pytest.mark.slow  # Optuna makes its tables


def run_in(folder: Path) -> Result:
    return read_run(RunFiles.of("one", folder, None))


def test_the_study_has_the_same_trials(folder: Path) -> None:
    url = f"sqlite:///{folder / 'out.db'}"
    assert export_study(run_in(folder), url) == 4
    written = optuna.load_study(study_name="one", storage=url)
    viewed = optuna.load_study(study_name="one", storage=RunStorage(folder=folder))
    assert written.directions == viewed.directions
    assert written.metric_names == viewed.metric_names
    assert written.user_attrs == viewed.user_attrs
    for trial in (trials := written.trials):
        trial._trial_id -= 1  # counted from 1
    assert trials == viewed.trials
    assert written.best_trial.number == viewed.best_trial.number == 0


def test_the_study_may_be_changed(folder: Path) -> None:
    url = f"sqlite:///{folder / 'out.db'}"
    export_study(run_in(folder), url)
    study = optuna.load_study(study_name="one", storage=url)
    trial = study.ask()
    study.tell(trial, 0.75)
    assert study.best_value == 0.75


def test_several_objectives_and_constraints(tmp_path: Path) -> None:
    result = result_of(CONSTRAINED, {"acc": 0.9, "size": 5.0}, {"acc": 0.8, "size": 1.0})
    url = f"sqlite:///{tmp_path / 'out.db'}"
    export_study(result, url)
    written = optuna.load_study(study_name="made", storage=url).trials
    viewed = ResultStorage(FixedResults(result)).get_all_trials(0)
    assert [t.values for t in written] == [t.values for t in viewed] == [[0.9, 5.0], [0.8, 1.0]]
    assert [t.constraints for t in written] == [t.constraints for t in viewed]
    assert written[0].constraints == {"size <= 3": 2.0}


def test_a_study_that_is_there_stays(folder: Path) -> None:
    url = f"sqlite:///{folder / 'out.db'}"
    optuna.create_study(study_name="one", storage=url)
    with pytest.raises(StoreError, match="has a study 'one' already"):
        export_study(run_in(folder), url)
    assert optuna.load_study(study_name="one", storage=url).trials == []


def test_the_runs_own_store_is_refused(folder: Path) -> None:
    result = run_in(folder)
    with pytest.raises(StoreError, match="the run's own"):
        export_study(result, result.store)


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite:////no-such-folder/x.db", "redis://localhost", "nosuch://x/y"]
)
def test_a_storage_that_cannot_be_opened(folder: Path, url: str) -> None:
    with pytest.raises(StoreError) as caught:
        export_study(run_in(folder), url)
    assert "\n" not in str(caught.value) and url in str(caught.value)
