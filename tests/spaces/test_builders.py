from __future__ import annotations

import importlib

import pytest

from lm_searcher.spaces.builders import current_builder, current_identity
from lm_searcher.spaces.builtin import BUILTIN, builtin
from lm_searcher.spaces.space import SearchSpace


@pytest.mark.parametrize("space", sorted(BUILTIN))
def test_a_builder_of_an_earlier_version_is_found_under_its_old_name(space: str) -> None:
    builder = str(builtin(space).builder)
    module, function = builder.split(":")
    old = module.replace(".network", "_network") + ":" + function
    assert old != builder and current_builder(old) == builder
    assert current_builder(builder) == builder
    assert SearchSpace.of("own", {"a": [1]}, builder=old).builder == builder
    assert callable(getattr(importlib.import_module(module), function))


def test_a_stored_identity_names_the_present_builder() -> None:
    old = {"kind": "train", "builder": "lm_searcher.spaces.nb201_network:build", "epochs": 3}
    assert current_identity(old) == old | {"builder": "lm_searcher.spaces.nb201.network:build"}
    for other in ({"kind": "table"}, {"builder": "mine:f"}, {"builder": ""}, None, "max"):
        assert current_identity(other) == other
