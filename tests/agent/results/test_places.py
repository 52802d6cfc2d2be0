"""Where trials run: in the live view, and in `show`."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from command_line import lm_searcher
from fake_executor import known_as_fake
from fake_search import search
from rich.console import Console

from lm_searcher.agent.results.live import LiveView
from lm_searcher.agent.results.summary import where_they_run
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.history import Trial, TrialState


def view_on(console: Console) -> LiveView:
    return LiveView(console, "title", ObjectiveSet.of("value"), 20)


def panel(view: LiveView) -> str:
    console = Console(file=io.StringIO(), width=160, record=True)
    console.print(view.render())
    return console.export_text()


def test_of_many_running_trials_the_first_are_listed() -> None:
    trials = [Trial(i, f"{i:03d}", place=f"gpu {i}") for i in reversed(range(64))]
    text = where_they_run(trials)
    assert text.startswith("000 (gpu 0), 001 (gpu 1), ")
    assert text.endswith("007 (gpu 7), and 56 more")
    assert where_they_run(trials[-2:]) == "000 (gpu 0), 001 (gpu 1)"
    assert where_they_run([Trial(0, "000")]) == "000", "where there is one place only"
    assert where_they_run([]) == ""


def test_the_live_view_knows_where_each_trial_runs() -> None:
    view = view_on(Console(file=io.StringIO(), force_terminal=True))
    view(Trial(0, "000"))
    assert "000" in panel(view) and "gpu" not in panel(view)
    view(Trial(0, "000", place="node-3 gpu 1"))
    view(Trial(1, "001", place="node-3 [gpu] 2"))  # no markup
    assert "000 (node-3 gpu 1), 001 (node-3 [gpu] 2)" in panel(view)
    view(Trial(0, "000", TrialState.WAITING, attempt=2))
    view("trial 0 has lost its place")
    assert "000" not in panel(view) and "lost its place" in panel(view)
    assert view.done == view.failed == 0, "the trial has not ended"
    view(Trial(1, "001", TrialState.COMPLETE, value=1.0))
    assert "001 (" not in panel(view) and view.done == 1


def test_elsewhere_than_on_a_terminal_a_lost_place_is_a_line() -> None:
    console = Console(file=io.StringIO(), width=160)
    view = view_on(console)
    view(Trial(0, "000", place="gpu 0"))
    view(Trial(0, "000", TrialState.WAITING, attempt=2))
    view("trial 0 has lost its place")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "trial 0 has lost its place\n"


@pytest.mark.slow
def test_show_tells_where_each_trial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known_as_fake(monkeypatch)
    seen = []

    def look(event: Trial | str) -> None:
        if isinstance(event, Trial) and event.state.finished and event.number == 5:
            for more in ((), ("--json",)):
                seen.append(lm_searcher("show", "run", "--folder", tmp_path, *more))

    search(tmp_path, fake={"workers": 3, "losses": 0.4}, observe=look).run()
    text, document = seen[0].out, seen[1].document
    running = [trial for trial in document["trials"] if trial["state"] == "RUNNING"]
    assert running and all(f"{t['ncode']} ({t['place']})" in text for t in running)
    assert {t["place"] for t in running} <= {"gpu 0", "gpu 1", "gpu 2"}
    assert max(t["attempt"] for t in document["trials"]) > 1
    after = lm_searcher("show", "run", "--folder", tmp_path)
    assert "running" not in after.out and after.code == 0
