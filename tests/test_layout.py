"""The layout: who imports whom, what is packaged, and what --help loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "spaces": {"spaces"},
    "prompts": {"prompts"},
    "tools": {"spaces", "prompts", "tools"},
    "agent": {"spaces", "prompts", "tools", "agent"},
    "evals": {"spaces", "prompts", "tools", "agent", "evals"},
}
FILES = sorted(p for folder in MAY_IMPORT for p in (ROOT / folder).rglob("*.py"))


@cache
def imported(path: Path) -> tuple[tuple[int, str], ...]:
    """Line and module of every import, those within functions too."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    for line, module in imported(path):
        first, *rest = module.split(".")
        assert first not in MAY_IMPORT, f"{path}:{line}: import lm_searcher.{module}"
        if first == "lm_searcher" and rest:
            assert rest[0] in MAY_IMPORT[folder], f"{path}:{line}: {folder} imports {rest[0]}"


def test_the_walk_finds_a_wrong_way_import(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from lm_searcher.agent import search\n    import tools.worker\n")
    found = {module for _, module in imported(path)}
    assert found == {"lm_searcher.agent", "lm_searcher.agent.search", "tools.worker"}


def modules_of(files: Iterable[Path], root: Path) -> dict[str, Path]:
    """The modules by their names; a package's is that of its __init__.py."""
    found = {}
    for path in files:
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(("lm_searcher", *(p for p in parts if p != "__init__")))] = path
    return found


def runtime_imports(path: Path) -> Iterator[tuple[int, str]]:
    """As `imported`, without what only type checkers import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checked = [
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test).endswith("TYPE_CHECKING")
        for node in ast.walk(ast.Module(test.body, []))
    ]
    lines = {node.lineno for node in checked if isinstance(node, ast.Import | ast.ImportFrom)}
    return ((line, module) for line, module in imported(path) if line not in lines)


def cycles(modules: dict[str, Path]) -> list[list[str]]:
    """The groups of modules that import each other, within functions too."""
    graph = {
        name: {m for _, m in runtime_imports(path) if m in modules and m != name}
        for name, path in modules.items()
    }
    reached = {name: _reached(name, graph) for name in graph}
    groups = {frozenset(m for m in graph if m in reached[n] and n in reached[m]) for n in graph}
    return sorted(sorted(group) for group in groups if group)


def _reached(name: str, graph: dict[str, set[str]]) -> set[str]:
    """The modules that a module imports, directly or through others."""
    found: set[str] = set()
    left = [name]
    while left:
        new = graph[left.pop()] - found
        found |= new
        left.extend(new)
    return found


def private_imports(modules: dict[str, Path]) -> list[str]:
    """The underscore names that one file imports from another."""
    return [
        f"{path}:{line}: {module}"
        for path in modules.values()
        for line, module in imported(path)
        if module.startswith("lm_searcher.")
        and any(re.match(r"_(?!_)", word) for word in module.split("."))
    ]


def test_no_two_files_import_each_other() -> None:
    assert cycles(modules_of(FILES, ROOT)) == []


def test_a_name_with_an_underscore_stays_in_its_file() -> None:
    assert private_imports(modules_of(FILES, ROOT)) == []


def test_the_walk_finds_a_cycle_and_a_private_name(tmp_path: Path) -> None:
    written = {
        "a": "from lm_searcher.b import _name\n",
        "b": "def f():\n    import lm_searcher.c\n",
        "c": "from lm_searcher import a\n",
        "d": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lm_searcher.e\n",
        "e": "import lm_searcher.d\n",
    }
    for name, text in written.items():
        (tmp_path / f"{name}.py").write_text(text)
    modules = modules_of(tmp_path.glob("*.py"), tmp_path)
    assert cycles(modules) == [["lm_searcher.a", "lm_searcher.b", "lm_searcher.c"]]
    assert private_imports(modules) == [f"{tmp_path / 'a.py'}:1: lm_searcher.b._name"]


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGING = PROJECT["tool"]["setuptools"]


def test_the_list_of_packages_is_the_tree() -> None:
    folders = {p.parent.relative_to(ROOT) for p in FILES}
    tree = {"lm_searcher." + ".".join(f.parts): str(f) for f in folders}
    assert PACKAGING["package-dir"] == tree
    assert PACKAGING["packages"] == sorted(tree)


def test_every_package_has_its_two_marks() -> None:
    for folder in PACKAGING["package-dir"].values():
        assert (ROOT / folder / "__init__.py").is_file(), folder
        assert (ROOT / folder / "py.typed").is_file(), folder


def test_the_type_checkers_links() -> None:
    links = {p.name: p for p in (ROOT / "typings" / "lm_searcher").iterdir()}
    assert links.keys() == MAY_IMPORT.keys()
    for name, link in links.items():
        assert link.is_symlink() and link.resolve() == ROOT / name
        assert not link.readlink().is_absolute()


def test_the_tests_mirror_the_folders() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.relative_to(ROOT / "tests").parent
        assert (ROOT / folder).is_dir(), f"{path} mirrors no folder"


def test_help_loads_nothing_heavy() -> None:
    heavy = ["torch", "optuna", "langgraph", "plotly", "sklearn", "numpy", "sqlalchemy", "pydantic"]
    code = f"""
import sys
from lm_searcher.agent.cli.app import main
sys.argv = ["lm-searcher", "--help"]
try:
    main()
except SystemExit as error:
    print(error.code, [m for m in {heavy} if m in sys.modules], file=sys.stderr)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Usage" in found.stdout
    assert found.stderr == "0 []\n"


def test_the_command_is_the_one_that_is_installed() -> None:
    assert PROJECT["project"]["scripts"] == {"lm-searcher": "lm_searcher.agent.cli.app:main"}


SUPPLIED = {
    "PIL": "pillow",
    "anyio": "mcp",
    "diffusers": "diffusion",
    "matplotlib": "eval",
    "optuna_dashboard": "dashboard",
    "psycopg": "postgres",
    "ray": "ray",
    "huggingface_hub": "transformers",
    "pydantic_core": "pydantic",
    "scipy": "scikit-learn",
    "sqlalchemy": "optuna",
    "tokenizers": "transformers",
}
"""An extra's, or shown in the interface of a dependency that cannot do without it."""


def test_what_is_imported_is_declared() -> None:
    declared = PROJECT["project"]["dependencies"]
    names = {re.split(r"[>=<\[]", line)[0].replace("-", "_") for line in declared}
    known = names | {"sklearn", "PIL", "lm_searcher"} | set(SUPPLIED) | set(sys.stdlib_module_names)
    for path in FILES:
        for line, module in imported(path):
            name = module.split(".")[0]
            assert name in known, f"{path}:{line}: {name} is no dependency in pyproject.toml"
