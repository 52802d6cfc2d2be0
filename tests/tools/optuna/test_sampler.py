from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)
from optuna.trial import Trial, TrialState

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools import proposer
from lm_searcher.tools.optuna import independent
from lm_searcher.tools.optuna.sampler import NCodeSampler
from lm_searcher.tools.optuna.study import ParameterOptions, history_of, scalarised


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


class TestOptunasOwnCases(
    BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase
):
    """All but Optuna's SingleOnly cases, which require that several objectives are refused."""

    @pytest.fixture(params=[0, 5], ids=["ranked at once", "with a start"])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return lambda: NCodeSampler(seed=0, n_startup_trials=request.param)


OPS = ["conv", "pool", "skip", "none"]


def quadratic(trial: Trial) -> float:
    """Of 4 x 21 x 36 designs the best is skip, 7, about 20: 0."""
    op = trial.suggest_categorical("op", OPS)
    depth = trial.suggest_int("depth", 0, 20)
    width = trial.suggest_int("width", 1, 1000, log=True)
    return OPS[::-1].index(op) % 3 + (depth - 7) ** 2 / 20 + (np.log(width) - 3) ** 2


def small(trial: Trial) -> float:
    """Twelve designs."""
    return trial.suggest_int("a", 0, 2) - trial.suggest_categorical("b", [1, 4, 2, 3])


def study_of(sampler: BaseSampler | None = None, **settings: object) -> optuna.Study:
    return optuna.create_study(sampler=sampler or NCodeSampler(seed=0), **settings)


def ran(objective: Callable[[Trial], float], n: int, sampler: BaseSampler) -> optuna.Study:
    study = study_of(sampler)
    study.optimize(objective, n_trials=n)
    return study


def params_of(study: optuna.Study) -> list[dict[str, object]]:
    return [t.params for t in study.trials]


def distinct(study: optuna.Study) -> int:
    return len({tuple(sorted(t.params.items())) for t in study.trials})


@pytest.mark.slow
@pytest.mark.parametrize(("ranker", "trials", "seeds"), [("evolution", 80, 5), ("tpe", 40, 3)])
def test_it_beats_chance(ranker: str, trials: int, seeds: int) -> None:
    found = [ran(quadratic, trials, NCodeSampler(ranker, seed=s)).best_value for s in range(seeds)]
    floor = [ran(quadratic, trials, RandomSampler(seed=s)).best_value for s in range(seeds)]
    assert np.mean(found) < np.mean(floor) / 2, (found, floor)


@pytest.mark.slow
def test_it_beats_chance_where_the_pool_is_drawn() -> None:
    def ones(trial: Trial) -> float:
        digits = [trial.suggest_int(f"i{i}", 0, 4) for i in range(6)]
        return sum(digits) + sum(trial.suggest_categorical(f"c{i}", "abc") == "b" for i in range(4))

    found = [ran(ones, 80, NCodeSampler(seed=s, pool=300)).best_value for s in range(4)]
    floor = [ran(ones, 80, RandomSampler(seed=s)).best_value for s in range(4)]
    assert np.mean(found) < np.mean(floor) - 2, (found, floor)


def test_a_seed_repeats_and_seeds_differ() -> None:
    first, again, other = (ran(quadratic, 12, NCodeSampler(seed=s)) for s in (3, 3, 4))
    assert params_of(first) == params_of(again) != params_of(other)
    unseeded = [ran(quadratic, 6, NCodeSampler()) for _ in range(2)]
    assert params_of(unseeded[0]) != params_of(unseeded[1])


def of_every_kind(trial: Trial) -> float:
    """The objective of Optuna's test_reproducible and similar tests."""
    a = trial.suggest_float("a", 1, 9)
    b = trial.suggest_float("b", 1, 9, log=True)
    c = trial.suggest_float("c", 1, 9, step=1)
    d = trial.suggest_int("d", 1, 9)
    e = trial.suggest_int("e", 1, 9, log=True)
    f = trial.suggest_int("f", 1, 9, step=2)
    return a + b + c + d + e + f + float(trial.suggest_categorical("g", range(1, 10)))


LAST_PARAMS = """
import sys
sys.path.insert(0, sys.argv[1])
from test_sampler import NCodeSampler, of_every_kind, optuna, params_of, ran
optuna.logging.set_verbosity(optuna.logging.ERROR)
print(params_of(ran(of_every_kind, 12, NCodeSampler(seed=1)))[-1])
"""


