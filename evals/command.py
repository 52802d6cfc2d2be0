"""`lm-searcher eval`: rankers compared on a tabular benchmark."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lm_searcher.spaces.errors import ConfigError

if TYPE_CHECKING:
    from lm_searcher.evals.study import Study


def evaluate(
    table: Annotated[
        str, typer.Option(help="FILE.npz, FILE.csv, builtin:NAME or chain:POSITIONSxOPTIONS:NUMBER")
    ],
    metric: Annotated[str, typer.Option(help="The objective.")] = "value",
    test_metric: Annotated[str | None, typer.Option(help="Reported of what was chosen.")] = None,
    direction: Annotated[str | None, typer.Option(help="max or min; default: the card's.")] = None,
    objectives: Annotated[
        str | None, typer.Option(help="Several metrics in place of one: acc:max,latency:min.")
    ] = None,
    join: Annotated[
        list[str] | None, typer.Option(help="Another table, with more of the metrics; repeatable.")
    ] = None,
    methods: Annotated[str, typer.Option(help="Rankers, with commas.")] = "local,tpe,evolution",
    evaluations: Annotated[int, typer.Option(help="Evaluations of a search.")] = 100,
    seeds: Annotated[int, typer.Option(help="Searches of each method.")] = 20,
    marks: Annotated[str, typer.Option(help="Where regret is read.")] = "25,50,100",
    protocol: Annotated[str, typer.Option(help="mean, or seed for single trainings.")] = "mean",
    seed_metric: Annotated[str | None, typer.Option(help="The single-seed results.")] = None,
    memory: Annotated[bool, typer.Option(help="Prune options on evidence.")] = True,
    workers: Annotated[int, typer.Option(help="Searches at once.")] = 1,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write results here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a figure of regret here.")] = None,
) -> None:
    """Compare rankers on a tabular benchmark: regret after so many evaluations.

    With --objectives, regret is the missing share of the hypervolume of the table's front.
    """
    from lm_searcher.evals.study import Study
    from lm_searcher.evals.study_runs import run_study
    from lm_searcher.tools.rankers import check_name

    for name, value in (("evaluations", evaluations), ("seeds", seeds), ("workers", workers)):
        if value < 1:
            raise ConfigError(f"--{name} {value}; accepted: 1 or more")
    for method in methods.split(","):
        try:
            check_name(method)
        except ConfigError as error:
            raise ConfigError(f"--methods: {error}") from None
    if direction not in (None, "max", "min"):
        raise ConfigError(f"--direction {direction}; accepted: max, min")
    if protocol not in ("mean", "seed") or (protocol == "seed") != (seed_metric is not None):
        raise ConfigError("--protocol: mean, or seed together with --seed-metric NAME")
    parsed = _objectives(objectives)
    if (join and not parsed) or (parsed and (seed_metric or test_metric)):
        raise ConfigError("--objectives go with --join, and without --protocol and --test-metric")
    study = Study(
        table=table,
        metric=metric,
        test_metric=test_metric,
        direction=direction,
        evaluations=evaluations,
        seeds=seeds,
        marks=_marks(marks, evaluations),
        seed_metric=seed_metric,
        memory=memory,
        objectives=parsed,
        join=tuple(join or ()),
    )
    if seed_metric and study.marks[0] <= study.confirm[0] * study.confirm[1]:
        raise ConfigError("--marks: the confirmation alone takes 6 evaluations; marks of 7 or more")
    study.problem()  # errors of the table come before any search runs
    for path in (json_path, plot):
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigError(f"'{path}': no such folder")
    keep = json_path.with_name(json_path.name + ".part") if json_path else None
    result = run_study(study, methods.split(","), workers, keep, _progress)
    print_table(study, result)
    if plot is not None:
        from lm_searcher.evals.plot import plot_regret

        plot_regret(result, plot)
    if json_path is not None and keep is not None:
        json_path.write_text(json.dumps(result, allow_nan=False) + "\n")
        keep.unlink(missing_ok=True)


def _marks(text: str, evaluations: int) -> tuple[int, ...]:
    try:
        marks = tuple(sorted({int(m) for m in text.split(",")}))
    except ValueError:
        raise ConfigError(f"--marks {text}; accepted: numbers with commas") from None
    if marks[0] < 1 or marks[-1] > evaluations:
        raise ConfigError(f"--marks {text}; accepted: 1 to --evaluations {evaluations}")
    return marks


def _objectives(text: str | None) -> tuple[tuple[str, str | None], ...]:
    goals = []
    for part in (text or "").split(",") if text is not None else ():
        metric, colon, direction = part.strip().partition(":")
        if not metric or (colon and direction not in ("max", "min")):
            raise ConfigError(f"--objectives {text}; accepted: METRIC:max,METRIC:min,...")
        goals.append((metric, direction or None))
    return tuple(goals)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {total} searches", end="" if done < total else "\n", file=sys.stderr)


def print_table(study: Study, result: dict[str, Any]) -> None:
    """Print normalised regret at the marks with its standard error, the share of searches that
    found the best, and milliseconds for each decision."""
    from rich.console import Console
    from rich.table import Table

    measure = "missing hypervolume" if study.objectives else "regret"
    title = f"{study.table} {study.title}: {measure}, {study.seeds} seeds"
    table = Table("method", *map(str, study.marks), "found", "ms", title=title)
    for method, row in result["methods"].items():
        cells = [
            f"{row['regret'][str(m)]:.3f}±{row['standard_error'][str(m)]:.3f}" for m in study.marks
        ]
        share = f"{100 * row['found'][str(study.marks[-1])]:.0f} %"
        table.add_row(method, *cells, share, f"{1000 * row['seconds_per_decision']:.1f}")
    Console(markup=False).print(table)
