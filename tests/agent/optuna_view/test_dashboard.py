"""The dashboard over HTTP, and in a browser while a run goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from optuna_view_results import CONSTRAINED, result_of
from stores import fill, open_store, start

from lm_searcher.agent.optuna_view.dashboard import DashboardServer
from lm_searcher.agent.optuna_view.sources import FixedResults, Source, StoredRuns
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.protocols import Outcome

pytestmark = pytest.mark.slow  # the dashboard's import


@contextmanager
def served(runs: Source) -> Iterator[DashboardServer]:
    with DashboardServer(runs, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server: DashboardServer, path: str) -> Any:
    place = f"http://127.0.0.1:{server.server_port}/api/{path}"
    with urllib.request.urlopen(place, timeout=60) as reply:
        return json.load(reply)


def test_a_run_of_the_folder(folder: Path) -> None:
    with served(StoredRuns(folder, None)) as server:
        [study] = get(server, "studies")["study_summaries"]
        assert (study["study_name"], study["directions"]) == ("one", ["maximize"])
        detail = get(server, f"studies/{study['study_id']}")
        assert detail["objective_names"] == ["value"]
        assert [t["number"] for t in detail["best_trials"]] == [0]
        assert [t["state"] for t in detail["trials"]] == ["Complete", "Fail", "Pruned", "Waiting"]
        first = detail["trials"][0]
        assert [p["param_external_value"] for p in first["params"]] == ["16", "relu", "True"]
        assert {"key": "metric:params", "sortable": True} in detail["union_user_attrs"]
        assert detail["has_intermediate_values"] and first["datetime_complete"]
        assert get(server, "studies/0/param_importances")["param_importances"] == [[]]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(server, "studies/7")


def test_constraints_reach_the_dashboard() -> None:
    one = ObjectiveSet(CONSTRAINED.goals[:1], CONSTRAINED.constraints)
    result = result_of(one, {"acc": 0.9, "size": 5.0}, {"acc": 0.8, "size": 1.0})
    with served(FixedResults(result)) as server:
        detail = get(server, "studies/0")
    assert [t["constraints"] for t in detail["trials"]] == [[2.0], [-2.0]]
    assert [t["number"] for t in detail["best_trials"]] == [1]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", "studies"), ("DELETE", "studies/0"), ("POST", "studies/0/rename")),
        *(("PUT", "studies/0/note"), ("PUT", "studies/0/1/note"), ("POST", "trials/3/tell")),
    ],
)
def test_what_writes_is_refused_with_the_reason(folder: Path, method: str, path: str) -> None:
    with served(StoredRuns(folder, None)) as server:
        place = f"http://127.0.0.1:{server.server_port}/api/{path}"
        body = json.dumps({"version": 1, "body": "x" * 100_000}).encode()
        asked = urllib.request.Request(place, body, method=method)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(asked, timeout=60)
        with caught.value as refusal:
            assert refusal.code == 403 and "only reads" in json.load(refusal)["reason"]


def test_a_port_that_is_in_use(folder: Path) -> None:
    with (
        served(StoredRuns(folder, None)) as server,
        pytest.raises(ConfigError, match="in use; choose another --port"),
    ):
        DashboardServer(StoredRuns(folder, None), "127.0.0.1", server.server_port)
    with pytest.raises(ConfigError, match="cannot serve at"):
        DashboardServer(StoredRuns(folder, None), "256.0.0.1", 0)


def test_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(ConfigError, match=r"lm-searcher\[dashboard\]"):
        DashboardServer(StoredRuns(folder, None), "127.0.0.1", 0)


# -- in a browser ---------------------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """Chromium without a window: the text of a page once its requests have been answered."""

    def __init__(self, profile: Path) -> None:
        found = next(filter(None, map(shutil.which, BROWSERS)), None)
        if found is None:
            pytest.skip(f"no browser is installed: {', '.join(BROWSERS)}")
        self.command = [
            *(found, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"),
            *("--virtual-time-budget=20000", "--dump-dom"),
        ]

    def page(self, url: str) -> str:
        shown = subprocess.run(
            [*self.command, url], capture_output=True, text=True, timeout=120, check=True
        )
        return shown.stdout


def test_a_new_trial_appears_in_the_browser(tmp_path: Path) -> None:
    browser = Browser(tmp_path / "profile")
    files = RunFiles.of("live", tmp_path, None)
    with (
        open_store(files.url, "live") as store,
        served(StoredRuns(tmp_path, None, every=0.0)) as server,
    ):
        fill(store)
        assert "0. live" in browser.page(server.url)
        before = browser.page(f"{server.url}studies/0/trials?numbers=3")
        assert "Trial 3 (trial_id=3)" in before and "Trial 4" not in before
        store.finish(3, Outcome({"value": 0.96875}, 1.0))
        start(store, "001")
        for _ in range(5):  # the browser may write the page down before it is drawn
            after = browser.page(f"{server.url}studies/0/trials?numbers=3")
            if "Trial 4" in after and "0.96875" in after:
                break
        assert "Trial 4" in after and "0.96875" in after and "0.96875" not in before
