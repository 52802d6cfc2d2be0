"""Adapting the UNet of a Stable Diffusion pipeline: a tiny random one, made here."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lm_searcher.spaces.errors import ConfigError, DatasetError, EvaluatorError, UserError
from lm_searcher.spaces.lora.space import lora
from lm_searcher.tools.evaluators.lora.evaluator import LoraEvaluator
from lm_searcher.tools.evaluators.lora.generation.clip_scores import ClipEmbedding, clip_i, clip_t
from lm_searcher.tools.evaluators.lora.generation.pipeline import Pipeline
from lm_searcher.tools.evaluators.lora.generation.sampling import Sampling
from lm_searcher.tools.evaluators.lora.generation.stable_diffusion import PipelineTask
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.protocols import Evaluation

EXAMPLE = Path(__file__).parents[5] / "examples" / "lora-generation.toml"
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENS = [*LETTERS, *(f"{c}</w>" for c in LETTERS), "<|startoftext|>", "<|endoftext|>"]
TEXT = {
    "vocab_size": len(TOKENS),
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 8,
    "bos_token_id": len(TOKENS) - 2,
    "eos_token_id": len(TOKENS) - 1,
    "pad_token_id": len(TOKENS) - 1,
}


def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer(vocab={t: i for i, t in enumerate(TOKENS)}, merges=[])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pipeline, a CLIP model and captioned images."""
    folder = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
    )
    parts = {
        "unet": unet,
        "vae": vae,
        "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT)),
        "tokenizer": tokenizer(),
        "scheduler": PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True),
    }
    index = {"_class_name": "StableDiffusionPipeline"}
    for name, part in parts.items():
        part.save_pretrained(folder / "pipeline" / name)
        index[name] = type(part).__name__
    (folder / "pipeline" / "model_index.json").write_text(json.dumps(index))
    vision = {"image_size": 8, "patch_size": 4, "hidden_size": 16, "intermediate_size": 16}
    vision |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPModel(CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=8)).save_pretrained(
        folder / "clip"
    )
    tokenizer().save_pretrained(folder / "clip")
    (folder / "images").mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (6, 20, 16, 3))):
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{number}.png")
        (folder / "images" / f"{number}.txt").write_text(f"a {LETTERS[number]}")
    return folder


def task(made: Path, **settings: Any) -> PipelineTask:
    given = {"base": str(made / "pipeline"), "folder": made / "images"} | settings
    return PipelineTask(TaskSettings(**given), Sampling(images=3, steps=2))


def test_the_example_makes_48_groups_of_stable_diffusion(tmp_path: Path) -> None:
    config = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    }
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps(config))
    text = EXAMPLE.read_text().partition("# Full size")[2]
    block = [line.removeprefix("#").strip() for line in text.splitlines()]
    settings = tomllib.loads("\n".join(block[block.index("[space]") :]))["space"]
    assert settings.pop("name") == "lora"
    space = lora(**settings | {"base": str(tmp_path)})
    assert len(space.positions) == 48 and space.size == 3**48
    assert {p.name for p in space.positions} >= {"down.0.1.attn1", "mid.0.attn2", "up.3.2.ff"}


@pytest.mark.slow
def test_a_whole_trial(made: Path) -> None:
    space = lora(str(made / "pipeline"), TARGETS, group=r"(down|mid|up).*(attn\d|ff)\.")
    assert len(space.positions) == 9
    evaluator = LoraEvaluator(
        space, task(made, clip=made / "clip", epochs=1, batch_size=8, gradient_checkpointing=True)
    )
    evaluator.prepare()
    told: list[tuple[int, float]] = []

    def measure(code: str) -> dict[str, float]:
        evaluation = Evaluation(0, code, space.decode(code), seed=1)
        return dict(evaluator.evaluate(evaluation, lambda *step: bool(told.append(step))))

    adapted = measure("012301230")
    assert told == [(1, adapted["val_denoising_loss"])] and adapted["epochs"] == 1
    assert adapted["train_loss"] > 0 and adapted["test_denoising_loss"] > 0
    for name in ("clip_t", "clip_i", "test_clip_t", "test_clip_i"):
        assert -1 <= adapted[name] <= 1
    assert space.cost is not None
    cost = space.cost(space.decode("012301230"))
    assert adapted["lora_params_m"] == cost["lora_params_m"] > 0
    bare = measure("0" * 9)
    assert bare["epochs"] == 0 and bare["val_denoising_loss"] > adapted["val_denoising_loss"]


