from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_searcher.spaces.errors import NCodeError, SpaceError, unknown
from lm_searcher.spaces.ncode import DIGITS, to_ncodes
from lm_searcher.spaces.space import Position, SearchSpace

MLP = SearchSpace.of(
    "mlp", {"width": [32, 64, 128], "activation": ["relu", "gelu"], "bias": [True, False]}
)


@pytest.mark.parametrize(
    ("choices", "ordered"),
    [
        ((1, 2, 4), True),
        ((0.5, 0.1), True),
        ((1, 4, 2), False),
        (("1", "2"), False),
        ((False, True), False),
        ((7,), False),
        ((1, "2"), False),
    ],
)
def test_numbers_in_order_are_ordered(choices: tuple[object, ...], ordered: bool) -> None:
    assert Position("p", choices).ordered is ordered  # type: ignore[arg-type]


def test_what_the_user_says_about_order_stands() -> None:
    assert Position("p", ("small", "large"), ordered=True).ordered is True
    assert Position("p", (1, 2, 3), ordered=False).ordered is False


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ((), "choices is empty; give 1 to 36 options"),
        (("a", "b", "a"), 'duplicate choices ("a")'),
        ((1, 2, 1), "duplicate choices (1)"),
        ((1, 1.0), "equal values of different types"),
        ((1, True), "equal values of different types"),
        ((None,), "None is no option; accepted: text, finite numbers, true, false"),
        (([3, 3],), "is no option"),
        ((float("nan"),), "nan is no option"),
        ((float("inf"), 1.0), "inf is no option"),
    ],
)
def test_a_position_that_makes_no_sense_is_refused_by_name(
    choices: tuple[object, ...], message: str
) -> None:
    with pytest.raises(SpaceError) as refusal:
        Position("kernel", choices)  # type: ignore[arg-type]
    assert "position 'kernel'" in str(refusal.value)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_thirty_six_options_fit_and_thirty_seven_are_refused_with_advice() -> None:
    assert Position("p", tuple(range(36))).ordered
    with pytest.raises(SpaceError, match=r"37 choices, at most 36 .*split it into two positions"):
        Position("p", tuple(range(37)))


def test_a_space_wants_positions_with_names_of_their_own() -> None:
    with pytest.raises(SpaceError, match="no positions"):
        SearchSpace("empty", ())
    with pytest.raises(SpaceError, match="two positions are named 'a'"):
        SearchSpace("twice", (Position("a", (1, 2)), Position("a", (3, 4))))
    with pytest.raises(SpaceError, match="empty name"):
        Position("", (1, 2))


def test_size_is_exact_however_large() -> None:
    assert MLP.size == 12
    large = SearchSpace.of("large", {f"p{i}": list(range(10)) for i in range(60)})
    assert large.size == 10**60
    odd = SearchSpace.of("odd", {f"p{i}": list(range(7)) for i in range(71)})
    assert odd.size == 7**71


def test_decode_names_the_options() -> None:
    assert MLP.decode("210") == {"width": 128, "activation": "gelu", "bias": True}
    assert MLP.encode({"bias": True, "width": 128, "activation": "gelu"}) == "210"
    assert MLP.description("210") == "width = 128, activation = gelu, bias = True"


@pytest.mark.parametrize(
    ("ncode", "message"),
    [
        ("21", "2 digits; accepted: 3"),
        ("2100", "4 digits; accepted: 3"),
        ("", "0 digits; accepted: 3"),
        ("310", "digit 1 ('3') names no option of 'width'; accepted: 0 to 2"),
        ("220", "digit 2 ('2') names no option of 'activation'; accepted: 0 to 1"),
        ("21z", "digit 3 ('z') names no option of 'bias'"),
        ("21-", "digit 3 ('-')"),
        ("21é", "digit 3 ('é')"),
        ("21\u0660", "digit 3"),  # a digit to Python, not to us
        (None, "NoneType"),
    ],
)
def test_a_wrong_ncode_is_refused_with_the_place(ncode: str, message: str) -> None:
    assert not MLP.is_valid(ncode)
    for refuse in (MLP.check, MLP.decode):
        with pytest.raises(NCodeError) as refusal:
            refuse(ncode)
        assert message in str(refusal.value)
        assert "space 'mlp'" in str(refusal.value)


