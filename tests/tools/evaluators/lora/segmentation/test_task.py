"""Segmentation trials on tiny models of random weights; what a trained base gives is measured
by hand (examples/lora-segmentation.toml)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BertConfig,
    SamConfig,
    SamModel,
    SegformerConfig,
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
)
from transformers.utils import logging

from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.errors import ConfigError, DatasetError, EvaluatorError
from lm_searcher.spaces.lora.bases import segmenter
from lm_searcher.spaces.lora.targets import find_targets
from lm_searcher.tools.evaluators.lora.base_process import write
from lm_searcher.tools.evaluators.lora.evaluator import LoraEvaluator
from lm_searcher.tools.evaluators.lora.segmentation.models import (
    form_of,
    head_of,
    load_segmenter,
    logits,
)
from lm_searcher.tools.evaluators.lora.segmentation.scene_base import scene_base
from lm_searcher.tools.evaluators.lora.segmentation.task import SegmentationTask
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.importing import resolve
from lm_searcher.tools.protocols import Evaluation, Metrics

SIDE = 64


@pytest.fixture(autouse=True)
def without_bars() -> None:
    logging.disable_progress_bar()


def images(folder: Path, classes: int, count: int = 6) -> Path:
    """Noise with a bright square for each class; two classes are black and white."""
    rng = np.random.default_rng(0)
    for number in range(count):
        mask = np.zeros((40, 48), np.uint8)
        for value in range(1, classes):
            mask[5 + number : 20 + number, 12 * value : 12 * value + 10] = value
        noise = rng.integers(0, 80, (40, 48, 3))
        picture = (noise + 50 * mask[:, :, None]).clip(0, 255).astype(np.uint8)
        for kind, array in (("images", picture), ("masks", mask * (255 if classes == 2 else 1))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    vision = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": SIDE, "patch_size": 16, "output_channels": 16, "num_pos_feats": 8}
    vision |= {"window_size": 2, "global_attn_indexes": [1]}
    prompts = {"hidden_size": 16, "image_size": SIDE, "mask_input_channels": 4}
    decoder = {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2}
    decoder |= {"iou_head_hidden_dim": 16}
    config = SamConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )
    folder = tmp_path_factory.mktemp("sam")
    SamModel(config).save_pretrained(folder)
    return str(folder)


SMALL: dict[str, Any] = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 8, 16, 16],
    "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_size": 16,
}


def saved_segformer(folder: Path, labels: int = 3, kind: Any = None) -> str:
    torch.manual_seed(0)
    config = SegformerConfig(**SMALL, id2label={i: str(i) for i in range(labels)})
    (kind or SegformerForSemanticSegmentation)(config).save_pretrained(folder)
    # 64 pixels instead of 512, in the form that older checkpoints have
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": SIDE}))
    return str(folder)


def evaluator(base: str, targets: list[str], **settings: Any) -> LoraEvaluator:
    given: dict[str, Any] = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3, **settings}
    task = SegmentationTask(TaskSettings(base=base, **given))
    found = LoraEvaluator(builtin("lora", base=base, targets=targets, ranks=[0, 3]), task)
    found.prepare()
    return found


def trial(found: LoraEvaluator, digit: str) -> Metrics:
    ncode = digit * len(found.space.positions)
    evaluation = Evaluation(0, ncode, found.space.decode(ncode), seed=1)
    return found.evaluate(evaluation, lambda step, value: False)


def test_a_trial_on_sam(sam: str, tmp_path: Path) -> None:
    found = evaluator(sam, ["qkv"], folder=images(tmp_path, 2))
    metrics = trial(found, "1")
    decoder = sum(p.numel() for p in head_of(load_segmenter(sam, 2)).parameters())
    assert metrics["head_params_m"] == pytest.approx(decoder / 1e6)
    assert metrics["lora_params_m"] == pytest.approx(2 * 3 * (16 + 48) / 1e6)
    for part in ("val", "test"):
        assert 0 <= metrics[f"{part}_miou"] <= 1 and 0 <= metrics[f"{part}_s_measure"] <= 1
    assert metrics["epochs"] == 2 and metrics["train_loss"] > 0


def test_without_its_head_only_the_adapters_of_sam_learn(sam: str, tmp_path: Path) -> None:
    settings = {"folder": images(tmp_path, 2), "train_head": False, "gradient_checkpointing": True}
    found = evaluator(sam, ["qkv"], **settings)
    bare, adapted = trial(found, "0"), trial(found, "1")
    assert bare["head_params_m"] == adapted["head_params_m"] == 0
    assert bare["epochs"] == 0 and adapted["epochs"] == 2


def test_sam_has_a_mask_for_each_of_several_classes(sam: str, tmp_path: Path) -> None:
    found = evaluator(sam, ["qkv"], folder=images(tmp_path, 4), epochs=1)
    assert "val_miou" in trial(found, "1")
    pixels = torch.randn(2, 3, SIDE, SIDE)
    for classes in (2, 4):
        model = load_segmenter(sam, classes)
        scores = logits(model, pixels, classes)
        assert scores.shape == (2, classes, SIDE, SIDE)
        scores.square().mean().backward()
        qkv: Any = model.get_submodule("vision_encoder.layers.0.attn.qkv")
        assert qkv.weight.grad.abs().sum() > 0


def test_a_segformer_keeps_the_head_that_fits(tmp_path: Path) -> None:
    base = saved_segformer(tmp_path / "base", labels=3)
    found = evaluator(base, ["q_proj", "v_proj"], folder=images(tmp_path / "data", 3))
    before = load_segmenter(base, 3).state_dict()
    model = found.task.base()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.get_submodule("segformer.stages.0.blocks.0.attention.q_proj").requires_grad_(True)
    metrics = found.task.fit(model, seed=0, report=lambda step, value: False)
    assert metrics["head_params_m"] == 0
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {f"segformer.stages.0.blocks.0.attention.q_proj.{n}" for n in WEIGHTS}


WEIGHTS = ("weight", "bias")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [None, SegformerForImageClassification])
def test_a_segformer_with_other_classes_learns_a_new_head(tmp_path: Path, kind: Any) -> None:
    base = saved_segformer(tmp_path / "base", labels=5, kind=kind)
    folder = images(tmp_path / "data", 3)
    found = evaluator(base, ["q_proj"], folder=folder, epochs=1)
    metrics = trial(found, "1")
    assert metrics["head_params_m"] > 0 and metrics["lora_params_m"] > 0
    with pytest.raises(ConfigError, match="train_head = false, but the head of base"):
        evaluator(base, ["q_proj"], folder=folder, train_head=False)


@pytest.mark.slow
def test_the_embedded_base_takes_a_folder_too(tmp_path: Path) -> None:
    base = scene_base()
    path, less = base.path(tmp_path), {"scenes": 16, "epochs": 1, "batch_size": 8}
    state = resolve(base.train, "base", EvaluatorError)(**{**base.recipe, **less})
    write(state, path)
    own = evaluator("builtin:segmenter", ["fc1"], cache=tmp_path, epochs=1, batch_size=100)
    assert trial(own, "1")["head_params_m"] == 0
    assert own.identity()["base_digest"] in path.name
    folder = images(tmp_path / "data", 2)
    other = evaluator("builtin:segmenter", ["fc1"], cache=tmp_path, folder=folder)
    assert trial(other, "1")["head_params_m"] > 0
    last = "decode_head.linear_fuse.weight"
    assert torch.equal(other.task.base().state_dict()[last], state[last])


@pytest.mark.slow
def test_the_objective_may_be_the_s_measure(tmp_path: Path) -> None:
    write(segmenter().state_dict(), scene_base().path(tmp_path))
    said: list[float] = []
    found = evaluator("builtin:segmenter", ["fc1"], cache=tmp_path, metric="val_s_measure")

    def report(step: int, value: float) -> bool:
        said.append(value)
        return True

    ncode = "0" * len(found.space.positions)
    metrics = found.evaluate(Evaluation(0, ncode, found.space.decode(ncode), 0), report)
    assert (found.metric, found.direction) == ("val_s_measure", "max")
    assert said == [pytest.approx(metrics["val_s_measure"])]


def test_the_patterns_for_32_modules_of_the_example() -> None:
    text = (Path(__file__).parents[5] / "examples" / "lora-segmentation.toml").read_text()
    lines = [line for line in text.splitlines() if line.startswith("# targets = ")]
    huge = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16}
    models = [
        (SamModel, SamConfig(vision_config=huge)),
        (SamModel, SamConfig()),
        (SegformerForSemanticSegmentation, SegformerConfig()),
    ]
    for line, (model_class, config) in zip(lines, models, strict=True):
        with torch.device("meta"):
            model: Any = model_class(config)
        assert len(find_targets(model, json.loads(line.removeprefix("# targets = ")))) == 32


def test_what_a_base_takes(tmp_path: Path, sam: str) -> None:
    form = form_of(saved_segformer(tmp_path, labels=7))
    assert (form.side, form.channels, form.classes) == (SIDE, 3, 7)
    assert form.mean == (0.485, 0.456, 0.406)
    assert (form_of(sam).side, form_of(sam).classes) == (SIDE, 2)


def test_bases_that_do_not_segment(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(EvaluatorError, match="is a bert; accepted for task 'segmentation': sam"):
        form_of(str(tmp_path / "bert"))
    base = saved_segformer(tmp_path / "segformer")
    (tmp_path / "segformer" / "model.safetensors").unlink()
    with pytest.raises(EvaluatorError, match="has no weights; accepted: safetensors"):
        evaluator(base, ["q_proj"], folder=images(tmp_path / "data", 3))
    (tmp_path / "segformer" / "model.safetensors").write_bytes(b"{}")
    with pytest.raises(EvaluatorError, match="cannot be loaded"):
        load_segmenter(base, 3)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="unknown metric of task 'segmentation' 'miou'"):
        SegmentationTask(TaskSettings(base="builtin:segmenter", metric="miou"))
    with pytest.raises(DatasetError, match="base 'some/sam' needs images; accepted for folder"):
        SegmentationTask(TaskSettings(base="some/sam"))
