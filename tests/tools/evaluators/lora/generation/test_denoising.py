"""The loss of denoisers, and samples, against what is known of simple ones."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from lm_searcher.tools.evaluators.lora.generation.denoising import Probe, random_loss, sample

KINDS = ("epsilon", "v_prediction", "sample")


def scheduler(kind: str) -> DDIMScheduler:
    return DDIMScheduler(prediction_type=kind, clip_sample=False)


def nothing(noisy: Tensor, timesteps: Tensor, conditions: Tensor) -> Tensor:
    return torch.zeros_like(noisy)


def knowing(kind: str) -> tuple[DDIMScheduler, object]:
    """One that knows the images to be all conditions[n], and so what noise there is."""
    schedule = scheduler(kind)

    def predict(noisy: Tensor, timesteps: Tensor, conditions: Tensor) -> Tensor:
        kept = schedule.alphas_cumprod[timesteps][:, None, None, None]
        image = conditions[:, None, None, None].expand_as(noisy)
        noise = (noisy - kept.sqrt() * image) / (1 - kept).sqrt()
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * image
        return {"epsilon": noise, "v_prediction": velocity, "sample": image}[kind]

    return schedule, predict


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_knows_the_image_has_no_loss_and_draws_it(kind: str) -> None:
    schedule, predict = knowing(kind)
    wanted = torch.tensor([-0.5, 0.25])
    images = wanted[:, None, None, None].expand(2, 3, 4, 4)
    probe = Probe.of(images, wanted, schedule, repeats=5)
    assert probe.loss(predict, schedule, batch=3) == pytest.approx(0, abs=1e-5)
    drawn = sample(predict, schedule, torch.randn(2, 3, 4, 4), wanted, steps=4)
    torch.testing.assert_close(drawn, images, atol=1e-2, rtol=0)


def test_the_loss_of_one_that_predicts_nothing_is_the_square_of_what_was_wanted() -> None:
    images, conditions = torch.full((40, 1, 8, 8), 0.5), torch.zeros(40)
    probe = Probe.of(images, conditions, scheduler("epsilon"), repeats=3)
    assert probe.loss(nothing, scheduler("epsilon"), 7) == pytest.approx(
        float(probe.noise.square().mean()), rel=1e-5
    )
    assert probe.loss(nothing, scheduler("sample"), 7) == pytest.approx(0.25, rel=1e-5)


def test_a_probe_asks_the_same_of_all_and_covers_the_timesteps_evenly() -> None:
    images, conditions = torch.randn(10, 1, 2, 2), torch.arange(10)
    one, two = (Probe.of(images, conditions, scheduler("epsilon"), 10) for _ in range(2))
    assert torch.equal(one.noise, two.noise) and torch.equal(one.timesteps, two.timesteps)
    assert sorted(one.timesteps.tolist()) == list(range(5, 1000, 10))
    asked: list[int] = []

    def denoiser(noisy: Tensor, timesteps: Tensor, conditions: Tensor) -> Tensor:
        asked.extend(conditions.tolist())
        return noisy

    one.loss(denoiser, scheduler("epsilon"), 7)
    assert asked == list(range(10)) * 10


def test_a_training_step_draws_from_its_generator() -> None:
    images, conditions, schedule = torch.randn(4, 1, 8, 8), torch.zeros(4), scheduler("epsilon")

    def loss(seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        return float(random_loss(nothing, schedule, images, conditions, generator))

    assert loss(1) == loss(1) != loss(2)


def test_guidance_goes_beyond_the_condition_and_away_from_none() -> None:
    schedule, predict = knowing("sample")
    noise, wanted, none = torch.randn(1, 1, 2, 2), torch.tensor([0.2]), torch.tensor([0.1])
    drawn = sample(predict, schedule, noise, wanted, steps=5, without=none, guidance=3)
    torch.testing.assert_close(drawn, torch.full_like(noise, 0.1 + 3 * 0.1), atol=1e-2, rtol=0)
