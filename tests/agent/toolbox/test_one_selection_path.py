"""One selection path: what `rank_ncode` says is next is what the run evaluates, and ask and tell
ask for the run's own codes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.loop.request_files import Request, submit, waiting
from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.search import Search
from lm_searcher.agent.settings import toml
from lm_searcher.agent.toolbox.registry import call
from lm_searcher.agent.toolbox.workspace import RUN_FILE, Workspace
from lm_searcher.spaces.table_files import load_table

MEMORY = {"start": 10, "interval": 5, "width": 0.8, "elites": 2, "stagnation": 8}
TWO = [{"metric": "acc", "direction": "max"}, {"metric": "size", "direction": "min"}]


@pytest.fixture
def two_metrics(workspace: Workspace) -> Path:
    """The workspace's table with a second metric, the sum of the options."""
    path = workspace.folder / "tables" / "grid.csv"
    head, *rows = path.read_text().splitlines()
    sized = [f"{row},{sum(map(int, row.split(',')[:3]))}" for row in rows]
    path.write_text("\n".join([f"{head},size", *sized]) + "\n")
    return path


def write(workspace: Workspace, table: Path, **sections: Any) -> Path:
    document = {
        "evaluator": {"kind": "table", "path": str(table), "metric": "acc"},
        "run": {"name": "grid", "folder": str(workspace.folder)},
        "memory": MEMORY,
        **sections,
    }
    document["run"] |= {"seed": document.pop("seed")}
    path = workspace.files_of("grid").folder / RUN_FILE
    toml.write_text(path, toml.dumps(document))
    return path


def untried(result: Result, rng: random.Random) -> str:
    tried = {trial.ncode for trial in result.trials}
    while True:
        ncode = "".join(rng.choices("012345", k=3))
        if ncode not in tried:
            return ncode


def someone_asks(workspace: Workspace, result: Result, rng: random.Random) -> None:
    """Now and then a user asks for an architecture, or prunes or restores an option."""
    for _ in range(rng.randrange(3)):
        pair = {"position": rng.randrange(3), "option": rng.randrange(6)}
        request = rng.choice(
            [
                Request(action="pick", ncode=untried(result, rng)),
                Request(action="prune", **pair),
                Request(action="widen", **pair),
            ]
        )
        submit(workspace.files_of("grid"), request)


RUNS = [
    (ranker, batch, objectives, seed)
    for seed, (ranker, batch, objectives) in enumerate(
        [
            ("evolution", 1, None),
            ("evolution", 3, None),
            ("random", 2, None),
            ("evolution", 1, TWO),
            ("nsga2", 2, TWO),
            ("local", 1, None),
            ("local", 2, TWO),
            ("tpe", 1, None),
        ]
    )
]


@pytest.mark.parametrize(("ranker", "batch", "objectives", "seed"), RUNS)
def test_what_is_said_to_be_next_is_next(
    workspace: Workspace,
    two_metrics: Path,
    ranker: str,
    batch: int,
    objectives: list[dict[str, str]] | None,
    seed: int,
) -> None:
    rng = random.Random(seed)
    several = {"objectives": objectives} if objectives else {}
    path = write(
        workspace,
        two_metrics,
        seed=seed,
        ranker={"name": ranker},
        executor={"batch": batch},
        **several,
    )
    trials = 0
    for _ in range(7):
        trials += batch * rng.randint(1, 3)
        Search.from_file(path, overrides={"budget": {"trials": trials}}).run()
        before = read_run(workspace.files_of("grid"))
        someone_asks(workspace, before, rng)
        kept = [(p, p.read_text()) for p, _ in waiting(workspace.files_of("grid").requests)]
        said = call(workspace, "rank_ncode", {"ncode": untried(before, rng)}).data
        assert said["next"] and 1 <= said["place"] <= said["of"]
        first = call(workspace, "rank_ncode", {"ncode": said["next"][0]}).data
        assert first["place"] == 1 and first["next"] == said["next"]
        assert read_run(workspace.files_of("grid")).attributes == before.attributes
        assert kept == [(p, p.read_text()) for p, _ in waiting(workspace.files_of("grid").requests)]
        trials += batch
        after = Search.from_file(path, overrides={"budget": {"trials": trials}}).run()
        next_trials = after.trials[len(before.trials) :][: len(said["next"])]
        assert [t.ncode for t in next_trials] == said["next"]


@pytest.mark.parametrize(("ranker", "batch", "objectives", "seed"), RUNS)
def test_ask_and_tell_ask_for_the_runs_own_codes(
    workspace: Workspace,
    two_metrics: Path,
    ranker: str,
    batch: int,
    objectives: list[dict[str, str]] | None,
    seed: int,
) -> None:
    several = {"objectives": objectives} if objectives else {}
    sections: dict[str, Any] = {"ranker": {"name": ranker}, "executor": {"batch": batch}}
    path = write(workspace, two_metrics, seed=seed, **sections, **several)
    run = Search.from_file(path, overrides={"budget": {"trials": 36}}).run()
    outcomes = {trial.ncode: dict(trial.metrics) for trial in run.trials}
    space = load_table(two_metrics, metric="acc").space
    keywords: dict[str, Any] = {"ranker": ranker, "batch": batch, "seed": seed, **several}
    if not objectives:
        keywords |= {"metric": "acc", "direction": "max"}
    with Search(space, memory=MEMORY, store="memory", **keywords) as search:
        asked: list[str] = []
        while len(asked) < 36:
            for trial in search.ask(min(batch, 36 - len(asked))):
                asked.append(trial.ncode)
                search.tell(trial, outcomes[trial.ncode])
    assert asked == [trial.ncode for trial in run.trials]
    assert search.problem.identity.seed == seed


def test_requests_are_met_by_ask_and_tell(tmp_path: Path) -> None:
    space = {"a": [0, 1, 2], "b": [0, 1, 2]}
    with Search(space, ranker="evolution", folder=tmp_path, name="mine") as search:
        search.tell(search.ask()[0], 1.0)
        tried = search.result().trials[0].ncode
        wanted = "22" if tried != "22" else "11"
        submit(search.files, Request(action="pick", ncode=wanted))
        submit(search.files, Request(action="prune", position=0, option=0))
        asked = [trial.ncode for trial in search.ask(9)]
    assert asked[0] == wanted
    assert all(ncode[0] != "0" for ncode in asked)
    assert len(asked) == len({*asked}) == 6 - (tried[0] != "0")
