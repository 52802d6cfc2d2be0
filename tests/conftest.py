"""What the tests of every folder share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# Before anything imports torch: on tensors this small more threads gain nothing, and where other
# work shares the cores their barriers make the tests ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Finds a benchmark table in shared/data beside, or further above, the checkout.

    Skips the test where there is none: the tables are not part of the repository.
    """

    def locate(name: str) -> Path:
        for folder in Path(__file__).resolve().parents[2:]:
            if (path := folder / "shared" / "data" / name).is_file():
                return path
        pytest.skip(f"no shared/data/{name} beside or above this checkout")

    return locate