def test_a_clip_metric_can_be_the_objective(made: Path) -> None:
    wanted = task(made, clip=made / "clip", metric="clip_t")
    wanted.prepare()
    model = wanted.base().requires_grad_(False)
    told: list[tuple[int, float]] = []
    metrics = wanted.fit(model, seed=0, report=lambda *step: bool(told.append(step)))
    assert wanted.direction == "max" and told == [(1, metrics["clip_t"])]
    assert set(metrics) >= {"val_denoising_loss", "clip_i", "test_clip_t", "test_denoising_loss"}
    with pytest.raises(ConfigError, match="clip_t and clip_i need clip"):
        task(made, metric="clip_t")


def test_clip_scores_are_cosines(made: Path) -> None:
    embedding = ClipEmbedding.load(made / "clip", torch.device("cpu"))
    texts = embedding.texts(["a", "a b c", "a far longer caption than there is room for"])
    images = embedding.images(torch.rand(2, 3, 20, 20))
    assert texts.shape == (3, 8) and images.shape == (2, 8)
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(images.norm(dim=1), torch.ones(2))
    one, two = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.0, 1.0], [0.6, 0.8]])
    assert clip_t(one, two) == pytest.approx((0 + 1) / 2)
    assert clip_i(one, two) == pytest.approx((0 + 0.6 + 0.8 + 1) / 4)


def test_the_noise_is_that_of_the_pipeline(made: Path) -> None:
    schedule = Pipeline.find(str(made / "pipeline")).scheduler()
    own = PNDMScheduler.from_pretrained(made / "pipeline" / "scheduler")
    torch.testing.assert_close(schedule.alphas_cumprod, own.alphas_cumprod)
    assert not schedule.config.clip_sample


def fails(kind: type[UserError], wanted: PipelineTask, *words: str) -> None:
    with pytest.raises(kind) as raised:
        wanted.prepare()
    assert all(word in str(raised.value) for word in words), raised.value
    assert "\n" not in str(raised.value)


def test_a_pipeline_that_is_not_whole_is_told_in_one_line(made: Path, tmp_path: Path) -> None:
    fails(EvaluatorError, task(made, base=str(tmp_path / "none")), "no such directory")
    fails(EvaluatorError, task(made, base=str(tmp_path)), "has no model_index.json")

    def broken(name: str) -> Path:
        return Path(shutil.copytree(made / "pipeline", tmp_path / name))

    copy = broken("vae")
    shutil.rmtree(copy / "vae")
    fails(EvaluatorError, task(made, base=str(copy)), "lacks vae/config.json")
    copy = broken("weights")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    fails(EvaluatorError, task(made, base=str(copy)), str(weights), "cannot be read")
    pickled = weights.rename(weights.with_suffix(".bin"))
    fails(EvaluatorError, task(made, base=str(copy)), f"no safetensors but {pickled.name}")
    pickled.unlink()
    fails(EvaluatorError, task(made, base=str(copy)), "has no weights")
    copy = broken("width")
    (copy / "text_encoder" / "config.json").write_text('{"hidden_size": 32}')
    fails(EvaluatorError, task(made, base=str(copy)), "width 16", "gets 32")
    copy = broken("inpainting")
    unet = json.loads((copy / "unet" / "config.json").read_text())
    (copy / "unet" / "config.json").write_text(json.dumps(unet | {"in_channels": 9}))
    fails(EvaluatorError, task(made, base=str(copy)), "channels 9", "gets 4")
    copy = broken("other")
    (copy / "model_index.json").write_text('{"_class_name": "FluxPipeline", "vae": 1}')
    fails(EvaluatorError, task(made, base=str(copy)), "FluxPipeline", "StableDiffusionPipeline")
    (copy / "model_index.json").write_text("{")
    fails(EvaluatorError, task(made, base=str(copy)), "model_index.json' cannot be read")


def test_what_is_asked_of_a_pipeline_is_checked(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="folder is missing"):
        task(made, folder=None)
    fails(ConfigError, task(made, image_size=15), "image_size = 15", "multiples of 2")
    fails(DatasetError, task(made, folder=tmp_path / "none"), "no such directory")
    fails(EvaluatorError, task(made, clip=tmp_path / "none"), "no such directory")
    fails(EvaluatorError, task(made, clip=made / "pipeline" / "unet"), "no CLIP model")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    fails(EvaluatorError, task(made), "pip install 'lm-searcher[diffusion]'")


def test_an_id_that_is_not_to_be_had_is_told_in_one_line(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    fails(EvaluatorError, task(made, base="nobody/nothing"), "nobody/nothing", "no such directory")
