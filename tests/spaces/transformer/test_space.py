from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.ncode import to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.transformer.network import decoder, encoder, places, rotated
from lm_searcher.spaces.transformer.space import transformer
from lm_searcher.tools.evaluators.training.counting import count_flops, count_parameters

TINY: dict[str, Any] = {"widths": [4, 8], "layers": [1, 2, 3, 6], "heads": [1, 2], "hidden": [2, 6]}
IMAGES: dict[str, Any] = {"in_channels": 2, "classes": 3}
TEXT: dict[str, Any] = {"classes": 11, "context": 5}


def built(space: SearchSpace, ncode: str, **call: Any) -> nn.Module:
    build = encoder if "patch" in space.settings else decoder
    torch.manual_seed(0)
    return build(space.decode(ncode), **call, **space.settings)


def settled(model: nn.Module) -> nn.Module:
    """With weights that leave no part without a say: a fresh block does nothing."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return model.eval()


def symbols(n: int, length: int = 5) -> Tensor:
    return torch.randint(11, (n, length), generator=torch.Generator().manual_seed(2))


def pictures(n: int, height: int = 5, width: int = 4) -> Tensor:
    return torch.randn(n, 2, height, width, generator=torch.Generator().manual_seed(2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("encoder", {"pooling": "mean"}),
        ("encoder", {"pooling": "class", "patch": 3}),
        ("decoder", {"tied": True}),
        ("decoder", {"tied": False}),
    ],
)
def test_codes_build_and_train_and_cost_what_is_said(
    kind: str, setting: dict[str, Any], ncodes_of: Callable[[SearchSpace], list[str]]
) -> None:
    space = transformer(kind, **TINY, **setting)
    assert space.cost is not None
    example = pictures(2) if kind == "encoder" else symbols(2)
    call = IMAGES if kind == "encoder" else TEXT
    for i, ncode in enumerate(ncodes_of(space)):
        model = built(space, ncode, **call)
        logits = model(example)
        assert logits.shape == ((2, 3) if kind == "encoder" else (2, 5, 11))
        (logits**2).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        cost = space.cost(space.decode(ncode), image_size=(5, 4), **call, **space.settings)
        assert cost["params_m"] == count_parameters(model) / 1e6
        if i % 25 == 0:
            assert cost["flops_m"] == count_flops(model, example[:1]) / 1e6


def test_cost_by_hand() -> None:
    space = transformer("encoder", widths=[8], layers=[1], heads=[2], hidden=[16], pooling="class")
    assert space.cost is not None
    cost = space.cost(
        space.decode("0000"), image_size=8, in_channels=1, classes=10, **space.settings
    )
    embed, token, norms, head = 4 * 8 + 8, 8, 3 * 16, 8 * 10 + 10
    attention, feed_forward = 4 * (8 * 8 + 8), 8 * 16 + 16 + 16 * 8 + 8
    total = embed + token + norms + head + attention + feed_forward
    assert cost["params_m"] == total / 1e6
    # 16 patches and the token; products of 2 operations each; attention is scores and mixture.
    products = 16 * 4 * 8 + 17 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 17 * 17 * 8 + 8 * 10
    assert cost["flops_m"] == 2 * products / 1e6


def test_positions_are_two_and_two_a_layer() -> None:
    space = builtin("transformer")
    assert [p.name for p in space.positions][:4] == ["width", "layers", "heads 1", "hidden 1"]
    assert len(space.positions) == 14
    assert all(p.ordered for p in space.positions)
    assert space.description("21" + "13" * 6) == "width 64, layers 2, heads/hidden 2/256 2/256"


@pytest.mark.parametrize("layers", [[1, 2, 3], [3, 1]])
def test_choices_of_layers_that_are_not_there_join(layers: list[int]) -> None:
    space = transformer(widths=[4, 8], layers=layers, heads=[1, 2], hidden=[2])
    ncodes = to_ncodes(space.enumerate())
    classes = {space.canonical(n) for n in ncodes}
    assert len(classes) == sum(2 * 2**depth for depth in layers)
    for ncode in ncodes:
        least = space.canonical(ncode)
        assert least <= ncode and space.canonical(least) == least
        assert space.description(least) == space.description(ncode)
    if layers == [1, 2, 3]:
        assert space.canonical("10101010") == "10100000"  # one layer
        assert space.canonical("11101010") == "11101000"  # two
        assert space.canonical("12101010") == "12101010"  # all three


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_codes_of_a_class_are_one_network_and_others_are_not(kind: str) -> None:
    space = transformer(kind, **TINY)
    call, example = (IMAGES, pictures(2)) if kind == "encoder" else (TEXT, symbols(2))

    def output(ncode: str) -> Tensor:
        with torch.no_grad():
            result: Tensor = settled(built(space, ncode, **call))(example)
        return result

    ncode = "11" + "10" * 6
    assert torch.equal(output(ncode), output(space.canonical(ncode)))
    for other in ("11001010101010", "11111010101010", "12101010101010", "01101010101010"):
        assert not torch.allclose(output(ncode), output(other))


def test_a_later_symbol_changes_no_earlier_logits() -> None:
    model = settled(built(transformer("decoder", **TINY), "12" + "11" * 6, **TEXT))
    one = symbols(3)
    with torch.no_grad():
        before = model(one)
        for place in range(5):
            other = one.clone()
            other[:, place] = (other[:, place] + 1) % 11
            after = model(other)
            assert torch.equal(after[:, :place], before[:, :place])
            assert not torch.allclose(after[:, place:], before[:, place:])


def test_the_order_of_symbols_and_of_patches_matters() -> None:
    text = settled(built(transformer("decoder", **TINY), "12" + "11" * 6, **TEXT))
    image = settled(built(transformer("encoder", **TINY), "12" + "11" * 6, **IMAGES))
    with torch.no_grad():
        one, picture = symbols(1), pictures(1, 4, 4)
        swapped = one[:, [1, 0, 2, 3, 4]]
        assert not torch.allclose(text(one)[:, -1], text(swapped)[:, -1])
        for turned in (picture.roll(2, dims=2), picture.roll(2, dims=3)):
            assert not torch.allclose(image(picture), image(turned))


def test_a_rotary_product_depends_on_the_distance_alone() -> None:
    q, k = torch.randn(2, 1, 1, 1, 6, generator=torch.Generator().manual_seed(0))
    scores = (rotated(q.expand(1, 1, 9, 6)) @ rotated(k.expand(1, 1, 9, 6)).mT)[0, 0]
    for distance in range(9):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand(9 - distance))
    torch.testing.assert_close(scores[0, 0], (q * k).sum())
    assert not math.isclose(float(scores[0, 0]), float(scores[0, 1]), abs_tol=1e-3)


def test_every_place_of_an_image_is_its_own() -> None:
    found = places(8, 5, 7, torch.device("cpu")).flatten(1).T
    assert found.shape == (35, 8)
    assert len(found.unique(dim=0)) == 35


def test_images_of_any_size_are_filled_up_with_zeros() -> None:
    model = settled(built(transformer("encoder", **TINY, patch=3), "00" + "00" * 6, **IMAGES))
    image = pictures(1, 4, 5)
    whole = nn.functional.pad(image, (0, 1, 0, 2))
    with torch.no_grad():
        torch.testing.assert_close(model(image), model(whole))


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_it_runs_in_bfloat16(kind: str) -> None:
    space = transformer(kind, **TINY)
    call, example = (IMAGES, pictures(2)) if kind == "encoder" else (TEXT, symbols(2))
    model = built(space, "12" + "11" * 6, **call)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(example)
    assert logits.isfinite().all()
    logits.float().sum().backward()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "encodr"}, "kind = 'encodr'; accepted: encoder, decoder"),
        ({"pooling": "max"}, "pooling = 'max'; accepted: mean, class"),
        ({"widths": [32, 36], "heads": [1, 8]}, "numbers that divide each width (36 is one)"),
        ({"kind": "decoder", "widths": [8], "heads": [8]}, "in a decoder, heads of even width"),
        ({"widths": [6], "heads": [1]}, "widths = 6; accepted: multiples of 4 in an encoder"),
        ({"layers": []}, "layers = []; accepted: lists of different integers from 1"),
        ({"layers": 3}, "layers = 3; accepted: lists"),
        ({"layers": [0, 1]}, "layers = [0, 1]; accepted: lists of different integers from 1"),
        ({"hidden": [16, True]}, "hidden = [16, True]"),
        ({"hidden": [16, 16]}, "hidden = [16, 16]; accepted: lists of different integers"),
        ({"patch": 0}, "patch = 0; accepted: integers from 1"),
        ({"tied": 1}, "tied = 1; accepted: true, false"),
        ({"depth": [1]}, "unknown setting of space 'transformer' 'depth'"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_clear_line(given: dict[str, Any], says: str) -> None:
    with pytest.raises(SpaceError) as error:
        builtin("transformer", **given)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