@pytest.mark.slow
def test_a_seed_repeats_in_another_process() -> None:
    here = params_of(ran(of_every_kind, 12, NCodeSampler(seed=1)))[-1]
    there = subprocess.run(
        [sys.executable, "-c", LAST_PARAMS, str(Path(__file__).parent)],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == str(here)


def test_minimising_is_maximising_the_negative() -> None:
    down, up = study_of(), study_of(direction="maximize")
    down.optimize(quadratic, n_trials=25)
    up.optimize(lambda t: -quadratic(t), n_trials=25)
    assert params_of(down) == params_of(up)


def test_nothing_twice_until_the_space_is_exhausted() -> None:
    for seed in range(3):
        study = ran(small, 12, NCodeSampler(seed=seed))
        assert distinct(study) == 12
        study.optimize(small, n_trials=8)  # goes on all the same
        assert {t.state for t in study.trials} == {TrialState.COMPLETE}


def test_the_last_untried_candidate_of_a_drawn_pool_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proposer, "MAX_ENUMERATED", 5)
    assert distinct(ran(small, 12, NCodeSampler(seed=0, pool=2))) == 12
    ran(small, 15, NCodeSampler(seed=0, pool=2))


def test_an_exhausted_part_of_a_space_does_not_get_stuck() -> None:
    def mixed(trial: Trial) -> float:
        return trial.suggest_float("x", 0, 1) + trial.suggest_categorical("c", [0, 1, 2])

    later = params_of(ran(mixed, 40, NCodeSampler(seed=0)))[20:]
    assert len({p["c"] for p in later}) > 1
    assert sum(p["c"] == 0 for p in later) > 7


def test_define_by_run() -> None:
    def network(trial: Trial) -> float:
        layers = trial.suggest_int("layers", 1, 3)
        units = [trial.suggest_int(f"units{i}", 8, 64, step=8) for i in range(layers)]
        if trial.suggest_categorical("optimizer", ["sgd", "adam"]) == "sgd":
            return sum(units) / 10 + trial.suggest_float("momentum", 0, 1)
        return sum(units) / 10

    study = study_of()
    study.optimize(network, n_trials=40)
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}
    space = study.sampler.infer_relative_search_space(study, study.trials[-1])
    assert list(space) == ["layers", "optimizer", "units0"]
    assert study.best_value < 2


def test_ranked_parameters() -> None:
    def objective(trial: Trial) -> float:
        trial.suggest_categorical("37 choices", range(37))
        trial.suggest_categorical("36 choices", range(36))
        trial.suggest_int("int", 0, 1_000_000)
        trial.suggest_int("moving", 0, 5 + trial.number)
        trial.suggest_float("float", 0, 1, step=0.5)
        trial.suggest_categorical("single", ["x"])
        return trial.suggest_categorical("odd", [None, 1, True, float("nan"), "a"]) is None

    study = study_of()
    study.optimize(objective, n_trials=15)
    space = study.sampler.infer_relative_search_space(study, study.trials[-1])
    assert list(space) == ["36 choices", "int", "odd"]
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}


def values_of(distribution: BaseDistribution) -> tuple[object, ...]:
    options = ParameterOptions.of("x", distribution)
    assert options is not None
    return options.values


def test_options_of_integers() -> None:
    assert values_of(IntDistribution(-2, 2)) == (-2, -1, 0, 1, 2)
    assert values_of(IntDistribution(0, 175, step=5)) == tuple(range(0, 176, 5))
    for low, high, step in [(0, 36, 1), (-500, 501, 7), (3, 2**62, 1)]:
        distribution = IntDistribution(low, high, step=step)
        values = np.array(values_of(distribution))
        assert len(values) == 36
        assert (values[0], values[-1]) == (low, distribution.high)
        assert not np.any((values - low) % step)
        assert np.ptp(np.diff(values)) <= step
    assert values_of(IntDistribution(1, 4, log=True)) == (1, 2, 3, 4)
    log = np.array(values_of(IntDistribution(1, 10**6, log=True)))
    assert (log[0], log[-1]) == (1, 10**6) and len(log) <= 36
    assert np.allclose(np.diff(np.log(log[log > 100])), np.log(10**6) / 35, rtol=0.02)


def test_a_value_is_the_nearest_option() -> None:
    wide = ParameterOptions.of("x", IntDistribution(0, 350))
    assert wide is not None
    assert [wide.index(v) for v in (0, 4, 6, 350, 351, -1)] == [0, 0, 1, 35, None, None]
    log = ParameterOptions.of("x", IntDistribution(1, 10**6, log=True))
    assert log is not None and log.values[log.index(900) or 0] == pytest.approx(900, rel=0.2)
    choice = ParameterOptions.of("x", CategoricalDistribution(["a", None]))
    assert choice is not None and [choice.index(v) for v in ("a", None, "b")] == [0, 1, None]


