from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from lm_searcher.spaces.builtin import BUILTIN, builtin
from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.nb201.network import build
from lm_searcher.spaces.nb201.space import canonical, describe, flops, nb201, parameters
from lm_searcher.spaces.ncode import to_ncodes
from lm_searcher.spaces.space import SearchSpace

SPACE = nb201()
NCODES = to_ncodes(SPACE.enumerate())
ncodes = st.text(alphabet="01234", min_size=6, max_size=6)


def sample(n: int) -> list[str]:
    return [str(x) for x in np.random.default_rng(0).choice(NCODES, size=n, replace=False)]


def counted_flops(model: torch.nn.Module, image: torch.Tensor) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(image)
    return counter.get_total_flops()


def test_the_number_of_classes_is_the_published_one() -> None:
    assert len(NCODES) == SPACE.size == 15_625
    assert len({canonical(n) for n in NCODES}) == 6_466


@given(ncodes)
def test_a_canonical_code_is_the_least_of_its_class_and_its_own(ncode: str) -> None:
    least = SPACE.canonical(ncode)
    assert least <= ncode
    assert canonical(least) == least


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("000000", "333000"),  # nothing reaches the output
        ("033333", "030303"),  # node 1 is zero, and so is what leaves it
        ("131000", "000000"),
        ("100030", "000300"),  # a skip passes node 0 through
    ],
)
def test_isomorphic_cells_share_a_representative(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


def test_isomorphic_cells_compute_the_same_function() -> None:
    image = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))

    def output(ncode: str) -> torch.Tensor:
        model = build(SPACE.decode(ncode), in_channels=3, classes=5, channels=1, cells=1)
        # Equal weights wherever an operation stands; no biases, which would tell zeros apart.
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, 0.3 if parameter.dim() > 1 else 1.0)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.zeros_(module.bias)
        with torch.no_grad():
            result: torch.Tensor = model.eval()(image)
        return result

    moved = [n for n in sample(30) if canonical(n) != n]
    assert len(moved) > 5
    for ncode in moved:
        torch.testing.assert_close(output(ncode), output(canonical(ncode)))


def test_describe_is_the_benchmarks_string() -> None:
    assert describe("421134") == (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+"
        "|skip_connect~0|nor_conv_3x3~1|avg_pool_3x3~2|"
    )


def test_parameters_equal_the_tables_for_every_cell(shared_data: Callable[[str], Path]) -> None:
    with np.load(shared_data("nasbench201.npz")) as table:
        published = table["params_M_c10_analytic"].astype(np.float64)
        rows = to_ncodes(table["codes"].astype(np.uint8))
    ours = np.array([parameters(n) for n in rows]) / 1e6
    np.testing.assert_allclose(ours, published, atol=1e-6, rtol=0)


def test_flops_equal_the_tables(shared_data: Callable[[str], Path]) -> None:
    with np.load(shared_data("nasbench201.npz")) as table:
        published = table["flops_M_c100"].astype(np.float64)
        rows = to_ncodes(table["codes"].astype(np.uint8))
    ours = np.array([flops(n, classes=100) for n in rows]) / 2e6
    off = np.abs(ours - published) > 0.0051  # the table is rounded to 0.01
    # 150 rows of the table are off by whole convolutions.
    assert off.sum() == 150


def test_parameters_are_those_of_the_built_network() -> None:
    for ncode in sample(50):
        model = build(SPACE.decode(ncode), in_channels=3, classes=10, channels=16, cells=5)
        assert sum(p.numel() for p in model.parameters()) == parameters(ncode)


@settings(max_examples=20, deadline=None)
@given(ncodes, st.integers(1, 6), st.integers(1, 2), st.integers(1, 12), st.sampled_from([1, 3]))
def test_cost_is_exact_for_other_sizes(
    ncode: str, channels: int, cells: int, side: int, colours: int
) -> None:
    model = build(
        SPACE.decode(ncode), in_channels=colours, classes=7, channels=channels, cells=cells
    )
    count = sum(p.numel() for p in model.parameters())
    assert count == parameters(ncode, channels, cells, 7, colours)
    measured = counted_flops(model, torch.zeros(1, colours, side, side))
    assert measured == flops(ncode, channels, cells, 7, colours, side)


@pytest.mark.slow
def test_codes_build_train_and_cost_what_is_said(
    builds_and_trains: Callable[..., None], ncodes_of: Callable[[SearchSpace], list[str]]
) -> None:
    space = nb201(channels=1, cells=1)
    builds_and_trains(space, ncodes_of(space))


def test_flops_of_the_benchmarks_network() -> None:
    for ncode in ("000000", "423120", "303333"):
        model = build(SPACE.decode(ncode), in_channels=3, classes=10)
        assert counted_flops(model, torch.zeros(1, 3, 32, 32)) == flops(ncode)


@pytest.mark.parametrize("ncode", ["000000", "111111", "333333", "444444", "030000", "421302"])
def test_every_kind_of_cell_trains(ncode: str) -> None:
    torch.manual_seed(0)
    model = build(SPACE.decode(ncode), in_channels=1, classes=10, channels=2, cells=1)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(4, 1, 8, 8).to(memory_format=torch.channels_last)
    logits = model(images)
    assert logits.shape == (4, 10)
    logits.sum().backward()
    assert torch.isfinite(logits).all()


def test_builtin_spaces_are_found_by_name() -> None:
    assert set(BUILTIN) >= {"nb201", "transformer"}
    space = builtin("nb201", channels=8, cells=1)
    assert space.settings == {"channels": 8, "cells": 1}
    assert space.fingerprint == SPACE.fingerprint
    assert [p.name for p in space.positions][2] == "edge 2<-1"


@pytest.mark.parametrize(
    ("name", "given_settings", "says"),
    [
        ("nb202", {}, "unknown search space 'nb202'; did you mean 'nb201'?"),
        ("nb201", {"chanels": 4}, "did you mean 'channels'?"),
        ("nb201", {"cells": 0}, "cells = 0; accepted: integers from 1"),
        ("nb201", {"cells": True}, "cells = True"),
        ("nb201", {"channels": "8"}, "channels = '8'"),
    ],
)
def test_a_wrong_name_or_setting_is_one_clear_line(
    name: str, given_settings: dict[str, object], says: str
) -> None:
    with pytest.raises(SpaceError) as error:
        builtin(name, **given_settings)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
