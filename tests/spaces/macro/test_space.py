from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.macro.network import SqueezeExcite, build
from lm_searcher.spaces.macro.space import macro
from lm_searcher.spaces.ncode import to_ncodes
from lm_searcher.spaces.space import SearchSpace

SMALL = macro(widths=[4, 6], strides=[1, 2], depth=2, stem=3, stem_stride=1, head=8)


@pytest.mark.slow
def test_codes_build_train_and_cost_what_is_said(
    builds_and_trains: Callable[..., None], ncodes_of: Callable[[SearchSpace], list[str]]
) -> None:
    builds_and_trains(SMALL, ncodes_of(SMALL))


def test_odd_images_and_other_sizes_cost_what_is_said(
    builds_and_trains: Callable[..., None],
) -> None:
    space = macro(widths=[2, 5, 9], strides=[2, 1, 2], depth=3, stem=2, stem_stride=2, head=4)
    builds_and_trains(
        space, to_ncodes(space.sample(10, np.random.default_rng(0))), side=9, counted=10
    )


def test_the_default_is_a_network_for_photographs() -> None:
    space = macro()
    assert (len(space.positions), space.size) == (25, 216**5)
    config = space.decode("00000" + "11111" * 4)
    call = {"in_channels": 3, "classes": 1000, **space.settings}
    with torch.device("meta"):
        model = build(config, **call).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            assert model(torch.empty(1, 3, 224, 224)).shape == (1, 1000)
    assert space.cost is not None
    cost = space.cost(config, image_size=224, **call)
    assert round(cost["params_m"] * 1e6) == sum(p.numel() for p in model.parameters())
    assert round(cost["flops_m"] * 1e6) == counter.get_total_flops()
    assert 2 < cost["params_m"] < 6 and 100 < cost["flops_m"] / 2 < 600  # as MobileNetV2 and V3


def test_widths_are_channels_and_never_coincide() -> None:
    space = macro(widths=[2, 3, 24, 36, 80], strides=[1] * 5)
    widths = [p.choices for p in space.positions if p.name.endswith("width")]
    assert widths == [(1, 2, 3), (2, 3, 4), (18, 24, 30), (24, 36, 48), (64, 80, 96)]
    assert [p.name for p in space.positions[:5]] == [
        f"stage 1 {name}" for name in ("kernel", "expansion", "depth", "width", "squeeze-excite")
    ]


def test_no_two_codes_of_a_stage_have_the_same_network() -> None:
    space = macro(widths=[4], strides=[1], depth=2, stem=3, stem_stride=1, head=8)
    shapes = set()
    for ncode in to_ncodes(space.enumerate()):
        with torch.device("meta"):
            model = build(space.decode(ncode), in_channels=1, classes=2, **space.settings)
        shapes.add(str({name: tuple(p.shape) for name, p in model.named_parameters()}))
    assert len(shapes) == space.size
    assert space.canonical_form is None


def test_squeeze_excite_weighs_channels() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 4, 3, 3) + 1
    ratio = SqueezeExcite(4, 2)(x) / x
    assert torch.allclose(ratio, ratio[:, :, :1, :1]) and ((ratio > 0) & (ratio < 1)).all()
    assert len(np.unique(ratio.detach().numpy().round(6))) == 8


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"widths": []}, "widths = []; accepted: a list of integers from 2, one for each stage"),
        ({"widths": 8}, "widths = 8"),
        ({"widths": [8, 1]}, "widths = [8, 1]"),
        ({"widths": [8]}, "strides = (2, 2, 2, 1, 2); accepted: a list of 1 and 2, one for each"),
        ({"widths": [8], "strides": [3]}, "strides = [3]"),
        ({"depth": 0}, "depth = 0; accepted: integers from 1 to 36"),
        ({"stem": True}, "stem = True; accepted: integers from 1"),
        ({"stem_stride": 3}, "stem_stride = 3; accepted: 1, 2"),
        ({"head": "8"}, "head = '8'; accepted: integers from 1"),
        ({"width": [8]}, "did you mean 'widths'?"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(settings: dict[str, object], says: str) -> None:
    with pytest.raises(SpaceError) as error:
        builtin("macro", **settings)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