def test_numbers_in_order_are_an_ordered_position() -> None:
    def ordered(distribution: BaseDistribution) -> bool | None:
        options = ParameterOptions.of("x", distribution)
        return options and options.position.ordered

    assert ordered(IntDistribution(1, 5))
    assert ordered(CategoricalDistribution([16, 32, 64]))
    assert not ordered(CategoricalDistribution([32, 16, 64]))
    assert not ordered(CategoricalDistribution(["a", "b"]))


def test_the_history() -> None:
    study = study_of()
    distributions = {"a": IntDistribution(0, 4)}

    def add(a: int, **settings: object) -> None:
        trial = optuna.create_trial(params={"a": a}, distributions=distributions, **settings)
        study.add_trial(trial)

    add(0, value=2.0)
    add(1, state=TrialState.PRUNED, intermediate_values={1: 9.0, 2: 5.0})
    add(2, state=TrialState.PRUNED)
    add(3, state=TrialState.FAIL)
    add(4, value=float("inf"))
    study.add_trial(optuna.create_trial(value=1.0))  # another part of a conditional space
    study.enqueue_trial({"a": 3})
    running = study.ask()
    assert running.suggest_int("a", 0, 4) == 3
    study.enqueue_trial({"a": 2})

    options = ParameterOptions.of("a", distributions["a"])
    assert options is not None
    history = history_of(study.trials, [options], study.directions, np.random.default_rng(0))
    assert history.codes[:, 0].tolist() == [0, 1, 2, 3, 4, 3, 2]
    nan = np.nan  # minimised, so the signs are turned; an infinite value counts as the worst
    assert np.array_equal(history.scores, [-2, -5, nan, nan, -5, nan, nan], equal_nan=True)
    assert history.failed.tolist() == [False, False, True, True, False, False, False]
    assert history.pending.tolist() == [False] * 5 + [True] * 2


@pytest.mark.parametrize("ranker", ["evolution", "tpe"])
def test_running_trials_are_not_suggested_again(ranker: str) -> None:
    study = study_of(NCodeSampler(ranker, seed=0, n_startup_trials=1))
    study.optimize(small, n_trials=1)
    batch = [study.ask() for _ in range(11)]
    for trial in batch:  # each suggestion is drawn before the objective asks for the others
        trial.suggest_int("a", 0, 2)
    for trial in batch:
        study.tell(trial, trial.suggest_categorical("b", [1, 4, 2, 3]))
    assert distinct(study) == 12


def test_two_threads() -> None:
    study = study_of()
    study.optimize(small, n_trials=2)
    study.optimize(small, n_trials=10, n_jobs=2)
    assert distinct(study) == 12
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}


def test_reseeding_and_copies() -> None:
    def next_four(sampler: NCodeSampler) -> list[dict[str, object]]:
        study = ran(quadratic, 8, NCodeSampler("evolution", seed=0))
        study.sampler = sampler
        study.optimize(quadratic, n_trials=4)
        return params_of(study)[8:]

    used = NCodeSampler("evolution", seed=0)
    expected = next_four(used)
    for copied in (copy.deepcopy(used), pickle.loads(pickle.dumps(used))):
        assert next_four(copied) == expected
        copied.reseed_rng()
        assert next_four(copied) != expected


def test_a_resumed_study_goes_on_as_if_uninterrupted(tmp_path: Path) -> None:
    def objective(trial: Trial) -> float:
        return quadratic(trial) + trial.suggest_float("x", 0, 1)

    whole = ran(objective, 14, NCodeSampler(seed=1))
    url = f"sqlite:///{tmp_path / 'study.db'}"
    for n in (6, 8):
        study = study_of(NCodeSampler(seed=1), study_name="s", storage=url, load_if_exists=True)
        study.optimize(objective, n_trials=n)
        study._storage.remove_session()
        study._storage._backend.engine.dispose()
    assert params_of(study) == params_of(whole)


@pytest.mark.slow
def test_several_objectives() -> None:
    def two(trial: Trial) -> tuple[float, float]:
        x, y = trial.suggest_int("x", 0, 30), trial.suggest_int("y", 0, 30)
        return x + abs(y - 9), 1000.0 * (x - abs(y - 9))

    study = study_of(directions=["minimize", "maximize"])
    study.optimize(two, n_trials=80)
    assert distinct(study) == 80
    front = {t.params["x"] for t in study.best_trials if t.params["y"] == 9}
    assert len(front) > 5 and min(front) < 8 and max(front) > 22


