"""Pre-training of the in-context ranker: weights, resuming, and refused folders."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lm_searcher.spaces.errors import TrainingError
from lm_searcher.tools.rankers.incontext.loading import load_model
from lm_searcher.tools.rankers.incontext.pretraining.checkpoint import (
    load_state,
    save_state,
    training_lock,
)
from lm_searcher.tools.rankers.incontext.pretraining.settings import TrainConfig
from lm_searcher.tools.rankers.incontext.pretraining.train import pretrain
from lm_searcher.tools.rankers.incontext.pretraining.training_run import (
    Pretraining,
    PretrainingProgress,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def tiny(out: Path, **changes: Any) -> TrainConfig:
    return dataclasses.replace(
        TrainConfig(
            out,
            minutes=0.01,
            tokens=300,
            candidates=12,
            workers=0,
            width=16,
            option_width=8,
            layers=1,
            heads=1,
            courage=0.5,
            validation_tasks=16,
        ),
        **changes,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[PretrainingProgress]]:
    """A finished training, and the progress that it reported."""
    folder, reports = tmp_path_factory.mktemp("finished"), []
    assert pretrain(tiny(folder), "lm-searcher train-ranker incontext x.toml", reports.append)
    return folder, reports


def test_a_training_writes_weights_and_a_card(
    finished: tuple[Path, list[PretrainingProgress]],
) -> None:
    folder, reports = finished
    last = reports[-1]
    assert last.step > 0 and last.left == 0 and last.regret is not None
    assert {p.name for p in (folder / "weights").iterdir()} == {
        *("config.json", "model.safetensors", "README.md")
    }
    model = load_model(folder / "weights")
    assert (model.config.width, model.config.exploration) == (16, 0.5)
    average = Pretraining(tiny(folder)).average.state_dict()
    torch.testing.assert_close(dict(model.state_dict()), dict(average))
    card = (folder / "weights" / "README.md").read_text()
    assert "`lm-searcher train-ranker incontext x.toml`" in card
    assert f"{last.step:,} steps, {last.tasks:,} simulated" in card
    assert f"| {last.regret['10']:.3f} |" in card and f"torch {torch.__version__}" in card
    (entry,) = (json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())
    assert entry["regret"] == last.regret and entry["step"] == last.step


def test_a_finished_training_writes_weights_that_a_kill_left_out(
    finished: tuple[Path, list[PretrainingProgress]],
) -> None:
    folder, reports = finished
    weights = folder / "weights" / "model.safetensors"
    whole = weights.read_bytes()
    (folder / "weights").rename(folder / "weights.part")
    assert pretrain(tiny(folder))
    assert weights.read_bytes() == whole and not (folder / "weights.part").exists()
    assert Pretraining(tiny(folder)).step == reports[-1].step


def test_a_training_that_is_stopped_goes_on(tmp_path: Path) -> None:
    config = tiny(tmp_path, minutes=10)
    reports: list[PretrainingProgress] = []
    assert not pretrain(config, stop=iter([False, False, False, True]).__next__)
    stopped = Pretraining(config)
    assert stopped.step == 3 and not (tmp_path / "weights").exists()
    torch.testing.assert_close(
        dict(stopped.model.state_dict()), dict(Pretraining(config).model.state_dict())
    )
    # More of less time: `minutes` may change.
    assert pretrain(tiny(tmp_path, minutes=stopped.seconds / 60 + 1e-4), observe=reports.append)
    assert reports[-1].step > 3 and reports[-1].seconds > stopped.seconds


def test_the_same_seed_begins_alike(tmp_path: Path) -> None:
    states = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = tiny(tmp_path / name, minutes=10, seed=seed, warmup=0.0)
        run = Pretraining(config)
        for episode, _ in zip(run.episodes(), range(2), strict=False):
            run.learn(episode)
        states.append(run.model.state_dict()["score.weight"])
    torch.testing.assert_close(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_bfloat16_trains_much_the_same(tmp_path: Path) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        run = Pretraining(tiny(tmp_path, minutes=10, precision=precision))
        for episode, _ in zip(run.episodes(), range(5), strict=False):
            run.learn(episode)
        losses.append(run.progress().loss)
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.02)


def refused(config: TrainConfig) -> str:
    with pytest.raises(TrainingError) as refusal:
        pretrain(config)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_other_settings_are_refused_and_named(
    finished: tuple[Path, list[PretrainingProgress]],
) -> None:
    message = refused(tiny(finished[0], seed=3, lr=1e-3))
    assert "trained with lr = 0.002, not 0.001; seed = 0, not 3" in message
    same = tiny(Path("elsewhere"), minutes=1, workers=5, threads=2)
    assert load_state(finished[0], same.fixed) is not None


def test_a_checkpoint_of_earlier_versions(tmp_path: Path) -> None:
    fixed = tiny(tmp_path).fixed
    others = {key: value for key, value in fixed.items() if key not in ("courage", "exploration")}
    save_state(tmp_path, {"step": 3}, others | {"courage": 0.5})
    for name in ("courage", "exploration"):
        state = load_state(tmp_path, others | {name: 0.5})
        assert state is not None and state["step"] == 3
        with pytest.raises(TrainingError, match="exploration"):
            load_state(tmp_path, others | {name: 2.0})


def test_damaged_and_foreign_checkpoints(
    finished: tuple[Path, list[PretrainingProgress]], tmp_path: Path
) -> None:
    whole = (finished[0] / "state.pt").read_bytes()
    path = tmp_path / "state.pt"
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "is damaged or no checkpoint" in refused(tiny(tmp_path))
    path.write_bytes(pickle.dumps(TrainConfig(tmp_path)))
    assert "is damaged or no checkpoint" in refused(tiny(tmp_path))
    torch.save({"model": torch.zeros(3)}, path)
    assert "is not of this training" in refused(tiny(tmp_path))


def test_weights_of_another_origin_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mine").write_text("x")
    assert "no checkpoint that it came from" in refused(tiny(tmp_path))
    assert (tmp_path / "weights" / "mine").read_text() == "x"


def test_one_training_a_folder(tmp_path: Path) -> None:
    with training_lock(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    assert "Not a directory" in refused(tiny(tmp_path / "file" / "x"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    message = refused(tiny(tmp_path / "new", device="cuda"))
    assert message == "no device 'cuda' here (accepted: cpu)"
    assert not (tmp_path / "new").exists()


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    config = tiny(tmp_path, minutes=10)
    run = Pretraining(config)
    torch.nn.init.constant_(run.model.score.bias, float("nan"))
    run.save()
    assert "the loss is nan at step 0: choose a lower" in refused(config)
    assert Pretraining(config).step == 0
