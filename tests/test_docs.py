"""Every code block of the documentation is run, or checked as far as it can be here.

The blocks of a page run in order, in one folder and one Python namespace:

- a block with ``title="NAME"`` is written to that file, for the blocks after it;
- ``python`` runs; ``json`` is parsed; ``toml`` is loaded as the run, space or training file it is;
- ``bash``: each ``lm-searcher`` line is parsed by the command line. After ``<!-- run -->`` it runs
  too, in this process; ``<!-- run: FLAGS -->`` adds flags that make it short, and
  ``<!-- run: exit 1 -->`` expects that exit code;
- ``text`` is a figure or a file of data.

A line that nothing here can check needs ``<!-- not run: REASON -->`` above its block.
"""

from __future__ import annotations

import io
import json
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer

from lm_searcher.agent.cli.app import app, main
from lm_searcher.agent.settings import run_file
from lm_searcher.agent.settings.train_lm import load_lm
from lm_searcher.agent.settings.train_ranker import load_incontext
from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.space_file import load_space

ROOT = Path(__file__).parents[1]
TOP = ("README.md", "ARCHITECTURE.md", "AGENTS.md", "CONTRIBUTING.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = ("python", "toml", "bash", "json", "text")
GROUPS = [f"lm_searcher.{kind}" for kind in ("spaces", "rankers", "evaluators", "executors")]
GROUPS.append("lm_searcher.metrics")
FENCE = re.compile(r"^( *)```(\w*)(.*)$")
COMMENT = re.compile(r"^ *<!-- (not run|run)(?:: (.+))? -->$")
TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block with what its fence and the comment above it say."""

    place: str
    language: str
    title: str | None
    mark: str
    """`run`, `not run` or empty."""
    detail: str
    """The flags of `run`, the reason of `not run`."""
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    comment = opened = None
    content: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened, content = (number, fence), []
        elif opened is not None and fence:
            start, first = opened
            title, (mark, detail) = TITLE.search(first[3]), comment or ("", "")
            place = f"{page.relative_to(ROOT)}:{start}"
            text = "\n".join(content) + "\n"
            found.append(Block(place, first[2], title and title[1], mark, detail, text))
            comment = opened = None
        elif opened is not None:
            content.append(line.removeprefix(opened[1][1]))
        elif line.strip():
            marked = COMMENT.match(line)
            comment = (marked[1], marked[2] or "") if marked else None
    assert opened is None, f"{page}: a block is not closed"
    return found


# -- what is done with a block -----------------------------------------------------------------


class Reader:
    """Someone who types a page's blocks one after the other, in the current folder."""

    def __init__(self, page: Path, stdin: Callable[[str], None]) -> None:
        self.namespace: dict[str, Any] = {"__name__": f"docs_{page.stem}"}
        self.stdin = stdin

    def do(self, block: Block) -> None:
        """Run or check the block."""
        assert block.language in LANGUAGES, f"{block.place}: '{block.language}' is not one of these"
        if block.title is not None:
            Path(block.title).write_text(block.text)
        getattr(self, block.language)(block)

    def python(self, block: Block) -> None:
        code = compile(block.text, block.place, "exec")
        if block.title is None and block.mark != "not run":
            exec(code, self.namespace)

    def json(self, block: Block) -> None:
        try:
            json.loads(block.text)
        except json.JSONDecodeError:  # one document a line
            for line in block.text.splitlines():
                json.loads(line)

    def text(self, block: Block) -> None:
        pass

    def toml(self, block: Block) -> None:
        path = Path(block.title or "block.toml")
        path.write_text(block.text)
        document = tomllib.loads(block.text)
        if "evaluator" in document:
            space = run_file.load_run_file(path).space
            if space.name is not None and "base" not in space.settings:  # a hub's is not here
                builtin(space.name, **space.settings)
        elif "positions" in document:
            load_space(path)
        elif "project" in document:  # a package with plug-ins
            assert all(group in GROUPS for group in document["project"]["entry-points"])
        elif {"base", "from_scratch"} & document.get("model", {}).keys():
            load_lm(str(path))
        else:
            load_incontext(str(path))

    def bash(self, block: Block) -> None:
        for line in block.text.replace("\\\n", " ").splitlines():
            if not (words := shlex.split(line, comments=True)):
                continue
            if "|" in words:  # printf TEXT | lm-searcher chat
                before = words[: words.index("|")]
                words = words[words.index("|") + 1 :]
                assert before[0] == "printf", f"{block.place}: {line}"
                self.stdin(before[1].replace("\\n", "\n"))
            if ">" in words:  # lm-searcher schema > FILE
                words = words[: words.index(">")]
            if words[0] == "lm-searcher":
                parse(words[1:])
                if block.mark == "run":
                    self.command(words[1:], block)
            else:
                assert block.mark == "not run" or known(words), f"{block.place}: {line}"

    def command(self, words: list[str], block: Block) -> None:
        exits = re.fullmatch(r"exit (\d+)", block.detail)
        flags = [] if exits else shlex.split(block.detail)
        sys.argv = ["lm-searcher", *words, *flags]
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == (int(exits[1]) if exits else 0), shlex.join(sys.argv)


@cache
def command_line() -> Any:
    """The command line as `main` has it, the commands of other packages included."""
    for entry in entry_points(group="lm_searcher.commands"):
        app.command(entry.name)(entry.load())
    return typer.main.get_command(app)


def parse(words: list[str]) -> None:
    """Raises the command line's error for words that it does not accept."""
    context, name, command = None, "lm-searcher", command_line()
    while True:
        context = command.make_context(name, list(words), parent=context)
        if not hasattr(command, "resolve_command"):
            return
        name, command, words = command.resolve_command(context, words)


def known(words: list[str]) -> bool:
    """Whether a line of another program is one that can be checked: make, or one of evals."""
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return all(word in targets for word in words[1:] if "=" not in word)
    if words[:2] == ["python", "-m"] and words[2].startswith("lm_searcher.evals."):
        source = ROOT.joinpath(*words[2].split(".")[1:]).with_suffix(".py").read_text()
        return all(f'"{word}"' in source for word in words[3:] if word.startswith("--"))
    return False


FOUND: dict[str, Callable[[dict[str, Any]], bool]] = {
    "README.md": lambda n: n["result"].best_config == {"width": 96, "activation": "gelu"},
    "docs/guides/optuna.md": lambda n: n["train_and_measure"](**n["best"]) > 0.9,
}
"""Of pages whose search has a known best: whether it was found."""


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_blocks_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    before = set(sys.modules)
    reader = Reader(page, lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text)))
    try:
        for block in blocks(page):
            reader.do(block)
    finally:
        for name in set(sys.modules) - before:  # another page may have a file of the same name
            if not name.startswith(("lm_searcher", "torch")) and (tmp_path / f"{name}.py").exists():
                del sys.modules[name]
    found = FOUND.get(str(page.relative_to(ROOT)))
    assert found is None or found(reader.namespace)


def test_what_is_not_run_has_a_reason(record_property: Callable[[str, object], None]) -> None:
    marked = [block for page in PAGES for block in blocks(page) if block.mark == "not run"]
    for block in marked:
        assert block.detail, f"{block.place}: not run, and no reason"
        record_property(block.place, block.detail)
    assert marked


def test_a_line_that_nothing_checks_is_refused(tmp_path: Path) -> None:
    reader = Reader(tmp_path, lambda text: None)
    block = Block("page:1", "bash", None, "", "", "curl https://example.org\n")
    with pytest.raises(AssertionError, match="curl"):
        reader.bash(block)
    with pytest.raises(Exception, match="--trails"):
        parse(["run", "my-run.toml", "--trails", "3"])


# -- the examples ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.name)
def test_an_example_is_accepted(path: Path) -> None:
    if "positions" in tomllib.loads(path.read_text()):
        load_space(path)
    else:
        run_file.load_run_file(path)


@pytest.mark.slow
def test_the_quickstart_finds_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "quickstart.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("331 ")