def test_capital_digits_are_not_ours() -> None:
    space = SearchSpace.of("s", {"p": list(range(36))})
    assert space.is_valid("a") and not space.is_valid("A")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"width": 32, "activation": "relu"}, "wants ['width', 'activation', 'bias']"),
        ({"width": 32, "activation": "relu", "bias": True, "x": 1}, "'x'"),
        ({"width": 33, "activation": "relu", "bias": True}, "'width' = 33; accepted: 32, 64, 128"),
    ],
)
def test_a_wrong_configuration_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(NCodeError) as refusal:
        MLP.encode(config)  # type: ignore[arg-type]
    assert message in str(refusal.value)


def test_the_fingerprint_tells_spaces_apart() -> None:
    def of(*choices: object) -> str:
        return SearchSpace.of("s", {"p": list(choices)}).fingerprint  # type: ignore[arg-type]

    assert of(1, 2) == of(1, 2)
    assert len({of(1, 2), of(2, 1), of(1, 2, 3), of(1.0, 2.0), of("1", "2"), of(True, 2)}) == 6
    renamed = SearchSpace.of("s", {"q": [1, 2]})
    assert renamed.fingerprint != of(1, 2)


def test_enumerate_lists_every_architecture_once_in_order() -> None:
    ncodes = to_ncodes(MLP.enumerate())
    assert len(ncodes) == MLP.size
    assert ncodes == sorted(set(ncodes))
    assert all(map(MLP.is_valid, ncodes))


def test_enumerate_takes_more_positions_than_numpy_has_dimensions() -> None:
    single = {f"only{i}": ["it"] for i in range(80)}
    space = SearchSpace.of("s", {"a": [1, 2]} | single | {"b": [1, 2, 3]})  # type: ignore[arg-type]
    codes = space.enumerate()
    assert codes.shape == (6, 82) and codes.dtype == np.uint8
    assert codes[:, [0, -1]].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_samples_are_valid_reach_every_option_and_repeat_for_a_seed() -> None:
    codes = MLP.sample(500, np.random.default_rng(3))
    assert codes.shape == (500, 3) and codes.dtype == np.uint8
    assert all(map(MLP.is_valid, to_ncodes(codes)))
    assert len(set(to_ncodes(codes))) == MLP.size
    assert np.array_equal(codes, MLP.sample(500, np.random.default_rng(3)))


def test_canonical_is_the_code_itself_unless_the_space_says_otherwise() -> None:
    assert MLP.canonical("210") == "210"
    mirrored = SearchSpace.of(
        "mirror", {"a": [1, 2], "b": [1, 2]}, canonical_form=lambda n: min(n, n[::-1])
    )
    assert mirrored.canonical("10") == "01"


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=5)
choices = st.one_of(
    st.lists(names, min_size=1, max_size=36, unique=True),
    st.lists(st.integers(), min_size=1, max_size=36, unique=True),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, unique=True).filter(
        lambda c: len({repr(x) for x in c}) == len(set(c))
    ),
    st.just([False, True]),
)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    positions = draw(st.dictionaries(names, choices, min_size=1, max_size=8))
    return SearchSpace.of("drawn", {n: c[:36] for n, c in positions.items()})


@given(st.data(), spaces())
def test_encode_undoes_decode(data: st.DataObject, space: SearchSpace) -> None:
    ncode = "".join(data.draw(st.sampled_from(DIGITS[:n])) for n in space.cardinalities)
    assert space.is_valid(ncode)
    config = space.decode(ncode)
    assert list(config) == [p.name for p in space.positions]
    assert space.encode(config) == ncode
    assert to_ncodes(space.codes([ncode, ncode])) == [ncode, ncode]


def test_unknown_names_the_nearest_then_all() -> None:
    assert unknown("ranker", "evolutoin", ["tpe", "evolution"]) == (
        "unknown ranker 'evolutoin'; did you mean 'evolution'? (accepted: evolution, tpe)"
    )
    assert unknown("ranker", "xyz", ["tpe"]) == "unknown ranker 'xyz' (accepted: tpe)"
    assert unknown("run", "xyz", []) == "unknown run 'xyz': there is none"
