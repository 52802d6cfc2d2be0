from __future__ import annotations

import pickle
import random
from collections.abc import Callable

import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn

from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.darts.cells import CELLS, nodes_of
from lm_searcher.spaces.darts.classes import canonical
from lm_searcher.spaces.darts.network import Cell, Network, build
from lm_searcher.spaces.darts.space import darts, describe
from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.ncode import DIGITS, to_ncodes
from lm_searcher.spaces.space import SearchSpace

SPACE = darts(channels=2, cells=4)
PAPERS = "44" + "044" + "034" + "136" + "11" + "213" + "113" + "413"


def sample(n: int) -> list[str]:
    return to_ncodes(SPACE.sample(n, np.random.default_rng(1)))


@pytest.mark.slow
def test_codes_build_train_and_cost_what_is_said(
    builds_and_trains: Callable[..., None], ncodes_of: Callable[[SearchSpace], list[str]]
) -> None:
    space = darts(channels=1, cells=2)
    builds_and_trains(space, ncodes_of(space))


@pytest.mark.parametrize(
    ("cells", "auxiliary", "side"), [(2, True, 8), (3, False, 7), (6, True, 5)]
)
def test_every_setting_builds_trains_and_costs_what_is_said(
    builds_and_trains: Callable[..., None], cells: int, auxiliary: bool, side: int
) -> None:
    space = darts(channels=2, cells=cells, auxiliary=auxiliary, drop_path=0.3)
    builds_and_trains(space, sample(3), side=side, counted=3)


def cost_of(space: SearchSpace, ncode: str) -> dict[str, float]:
    assert space.cost is not None
    call = {"in_channels": 3, "classes": 10, "image_size": 32, **space.settings}
    return dict(space.cost(space.decode(ncode), **call))


def test_the_papers_network_has_the_papers_cost() -> None:
    assert cost_of(darts(), PAPERS)["params_m"] == 3.349342  # printed by the paper's code
    assert 500 < cost_of(darts(), PAPERS)["flops_m"] / 2 < 560


def test_describe_is_the_papers_genotype() -> None:
    assert describe(PAPERS) == (
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
        "('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), "
        "('dil_conv_3x3', 2)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), "
        "('max_pool_3x3', 1), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), "
        "('skip_connect', 2), ('max_pool_3x3', 1), ('skip_connect', 2)], "
        "reduce_concat=range(2, 6))"
    )


# -- which codes are one architecture ------------------------------------------------------------

NOTHING = "00000000000"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "40" + "000" + "000" + "000",
            "00" + "040" + "000" + "000",
        ),  # the same node at another place
        (
            "44" + "044" + "004" + "000",
            "44" + "044" + "340" + "000",
        ),  # what "none" reads does not matter
        ("00" + "140" + "000" + "000", "00" + "040" + "000" + "000"),
        ("00" + "113" + "000" + "000", "00" + "010" + "000" + "000"),  # a skip of zero is zero
        ("30" + "104" + "000" + "000", "30" + "040" + "000" + "000"),  # state 2 is state 0
    ],
)
def test_equal_cells_share_a_representative(one: str, other: str) -> None:
    assert canonical(one + NOTHING) == canonical(other + NOTHING)


def test_the_inputs_are_one_only_where_the_first_cell_is_the_only_normal_one() -> None:
    one, other = "40" + "000" * 3 + NOTHING, "04" + "000" * 3 + NOTHING
    for cells, same in ((2, True), (3, True), (4, False)):
        space = darts(cells=cells)
        assert (space.canonical(one) == space.canonical(other)) == same
    reduction = NOTHING + one[:11], NOTHING + other[:11]
    assert len({darts(cells=2).canonical(n) for n in reduction}) == 2


def test_a_canonical_code_is_the_least_of_its_class_its_own_and_costs_the_same() -> None:
    for ncode in sample(200):
        least = SPACE.canonical(ncode)
        assert least <= ncode and SPACE.check(least)
        assert SPACE.canonical(least) == least
        assert cost_of(SPACE, least) == cost_of(SPACE, ncode)