def test_scalarisation() -> None:
    values = np.array([[0, 1e9], [1, 0], [0, 0], [1, np.inf], [np.nan, np.nan], [1, 1e9]])
    rng = np.random.default_rng(0)
    scores = np.array([scalarised(values, rng) for _ in range(50)])
    assert np.isnan(scores[:, 4]).all() and not np.isnan(np.delete(scores, 4, 1)).any()
    assert (scores[:, 3] == 0).all(), "best in both"
    assert (scores[:, 2] == np.nanmin(scores, axis=1)).all(), "worst in both"
    assert len(set((scores[:, 0] > scores[:, 1]).tolist())) == 2, "weights differ"
    assert (scores[:, 5] > scores[:, 0]).all(), "as bad in one, better in the other"
    only = scalarised(np.array([[np.inf], [np.nan], [-np.inf]]), rng)
    assert np.array_equal(only, [0, np.nan, 0], equal_nan=True)


@pytest.mark.parametrize("ranker", ["random", "evolution", "tpe", "nsga2"])
@pytest.mark.parametrize("value", [1.0, float("inf"), float("-inf")])
def test_constant_values(ranker: str, value: float) -> None:
    def constant(trial: Trial) -> float:
        small(trial)
        return value

    assert distinct(ran(constant, 12, NCodeSampler(ranker, seed=0, n_startup_trials=2))) == 12


@pytest.mark.parametrize("ranker", ["evolution", "tpe"])
def test_failures_only(ranker: str) -> None:
    def fails(trial: Trial) -> float:
        small(trial)
        raise ValueError

    study = study_of(NCodeSampler(ranker, seed=0, n_startup_trials=0))
    study.optimize(fails, n_trials=12, catch=ValueError)
    assert {t.state for t in study.trials} == {TrialState.FAIL}
    assert distinct(study) == 12


@pytest.mark.slow
def test_pruning() -> None:
    def pruned(trial: Trial) -> float:
        value = quadratic(trial)
        trial.report(value, 1)
        if trial.number > 3 and value > 3:
            raise optuna.TrialPruned
        return value

    study = ran(pruned, 60, NCodeSampler(seed=0))
    assert {t.state for t in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert distinct(study) == 60 and study.best_value < 0.5
    study = study_of(pruner=optuna.pruners.HyperbandPruner())
    study.optimize(pruned, n_trials=10)


def test_parameters_that_are_enqueued_or_fixed() -> None:
    study = study_of(NCodeSampler(seed=0, n_startup_trials=2))
    study.optimize(small, n_trials=3)
    study.enqueue_trial({"a": 2, "b": 1})
    study.optimize(small, n_trials=1)
    assert study.trials[-1].params == {"a": 2, "b": 1}
    study.enqueue_trial({"a": 1})
    study.optimize(small, n_trials=1)
    assert study.trials[-1].params["a"] == 1


def test_the_independent_sampler() -> None:
    class Told(RandomSampler):
        names: tuple[str, ...] = ()

        def sample_independent(self, study, trial, param_name, param_distribution):  # type: ignore
            self.names += (param_name,)
            return 0.5

        def reseed_rng(self) -> None:
            self.names = ()

    def mixed(trial: Trial) -> float:
        return trial.suggest_int("i", 0, 2) + trial.suggest_float("x", 0, 1)

    told = Told()
    sampler = NCodeSampler(seed=0, independent_sampler=told)
    assert params_of(ran(mixed, 3, sampler))[-1]["x"] == 0.5
    # Everything of the first trial, and then the floats.
    assert [name for name in told.names if name == "x"] == ["x"] * 3 and told.names[3:] == ("x",)
    sampler.reseed_rng()
    assert told.names == ()


def test_the_warning_comes_once_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    def mixed(trial: Trial) -> float:
        return trial.suggest_int("i", 0, 9) + trial.suggest_float("x", 0, 1)

    messages: list[str] = []
    monkeypatch.setattr(independent._logger, "warning", messages.append)
    ran(mixed, 12, NCodeSampler(seed=0))
    ran(mixed, 12, NCodeSampler(seed=0, warn_independent_sampling=False))
    (message,) = messages
    assert "`x` in Trial#5 is sampled independently using `RandomSampler`" in message


def test_an_optuna_ranker_leaves_the_verbosity_alone() -> None:
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    ran(small, 8, NCodeSampler("tpe", seed=0, n_startup_trials=2))
    assert optuna.logging.get_verbosity() == optuna.logging.CRITICAL


def test_one_sampler_for_two_studies() -> None:
    sampler = NCodeSampler(seed=0)
    ran(quadratic, 8, sampler)
    assert distinct(ran(small, 12, sampler)) == 12


def test_refused_arguments() -> None:
    with pytest.raises(ConfigError, match="unknown ranker 'evolutoin'; did you mean 'evolution'"):
        NCodeSampler("evolutoin")
    for name in ("seed", "n_startup_trials", "pool"):
        with pytest.raises(ConfigError, match=rf"{name} = -1; accepted: [01] or more"):
            NCodeSampler(**{name: -1})
