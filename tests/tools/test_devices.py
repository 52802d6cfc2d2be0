"""The accelerators that workers are assigned."""

from __future__ import annotations

import pytest

from lm_searcher.tools.devices import visible_devices


def test_visible_devices_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for listed, expected in (("0,3", ["0", "3"]), ("", []), ("-1", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
        assert visible_devices() == expected