def results(ncode: str, kind: str) -> list[tuple[float, float]]:
    """Digests of the nodes' results in any order; equal operations have equal weights."""
    cell = Cell(nodes_of(SPACE.decode(ncode), kind), 2, 2, 2, kind == "reduce", False)
    cell.before = cell.previous = nn.Identity()
    generator = torch.Generator()
    for module in cell.double().eval().modules():
        if isinstance(module, nn.Conv2d):
            generator.manual_seed(hash((module.kernel_size, module.dilation, module.groups)))
            module.weight.data.normal_(std=0.5, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.3)  # so that a convolution of zero is not zero
    generator.manual_seed(0)
    inputs = [torch.randn(1, 2, 8, 8, generator=generator, dtype=torch.double) for _ in range(2)]
    with torch.no_grad():
        nodes = cell(*inputs).chunk(4, dim=1)
    return sorted(
        (round(float(x.sum()), 6) + 0.0, round(float(x.square().sum()), 6)) for x in nodes
    )


def test_equal_cells_compute_the_same_and_others_do_not() -> None:
    rng = random.Random(0)

    def digit(place: int) -> str:
        position = SPACE.positions[place]
        if "inputs" in position.name:
            return DIGITS[rng.randrange(len(position.choices))]
        return rng.choice("00112333345")  # rich in operations that can be seen through

    joined = 0
    for _ in range(60):
        ncode = "".join(digit(place) for place in range(22))
        for first, kind in ((0, "normal"), (11, "reduce")):
            computed = results(ncode, kind)
            assert results(canonical(ncode), kind) == computed
            place = first + rng.randrange(11)
            near = ncode[:place] + digit(place) + ncode[place + 1 :]
            same = canonical(near) == canonical(ncode)
            joined += same and near != ncode
            # Two nodes alike but for their weights look the same here, which they are not.
            if len(set(computed)) == 4 or same:
                assert (results(near, kind) == computed) == same, (ncode, near)
    assert joined >= 5


# -- the network ---------------------------------------------------------------------------------


def network(**settings: object) -> Network:
    torch.manual_seed(0)
    call = {"channels": 2, "cells": 3, **settings}
    return build(SPACE.decode(PAPERS), in_channels=1, classes=10, **call)  # type: ignore[arg-type]


def test_the_second_classifier_speaks_in_training_only() -> None:
    images = torch.randn(2, 1, 8, 8)
    with_head, without = network(auxiliary=True), network()
    with_head(images)
    assert with_head.auxiliary_logits is not None
    assert with_head.auxiliary_logits.shape == (2, 10)
    with_head.eval()(images)
    without(images)
    assert with_head.auxiliary_logits is None and without.auxiliary_logits is None


def test_drop_path_is_noise_in_training_only() -> None:
    images = torch.randn(2, 1, 8, 8)
    model, plain = network(drop_path=0.5), network()
    assert not torch.equal(model(images), model(images))
    assert torch.equal(model.eval()(images), model(images))
    model.train().set_drop_path(0.0)
    torch.testing.assert_close(model(images), plain(images))


def test_drop_path_rises_over_the_epochs() -> None:
    model = network(drop_path=0.4)
    seen = []
    for epoch in (1, 2, 3, 4):
        model.begin_epoch(epoch, 4)
        seen.append(model.cells[0].drop_path)
    assert seen == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_drop_path_keeps_the_mean() -> None:
    cell = network(drop_path=0.25).cells[0]
    assert isinstance(cell, Cell)
    dropped = cell._drop(nn.ReLU(), torch.ones(10_000, 1, 1, 1))
    assert sorted(dropped.unique().tolist()) == [0, pytest.approx(1 / 0.75)]
    assert float(dropped.mean()) == pytest.approx(1, abs=0.03)


def test_the_space_goes_to_a_worker_process() -> None:
    again = pickle.loads(cloudpickle.dumps(SPACE))
    assert again.canonical(PAPERS) == SPACE.canonical(PAPERS)
    assert again.fingerprint == darts().fingerprint
    assert len({kind for kind in CELLS for _ in nodes_of(again.decode(PAPERS), kind)}) == 2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cells": 1}, "cells = 1; accepted: integers from 2"),
        ({"channels": 0}, "channels = 0; accepted: integers from 1"),
        ({"channels": True}, "channels = True"),
        ({"auxiliary": 1}, "auxiliary = 1; accepted: true, false"),
        ({"drop_path": 1}, "drop_path = 1; accepted: 0 <= number < 1"),
        ({"drop_path": "a"}, "drop_path = 'a'"),
        ({"cell": 3}, "did you mean 'cells'?"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(settings: dict[str, object], says: str) -> None:
    with pytest.raises(SpaceError) as error:
        builtin("darts", **settings)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
