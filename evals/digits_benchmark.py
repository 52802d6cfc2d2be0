"""The project's own tabular benchmark: every distinct NAS-Bench-201 cell on handwritten digits.

    python -m lm_searcher.evals.digits_benchmark measure CELLS.jsonl [--workers 2] [--seed 0]
    python -m lm_searcher.evals.digits_benchmark pack CELLS.jsonl spaces/data/digits-nb201.npz

`measure` trains all 6,466 cells with the `train` evaluator's defaults for digits. It appends one
line for each cell, and resumes where it was stopped. `pack` writes the table and its card.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from lm_searcher.agent.study.identity import versions
from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.ncode import NCode, to_ncodes
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.evaluators.training.recipe import NB201_ON_DIGITS
from lm_searcher.tools.protocols import Evaluation

UNITS = {
    "val_accuracy": ("share", "max"),
    "test_accuracy": ("share", "max"),
    "val_loss": ("nats", "min"),
    "params_m": ("million", "min"),
    "flops_m": ("million an image, a multiply-add counted as two", "min"),
    "seconds": ("s of one CPU thread", "min"),
}


@cache
def _evaluator() -> TrainEvaluator:
    import torch

    torch.set_num_threads(1)
    evaluator = TrainEvaluator(builtin("nb201", **NB201_ON_DIGITS))
    evaluator.prepare()
    return evaluator


def train_cell(ncode: NCode, seed: int) -> dict[str, Any]:
    """The metrics of one cell."""
    evaluator, began = _evaluator(), time.process_time()
    config = evaluator.space.decode(ncode)
    metrics = evaluator.evaluate(Evaluation(0, ncode, config, seed), lambda *_: False)
    seconds = round(time.process_time() - began, 3)
    return {"ncode": ncode, **metrics, "seconds": seconds}


def distinct_cells() -> list[NCode]:
    """One NCode of each class of isomorphic cells, in ascending order."""
    space = builtin("nb201")
    return [code for code in to_ncodes(space.enumerate()) if space.canonical(code) == code]


def measure(path: Path, workers: int, seed: int) -> None:
    """Train the cells that have no line in `path`, in random order."""
    done = {row["ncode"] for row in read(path)}
    remaining = [code for code in distinct_cells() if code not in done]
    np.random.default_rng(0).shuffle(remaining)
    began = time.monotonic()
    with ProcessPoolExecutor(workers) as pool, open(path, "a") as file:
        rows = pool.map(partial(train_cell, seed=seed), remaining, chunksize=4)
        for count, row in enumerate(rows, start=1):
            file.write(json.dumps(row) + "\n")
            file.flush()
            if count % 100 == 0:
                pace = (time.monotonic() - began) / count
                print(
                    f"{count} of {len(remaining)}, {pace * (len(remaining) - count):.0f} s left",
                    flush=True,
                )


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of `path`; an incomplete last line is removed from the file."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    path.write_text("".join(line + "\n" for line in lines[:-1]))
    return [json.loads(line) for line in lines[:-1]]


def pack(source: Path, target: Path, seed: int) -> None:
    """The table and its card, as spaces/table_npz.py reads them."""
    rows = sorted(read(source), key=lambda row: str(row["ncode"]))
    if [row["ncode"] for row in rows] != distinct_cells():
        raise SystemExit(f"{source} has {len(rows)} cells, not all: go on with `measure`")
    space, recipe = builtin("nb201"), _evaluator().recipe
    arrays = {name: np.array([row[name] for row in rows], np.float32) for name in UNITS}
    codes = space.codes([row["ncode"] for row in rows]).astype(np.int8)
    target.parent.mkdir(exist_ok=True)
    np.savez_compressed(target, codes=codes, allow_pickle=False, **arrays)
    card = {
        "name": "digits-nb201",
        "rows": len(rows),
        "space_size": space.size,
        "positions": [{"name": p.name, "options": list(p.choices)} for p in space.positions],
        "metrics": {
            name: {
                "unit": unit,
                "direction": direction,
                "best": float(arrays[name].max() if direction == "max" else arrays[name].min()),
            }
            for name, (unit, direction) in UNITS.items()
        },
        "task": "scikit-learn's handwritten digits (load_digits), 1000 / 400 / 397 images",
        "evaluation": "the distinct cells of NAS-Bench-201 (one NCode of each class of isomorphic "
        "ones), each trained once by the project's `train` evaluator on one CPU thread",
        "network": dict(NB201_ON_DIGITS),
        "recipe": {k: v for k, v in vars(recipe).items()},
        "seed": seed,
        "cpu_hours": round(float(arrays["seconds"].sum()) / 3600, 2),
        "versions": versions(),
        "licence": "Apache-2.0",
    }
    target.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("measure", "pack"):
        command = commands.add_parser(name)
        command.add_argument("cells", type=Path)
        command.add_argument("--seed", type=int, default=0)
        if name == "measure":
            command.add_argument("--workers", type=int, default=2)
        else:
            command.add_argument("target", type=Path)
    given = parser.parse_args()
    if given.command == "measure":
        measure(given.cells, given.workers, given.seed)
    else:
        pack(given.cells, given.target, given.seed)


if __name__ == "__main__":
    main()
