from __future__ import annotations

import contextlib
import html.parser
import io
import json
import logging
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stores import driving

from lm_searcher.agent.cli import app
from lm_searcher.agent.study import sqlite_files
from lm_searcher.agent.study.paths import RunFiles

pytestmark = pytest.mark.slow  # most start an interpreter

HOSTILE = "<script>alert('x')</script>"


@dataclass
class Finished:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out, parse_constant=refuse)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def lm_searcher(*arguments: str | Path) -> Finished:
    """main() in this process, with a terminal that is none."""
    out, err = io.StringIO(), io.StringIO()
    before, code = sys.argv, 0
    sys.argv = ["lm-searcher", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            app.main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        sys.argv = before
    return Finished(code, out.getvalue(), err.getvalue())


def refused(*arguments: str | Path) -> str:
    found = lm_searcher(*arguments)
    assert found.code == 2, found
    assert found.out == "" and "Traceback" not in found.err
    lines = found.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("lm-searcher: "), found.err
    return lines[0]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a table of twelve architectures and a run file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    rows = [
        f"{w},{a},{w / 100 + len(a)},{w}" for w in (8, 16, 32) for a in ("relu", "gelu_", "[b]")
    ]
    (tmp_path / "t.csv").write_text("width,act,acc,params_m\n" + "\n".join(rows) + "\n")
    write(tmp_path)
    return tmp_path


def write(folder: Path, name: str = "job", **sections: str) -> Path:
    found = {
        "evaluator": 'kind = "table"\npath = "t.csv"\nmetric = "acc"',
        "budget": "trials = 6",
    } | sections
    path = folder / f"{name}.toml"
    path.write_text("".join(f"[{s}]\n{text}\n" for s, text in found.items() if text))
    return path


def listing(folder: Path) -> dict[str, int]:
    """Every file and its size, but for what SQLite itself keeps beside a store that is open."""
    found = (p for p in folder.rglob("*") if not p.name.endswith(("-shm", "-wal")))
    return {str(p.relative_to(folder)): p.stat().st_size for p in found}


# -- what works -----------------------------------------------------------------------------------

SHOW_KEYS = {"run", "space", "state", "trials", "incumbent", "subspace", "config"}
TRIAL_KEYS = {
    *("number", "ncode", "state", "value", "metrics", "seed", "fidelity", "reason", "seconds"),
}


def test_verbose_logs_to_the_standard_error(place: Path) -> None:
    logger = logging.getLogger("lm_searcher")
    before = list(logger.handlers), logger.level
    try:
        run = lm_searcher("-v", "run", "job.toml", "--json")
        assert run.code == 0 and run.document["stop_reason"] == "trials"
        assert run.err.count("job") >= 2, "its start and its end"
    finally:
        logger.handlers[:], level = before
        logger.setLevel(level)
    assert lm_searcher("run", "job.toml", "--json").err == ""


def test_run_show_runs_and_report_in_json(place: Path) -> None:
    run = lm_searcher("run", "job.toml", "--json")
    assert run.code == 0 and run.err == ""
    assert run.document.keys() >= SHOW_KEYS and run.document["state"] == "finished"
    assert len(run.document["trials"]) == 6
    assert all(t.keys() >= TRIAL_KEYS for t in run.document["trials"])
    show = lm_searcher("show", "job", "--json")
    assert show.document == run.document
    best = show.document["incumbent"]
    assert best["value"] == max(t["value"] for t in show.document["trials"])
    assert best["config"].keys() == {"width", "act"}
    assert show.document["config"]["budget"]["trials"] == 6
    (row,) = lm_searcher("runs", "--json").document
    assert (row["run"], row["state"], row["trials"]) == ("job", "finished", 6)
    assert (row["best"], row["ncode"]) == (best["value"], best["ncode"])
    report = lm_searcher("report", "job", "-o", "job.html", "--json").document
    assert report == {
        "run": "job",
        "report": "job.html",
        "bytes": (place / "job.html").stat().st_size,
    }


def test_run_show_runs_and_report_in_words(place: Path) -> None:
    run = lm_searcher("run", "job.toml")
    assert run.code == 0 and run.err == ""
    assert run.out.count("] trial ") == 6 and "[6/6] trial 5" in run.out
    best = lm_searcher("show", "job", "--json").document["incumbent"]
    show = lm_searcher("show", "job")
    for text in (run.out, show.out):
        assert "the budget of 6 trials is spent" in text and best["ncode"] in text
        assert f"{best['value']:.4f}" in text and "sqlite:///runs/job/trials.db" in text
    assert "lm-searcher run job.toml" in run.out
    runs = lm_searcher("runs")
    assert "job" in runs.out and "finished" in runs.out and best["ncode"] in runs.out
    assert lm_searcher("report", "job", "-o", "job.html").out == "wrote job.html\n"


def test_flags_go_over_the_file_and_into_the_command_to_continue(place: Path) -> None:
    (place / "my job.toml").write_text((place / "job.toml").read_text())
    arguments = (
        "--trials",
        "3",
        "--seed",
        "5",
        "--ranker",
        "random",
        "--name",
        "x",
        "--workers",
        "2",
    )
    run = lm_searcher("run", "my job.toml", *arguments)
    assert run.code == 0
    shown = lm_searcher("show", "x", "--json").document
    assert len(shown["trials"]) == 3 and shown["config"]["ranker"]["name"] == "random"
    assert shown["config"]["run"]["seed"] == 5 and shown["config"]["executor"]["workers"] == 2
    assert (
        "lm-searcher run 'my job.toml' --name x --seed 5 --ranker random --workers 2 --trials N"
        in run.out
    )
    more = lm_searcher("run", "my job.toml", *arguments[2:], "--trials", "5", "--json").document
    assert [t["ncode"] for t in more["trials"][:3]] == [t["ncode"] for t in shown["trials"]]
    assert len(more["trials"]) == 5


def test_several_objectives_by_flags(place: Path) -> None:
    flags = ["--objective", "acc:max", "--objective", "params_m:min"]
    flags += ["--constraint", "params_m <= 16", "--ranker", "random"]
    run = lm_searcher("run", "job.toml", *flags, "--name", "two", "--json")
    assert run.code == 0, run.err
    front = run.document["front"]
    assert front and all(m["values"]["params_m"] <= 16 for m in front)
    assert run.document["incumbent"] is None
    said = lm_searcher("run", "job.toml", *flags, "--name", "two")
    words = " ".join(said.out.split())
    assert "--objective acc:max --objective params_m:min --constraint 'params_m <= 16'" in words
    assert "Pareto front" in said.out and all(m["ncode"] in said.out for m in front)
    assert f"front of {len(front)}" in lm_searcher("runs").out
    assert "another objective" in refused("run", "job.toml", "--name", "two")
    for wrong in ("acc", ":max", "acc:up"):
        assert refused("run", "job.toml", "--objective", wrong).startswith(
            f"lm-searcher: --objective '{wrong}'; accepted: METRIC:max or METRIC:min"
        )
    assert "constraint 'acc < 3'; accepted" in refused("run", "job.toml", "--constraint", "acc < 3")


def test_a_store_and_a_folder_of_ones_own(place: Path) -> None:
    store = "sqlite:///deep/er/mine.db"
    assert lm_searcher("run", "job.toml", "--store", store).code == 0
    assert (place / "deep/er/mine.db").is_file() and not (place / "runs").exists()
    assert len(lm_searcher("show", "job", "--store", store, "--json").document["trials"]) == 6
    assert [r["run"] for r in lm_searcher("runs", "--store", store, "--json").document] == ["job"]
    assert lm_searcher("run", "job.toml", "--folder", "there").code == 0
    assert (place / "there/job/trials.db").is_file()
    assert [r["run"] for r in lm_searcher("runs", "--folder", "there", "--json").document] == [
        "job"
    ]


def test_runs_where_there_are_none(place: Path) -> None:
    assert lm_searcher("runs").out == "no runs in runs\n"
    assert lm_searcher("runs", "--json").document == []


def test_a_damaged_run_does_not_hide_the_others(place: Path) -> None:
    lm_searcher("run", "job.toml")
    (place / "runs/bad").mkdir()
    (place / "runs/bad/trials.db").write_text("no database, as can be seen\n" * 30)
    rows = {r["run"]: r["state"] for r in lm_searcher("runs", "--json").document}
    assert rows["job"] == "finished" and rows["bad"].startswith("unreadable: store")


def test_spaces(place: Path) -> None:
    listed = lm_searcher("spaces", "--json").document
    assert {"name": "nb201", "positions": 6, "size": 15_625} in listed
    assert "nb201" in lm_searcher("spaces").out and "15,625" in lm_searcher("spaces").out
    one = lm_searcher("spaces", "nb201", "--json").document
    assert one["size"] == 15_625 and len(one["positions"]) == 6
    assert one["positions"][0]["choices"][0] == "none" and one["positions"][0]["ordered"] is False
    assert "nor_conv_3x3" in lm_searcher("spaces", "nb201").out
    own = '[[positions]]\nname = "[b]act"\nchoices = ["[relu]", "[/]", ":smile:"]\n'
    (place / "own.toml").write_text(own)
    words = lm_searcher("spaces", "own.toml").out
    assert "[b]act" in words and "[relu], [/], :smile:" in words, "nothing is taken for markup"


def test_decode(place: Path) -> None:
    found = lm_searcher("decode", "nb201", "033333", "--json").document
    assert found.keys() == {"space", "ncode", "canonical", "config"}
    assert found["canonical"] == "030303" or found["canonical"] <= "033333"
    assert list(found["config"].values()) == ["none"] + ["nor_conv_3x3"] * 5
    words = lm_searcher("decode", "nb201", "033333").out
    assert "edge 1<-0: none" in words and "|none~0|+|nor_conv_3x3~0|" in words


def test_ten_failures_in_a_row_are_told_with_code_1(place: Path) -> None:
    (place / "t.csv").write_text("a,acc\n" + "".join(f"{i},\n" for i in range(20)))
    found = lm_searcher("run", "job.toml", "--trials", "30")
    assert found.code == 1
    reason = "10 failures in a row, the last: 'acc' is nan (float), not a finite number"
    assert found.err == f"run 'job' ended: {reason}\n"
    assert "10 failed: 'acc' is nan" in found.out
    shown = lm_searcher("show", "job", "--json").document
    assert shown["incumbent"] is None and shown["trials"][9]["reason"].startswith("'acc' is nan")


# -- the report -----------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """Tags, what they load, and the text outside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{tag} {k}={v}" for k, v in attributes if k in ("src", "href", "data")]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] not in (["script"], ["style"]):
            self.text += data


def test_the_report_is_one_file_that_escapes_what_is_not_its_own(place: Path) -> None:
    """A hostile position, option and failure reason."""
    header = f"{HOSTILE},act,acc,params_m\n"
    rows = [
        f"{HOSTILE}{i},{a},{i if i < 9 else ''},{i}" for i in range(15) for a in ("<b>", "&amp;")
    ]
    (place / "t.csv").write_text(header + "\n".join(rows) + "\n")
    plain = lm_searcher("run", "job.toml", "--trials", "24", "--json")
    assert plain.code == 0 and any(t["reason"] for t in plain.document["trials"])
    assert lm_searcher("report", "job", "--output", "job.html").code == 0
    text = (place / "job.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.loads == [], "nothing is loaded"
    assert HOSTILE not in text and "<b>" not in re.sub(r"<script.*?</script>", "", text, flags=re.S)
    assert f"architecture{HOSTILE} = " in page.text, "but it can be read"
    for heading in (
        "Best so far",
        "against parameters",
        "What the options did",
        "pruned",
        "Failures",
    ):
        assert heading in page.text
    assert "not a finite number" in page.text
    assert text.count('class="plotly-graph-div"') == 4
    assert not re.search(r"@import|url\(\s*['\"]?http", text.split("<script>")[0])


def test_a_report_that_cannot_be_written_leaves_nothing(place: Path) -> None:
    lm_searcher("run", "job.toml")
    (place / "folder").mkdir()
    before = listing(place)
    assert "report 'folder': Is a directory" in refused("report", "job", "-o", "folder")
    assert "No such file" in refused("report", "job", "-o", "nowhere/x.html")
    assert listing(place) == before


def test_a_report_of_a_run_without_values(place: Path) -> None:
    (place / "t.csv").write_text("a,acc\n1,\n2,\n3,\n")
    lm_searcher("run", "job.toml")
    assert lm_searcher("report", "job", "-o", "job.html").code == 0
    page = Page((place / "job.html").read_text(encoding="utf-8"))
    assert "No trial has a value yet." in page.text and page.loads == []


# -- what is refused ------------------------------------------------------------------------------

PYTHON = 'kind = "python"\nfunction = "no_such_module_anywhere:f"'
CIFAR = 'kind = "train"\ndataset = "cifar10"\nfolder = "nowhere"'
BAD_FILES: dict[str, tuple[dict[str, str], str]] = {
    "space": ({"space": 'name = "nb210"'}, "unknown search space 'nb210'; did you mean 'nb201'?"),
    "space file": ({"space": 'path = "x.toml"'}, "space file 'x.toml': No such file"),
    "ranker": ({"ranker": 'name = "evolutoin"'}, "did you mean 'evolution'?"),
    "section": ({"rankr": 'name = "x"'}, "unknown key 'rankr'; did you mean 'ranker'?"),
    "key": ({"budget": "trails = 3"}, "unknown key in [budget] 'trails'; did you mean 'trials'?"),
    "kind": ({"evaluator": 'kind = "tabel"'}, "unknown kind 'tabel'; did you mean 'table'?"),
    "budget": ({"budget": "trials = -3"}, "[budget] trials = -3: input should be greater"),
    "hours": ({"budget": "hours = -0.5"}, "[budget] hours = -0.5: input should be greater than 0"),
    "table": (
        {"evaluator": 'kind = "table"\npath = "no.npz"\nmetric = "m"'},
        "table 'no.npz': no such file",
    ),
    "metric": (
        {"evaluator": 'kind = "table"\npath = "t.csv"\nmetric = "accc"'},
        "unknown metric 'accc'; did you mean 'acc'?",
    ),
    "import": ({"evaluator": PYTHON, "space": 'name = "nb201"'}, "'no_such_module_anywhere:f'"),
    "cifar": ({"evaluator": CIFAR, "space": 'name = "nb201"'}, "nowhere"),
    "name": ({"run": 'name = "../x"'}, "name '../x'; accepted: up to 100 letters"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_run_file_is_refused_and_nothing_is_written(place: Path, what: str) -> None:
    sections, message = BAD_FILES[what]
    write(place, "bad", **sections)
    before = listing(place)
    assert message in refused("run", "bad.toml")
    assert listing(place) == before
    assert message in refused("run", "bad.toml", "--json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "nowhere.toml"), "run file 'nowhere.toml': No such file or directory"),
        (("run", "."), "run file '.': Is a directory"),
        (("run", "job.toml", "--trials", "-1"), "[budget] trials = -1"),
        (("run", "job.toml", "--seed", "-1"), "[run] seed = -1"),
        (("run", "job.toml", "--workers", "0"), "[executor] workers = 0"),
        (("run", "job.toml", "--ranker", "tpee"), "did you mean 'tpe'?"),
        (("run", "job.toml", "--name", "a/b"), "name 'a/b'; accepted"),
        (("run", "job.toml", "--store", "nonsense"), "store 'nonsense'"),
        (("run", "job.toml", "--store", "sqlite:///t.csv"), "this file is no SQLite database"),
        (("decode", "nb210", "000000"), "unknown space 'nb210'; did you mean 'nb201'?"),
        (("decode", "nb201", "00000"), "5 digits; accepted: 6"),
        (("decode", "nb201", "000005"), "digit 6 ('5') names no option of 'edge 3<-2'"),
        (("decode", "t.csv", "0"), "space file 't.csv'"),
        (("spaces", "nb210"), "did you mean 'nb201'?"),
        (("spaces", "job.toml"), "space file 'job.toml': unknown key 'evaluator'"),
        (("show", "job"), "store 'sqlite:///runs/job/trials.db': no such file"),
        (("show", "../job"), "name '../job'; accepted"),
        (("show", "job", "--store", "sqlite:///t.csv"), "this file is no SQLite database"),
        (("show", "job", "--store", "memory"), "unknown run 'job': there is none"),
        (("runs", "--store", "sqlite:///none.db"), "no such file"),
        (("runs", "--store", "sqlite:///t.csv"), "this file is no SQLite database"),
        (("report", "job", "-o", "x.html"), "no such file"),
    ],
)
def test_a_bad_command_line_is_refused_and_nothing_is_written(
    place: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = listing(place)
    assert message in refused(*arguments)
    assert listing(place) == before


def test_a_card_that_disagrees_is_refused(place: Path) -> None:
    import numpy as np

    np.savez(place / "t.npz", codes=np.zeros((2, 1), np.int8), acc=np.zeros(3))
    card = {
        "name": "t",
        "positions": [{"name": "a", "options": ["x", "y"]}],
        "metrics": {"acc": {"direction": "max"}},
    }
    (place / "t.json").write_text(json.dumps(card))
    write(place, "bad", evaluator='kind = "table"\npath = "t.npz"\nmetric = "acc"')
    before = listing(place)
    assert "table 't.npz': 'acc' has shape (3,)" in refused("run", "bad.toml")
    assert listing(place) == before


def test_own_spaces_that_make_no_sense_are_refused(place: Path) -> None:
    for choices, message in (("[]", "choices is empty"), ("[1, 1]", "duplicate choices (1)")):
        (place / "own.toml").write_text(f'[[positions]]\nname = "a"\nchoices = {choices}\n')
        write(place, "bad", space='path = "own.toml"', evaluator=PYTHON)
        found = refused("run", "bad.toml")
        assert "space file 'own.toml': position 'a': " in found and message in found


def test_a_run_of_something_else_is_refused_and_kept(place: Path) -> None:
    lm_searcher("run", "job.toml")
    before = lm_searcher("show", "job", "--json").document
    assert "has another seed: 0 there, 1 here" in refused("run", "job.toml", "--seed", "1")
    write(place, objective='direction = "min"')
    assert "has another objective direction: max there, min here" in refused("run", "job.toml")
    (place / "t.csv").write_text("width,act,acc\n8,relu,1\n16,relu,2\n")
    write(place)
    assert "has another" in refused("run", "job.toml")
    assert lm_searcher("show", "job", "--json").document == before


def test_a_run_of_that_name_with_the_nearest(place: Path) -> None:
    lm_searcher("run", "job.toml", "--store", "sqlite:///all.db")
    message = refused("show", "jab", "--store", "sqlite:///all.db")
    assert "unknown run 'jab'; did you mean 'job'?" in message


def test_a_run_that_another_process_drives_is_refused(place: Path) -> None:
    lm_searcher("run", "job.toml")
    with driving(RunFiles.of("job", Path("runs"), None)):
        assert "run 'job' is locked: another process drives it" in refused("run", "job.toml")
    assert lm_searcher("run", "job.toml").code == 0


@pytest.fixture
def locked(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sqlite_files, "BUSY_SECONDS", 0.05)
    lm_searcher("run", "job.toml")
    with contextlib.closing(
        sqlite3.connect("runs/job/trials.db", isolation_level=None)
    ) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def test_a_locked_store_is_refused(locked: None) -> None:
    for command in (("run", "job.toml"), ("show", "job")):
        assert "the database is locked by another process" in refused(*command)


# -- as a process ---------------------------------------------------------------------------------


def test_the_installed_command(place: Path) -> None:
    script = Path(sys.executable).with_name("lm-searcher")
    assert script.is_file()
    environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "120"}
    for command in ([script], [sys.executable, "-m", "lm_searcher.agent"]):
        found = subprocess.run(
            [*command, "decode", "nb201", "1"], capture_output=True, text=True, env=environment
        )
        assert found.returncode == 2 and found.stdout == ""
        assert (
            found.stderr
            == "lm-searcher: NCode '1' in space 'nb201': 1 digits; accepted: 6, one a position\n"
        )


def test_help_names_every_command() -> None:
    found = lm_searcher("--help")
    assert found.code == 0
    for command in ("run", "show", "runs", "spaces", "decode", "report"):
        assert re.search(rf"\b{command}\b", found.out)
        assert lm_searcher(command, "--help").code == 0
