"""The speed of training candidates: compared with a plain loop, in parallel, and the overhead.

    python -m lm_searcher.evals.training_speed [--json]

On a GPU: one NAS-Bench-201 cell (C = 16, N = 5, batch 256, noise in CIFAR-10's shape, 12 epochs)
by (a) a plain loop in float32 with a DataLoader, (b) the product's training, with and without CUDA
graphs, (c) the same with four candidates in parallel; and the shares of the GPU's bfloat16 rate and
memory bandwidth, both measured before. On a CPU: (a) and (b) at a small size, and trials on digits
with 1 and 2 workers. A trial's overhead is all time outside forward, backward, step and validation.
Figures are wall-clock times on an idle machine; the overhead is also given as a share of the
trial's processor time.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

from lm_searcher.evals.card import bandwidth, matmul_rate, step_bytes
from lm_searcher.evals.timed_training import TimedTraining, photographs, plain_training
from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.ncode import NCode, to_ncodes
from lm_searcher.tools.evaluators.training.builder import build
from lm_searcher.tools.evaluators.training.recipe import NB201_ON_DIGITS
from lm_searcher.tools.executors.evaluate_all import evaluate_all
from lm_searcher.tools.executors.make import make_executor
from lm_searcher.tools.protocols import Evaluation, Outcome

CELL = "333133"
"""Nearly the best cell of the benchmark on CIFAR-10."""

TRAINED = ("train", "validate", "test")
Row = dict[str, Any]


def trials(evaluator: TimedTraining, ncodes: list[NCode], workers: int) -> Row:
    """Train the cells with the product's executor: total seconds, throughput and overhead."""
    began = time.perf_counter()
    executor = make_executor(evaluator, workers)
    started = time.perf_counter()
    space = evaluator.space
    tasks = [Evaluation(i, ncode, space.decode(ncode), i) for i, ncode in enumerate(ncodes)]
    try:
        outcomes = [outcome for _, outcome in evaluate_all(executor, tasks)]
        seconds = time.perf_counter() - started
    finally:
        executor.close()
    return {
        "workers": workers,
        "trials": len(ncodes),
        "start-up seconds": started - began,
        "seconds": seconds,
        "trials a minute": 60 * len(ncodes) / seconds,
        "images a second": sum(o.metrics["images"] for o in succeeded(outcomes)) / seconds,
        "share not training": _overhead(outcomes),
        "share not training, of processor time": _processor_overhead(outcomes),
    }


def succeeded(outcomes: list[Outcome]) -> list[Outcome]:
    """The outcomes themselves; raises SystemExit if a trial failed."""
    for outcome in outcomes:
        if outcome.reason is not None:
            raise SystemExit(f"a trial failed: {outcome.reason}")
    return outcomes


def _overhead(outcomes: list[Outcome]) -> float:
    trained = sum(o.metrics[f"wall {part}"] for o in outcomes for part in TRAINED)
    return 1 - trained / sum(o.seconds for o in outcomes)


def _processor_overhead(outcomes: list[Outcome]) -> float:
    """The overhead of the trial's process, without the fork and the executor."""
    spent = {part: sum(o.metrics[f"cpu {part}"] for o in outcomes) for part in (*TRAINED, *REST)}
    return sum(spent[part] for part in REST) / sum(spent.values())


REST = ("ready", "after")


def compare(size: argparse.Namespace) -> list[Row]:
    """(a) and (b); on a GPU also (b) with CUDA graphs, and (c)."""
    space = builtin("nb201", channels=size.channels, cells=size.cells)
    data = photographs(size.images)
    resolved = TimedTraining(space, dataset="cifar10", epochs=size.epochs, images=size.images)
    resolved = resolved.at({"batch_size": size.batch})
    call = {"in_channels": 3, "classes": 10, **space.settings}
    model = build(space, space.decode(CELL), call)
    plain = plain_training(model, data, size.epochs, size.batch, size.loaders)
    rows: list[Row] = [
        {
            "what": f"(a) plain, float32, {size.loaders} loaders",
            "seconds": plain["seconds"],
            "images a second": plain["images"] / plain["seconds"],
        }
    ]
    kinds = [("(b) ours", 1, False)]
    if torch.cuda.is_available():
        del model
        torch.cuda.empty_cache()
        kinds += [("(b) ours, CUDA graphs", 1, True)]
        kinds += [("(c) four at once", 4, False), ("(c) four at once, CUDA graphs", 4, True)]
    for what, workers, graph in kinds:
        timed = resolved.at({"cuda_graph": graph})
        rows.append({"what": what, **trials(timed, [CELL] * workers, workers)})
    for row in rows:
        pace = row["images a second"] / rows[0]["images a second"]
        row["candidates an hour, (a) = 1"] = pace
    return rows


def card(rows: list[Row], size: argparse.Namespace) -> Row:
    """The rates of the GPU; adds the share that each row has used to `rows`."""
    space = builtin("nb201", channels=size.channels, cells=size.cells)
    call = {"in_channels": 3, "classes": 10, **space.settings}
    model: Any = build(space, space.decode(CELL), call).cuda()
    model = model.to(memory_format=torch.channels_last)
    images = torch.randn(size.batch, 3, 32, 32, device="cuda")
    moved = step_bytes(model, images, torch.zeros(size.batch, dtype=torch.long, device="cuda"))
    from lm_searcher.spaces.nb201.space import flops

    rate, width = matmul_rate(), bandwidth()
    for row in rows:
        # A backward pass is twice the operations of the forward pass.
        operations = 3 * flops(CELL, size.channels, size.cells) * row["images a second"]
        row["share of the bfloat16 rate"] = operations / rate
        row["share of the bandwidth"] = moved / size.batch * row["images a second"] / width
    return {
        "what": torch.cuda.get_device_name(),
        "bfloat16 operations a second": rate,
        "bytes a second": width,
    }


def digits(count: int, workers: list[int]) -> list[Row]:
    """Cells on digits, trained as in the default search, for each number of workers."""
    space = builtin("nb201", **NB201_ON_DIGITS)
    ncodes = to_ncodes(space.sample(count, np.random.default_rng(0)))
    return [
        {"what": f"digits, {n} worker(s)", **trials(TimedTraining(space), ncodes, n)}
        for n in workers
    ]


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--epochs", type=int, default=12 if on_gpu else 1)
    parser.add_argument("--images", type=int, default=45_000 if on_gpu else 512)
    parser.add_argument("--batch", type=int, default=256 if on_gpu else 64)
    parser.add_argument("--channels", type=int, default=16 if on_gpu else 4)
    parser.add_argument("--cells", type=int, default=5 if on_gpu else 1)
    parser.add_argument("--loaders", type=int, default=4 if on_gpu else 0)
    parser.add_argument("--digits", type=int, default=0 if on_gpu else 20, help="trials")
    parser.add_argument("--workers", default="1,2", help="of the trials on digits")
    given = parser.parse_args(argv)
    rows = compare(given)
    rows += [card(rows, given)] if on_gpu else []
    if given.digits:
        rows += digits(given.digits, [int(n) for n in given.workers.split(",")])
    if given.json:
        print(json.dumps({"torch": torch.__version__, "size": vars(given), "rows": rows}))
        return
    for row in rows:
        print(row.pop("what"))
        for name, value in row.items():
            print(f"  {name}: {value:.4g}")


if __name__ == "__main__":
    main()
