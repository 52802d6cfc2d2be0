"""Early stopping, and how the history represents trials that were stopped.

    python -m lm_searcher.evals.fidelity record CURVES.jsonl [--cells 150]
    python -m lm_searcher.evals.fidelity study CURVES.jsonl [--ranker evolution] [--seeds 20]

`record` trains cells on digits and writes their learning curves. `study` searches among 1,000 cells
of `builtin:digits-nb201`. Each cell gets the curve of one of the five recorded cells with the
closest final values, shifted to its own final value. Searches run without early stopping, and with
successive halving; the history then contains the last reports of stopped trials ("reached") or the
estimates of their final values ("estimated", as in the product). The result is the regret,
(best - found) / (best - median), of complete trainings after equal numbers of epochs.
"""

from __future__ import annotations

import argparse
import json
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from optuna.pruners import BasePruner

from lm_searcher.agent.study.identity import describe_space
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.opening import opened
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.pruners import PrunerSettings, make_pruner
from lm_searcher.agent.study.records import Identity
from lm_searcher.agent.study.storage import MEMORY
from lm_searcher.agent.study.trial_store import TrialStore
from lm_searcher.evals.digits_benchmark import distinct_cells
from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.history import TrialState
from lm_searcher.spaces.ncode import Codes, to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.table_files import load_table
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.evaluators.training.recipe import NB201_ON_DIGITS
from lm_searcher.tools.protocols import Evaluation, Outcome
from lm_searcher.tools.rankers import make_ranker

Floats = NDArray[np.float64]
CELLS = 1000
DIRECTIONS = {"val_accuracy": "max", "val_loss": "min"}


def record(path: Path, cells: int, metric: str) -> None:
    """Write one line for each cell: the values of `metric` after each epoch, on one thread."""
    import torch

    torch.set_num_threads(1)
    space = builtin("nb201", **NB201_ON_DIGITS)
    evaluator = TrainEvaluator(space, metric=metric, direction=DIRECTIONS[metric])
    chosen = np.random.default_rng(0).permutation(distinct_cells())[:cells]
    with open(path, "w") as file:
        for ncode in map(str, chosen):
            curve: list[float] = []

            def report(step: int, value: float, curve: list[float] = curve) -> bool:
                curve.append(value)
                return False

            evaluator.evaluate(Evaluation(0, ncode, space.decode(ncode), 0), report)
            file.write(json.dumps({"ncode": ncode, metric: curve}) + "\n")


def problem(path: Path, metric: str) -> tuple[Codes, Floats]:
    """Codes [cells, positions] and learning curves [cells, epochs], in the metric's own sign."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    recorded = np.array([row[metric] for row in rows], np.float64)
    table, rng = load_table("builtin:digits-nb201", metric=metric), np.random.default_rng(0)
    chosen = rng.permutation(len(table.codes))[:CELLS]
    final = np.array(table.metrics[metric], np.float64)[chosen]
    near = np.argsort(np.abs(recorded[:, -1] - final[:, None]), axis=1)[:, :5]
    donors = recorded[near[np.arange(CELLS), rng.integers(5, size=CELLS)]]
    return table.codes[chosen], donors + (final - donors[:, -1])[:, None]


def search(
    problem: tuple[Codes, Floats],
    metric: str,
    ranker: str,
    halving: PrunerSettings | None,
    estimated: bool,
    seed: int,
    epochs: int,
) -> list[tuple[int, float]]:
    """(epochs spent, final value) of each complete training, until `epochs` are spent."""
    (codes, curves), space, rng = problem, builtin("nb201"), np.random.default_rng(seed)
    objectives = ObjectiveSet.of(metric, DIRECTIONS[metric])
    ranks = make_ranker(ranker, space).rank
    untried, spent, found = rng.permutation(len(codes)), 0, []
    ncodes = to_ncodes(codes)
    pruner = make_pruner(halving or PrunerSettings())
    with _store(space, objectives, seed, pruner) as store:
        while spent < epochs and len(untried):
            number = len(store)
            if number >= 5:
                history = store.history()
                if not estimated:
                    reached = [objectives.sign * (t.value or 0.0) for t in store.trials]
                    history = replace(history, scores=np.array(reached))
                untried = untried[ranks(codes[untried], history, seed=number)]
            cell, untried = untried[0], untried[1:]
            store.add(ncodes[cell], 0, ranker)
            store.begin(number)
            for step, value in enumerate(curves[cell], start=1):
                stop = store.report(number, step, value) and step < curves.shape[1]
                if stop:
                    break
            trial = store.finish(number, Outcome({metric: value}, 0.0, stopped=stop))
            spent += step
            if trial.state is TrialState.COMPLETE:
                found.append((spent, float(value)))
            untried = rng.permutation(untried)
    return found


def _store(
    space: SearchSpace, objectives: ObjectiveSet, seed: int, pruner: BasePruner | None
) -> AbstractContextManager[TrialStore]:
    """A store that keeps nothing."""
    identity = Identity(
        space=describe_space(space), objective=objectives.to_json(), evaluator={}, seed=seed
    )
    return opened(RunFiles("study", MEMORY, Path()), space, objectives, identity, pruner, {})


def regret(found: list[tuple[int, float]], epochs: int, finals: Floats, sign: float) -> float:
    """The regret of the best complete training within `epochs`; without any, of the worst cell."""
    values = sign * finals
    best = max((sign * v for spent, v in found if spent <= epochs), default=values.min())
    return float((values.max() - best) / (values.max() - np.median(values)))


def study(
    path: Path, metric: str, ranker: str, halving: PrunerSettings, seeds: int, budgets: list[int]
) -> None:
    """Print a line for each kind of history, with the standard error of the mean."""
    cells = problem(path, metric)
    sign, finals = ObjectiveSet.of(metric, DIRECTIONS[metric]).sign, cells[1][:, -1]
    for kind, pruner in (("none", None), ("reached", halving), ("estimated", halving)):
        rows = []
        for seed in range(seeds):
            estimated = kind == "estimated"
            found = search(cells, metric, ranker, pruner, estimated, seed, max(budgets))
            rows.append([regret(found, budget, finals, sign) for budget in budgets])
        means, errors = np.mean(rows, axis=0), np.std(rows, axis=0) / np.sqrt(seeds)
        shown = [f"{m:.3f} +- {e:.3f}" for m, e in zip(means, errors, strict=True)]
        print(f"{metric}, {ranker}, {kind}: " + ", ".join(shown), flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("command", choices=["record", "study"])
    parser.add_argument("curves", type=Path)
    parser.add_argument("--metric", choices=sorted(DIRECTIONS), default="val_loss")
    parser.add_argument("--cells", type=int, default=150)
    parser.add_argument("--ranker", default="evolution")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--min-resource", type=int, default=1)
    parser.add_argument("--reduction-factor", type=int, default=3)
    parser.add_argument("--epochs", default="80,160,320", help="budgets, in epochs")
    given = parser.parse_args()
    if given.command == "record":
        record(given.curves, given.cells, given.metric)
    else:
        budgets = [int(n) for n in given.epochs.split(",")]
        halving = PrunerSettings(
            name="successive_halving",
            min_resource=given.min_resource,
            reduction_factor=given.reduction_factor,
        )
        study(given.curves, given.metric, given.ranker, halving, given.seeds, budgets)


if __name__ == "__main__":
    main()
