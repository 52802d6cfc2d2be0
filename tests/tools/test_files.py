"""Files appear complete or not at all; a lock is one process's at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lm_searcher.tools.files import atomic_file, file_lock, unfinished, write_atomically

HOLDER = """
import os, sys, time
from pathlib import Path
from lm_searcher.tools.files import file_lock

with file_lock(Path(sys.argv[1])):
    if os.fork() == 0:
        os.read(int(sys.argv[2]), 1)  # until the test ends
        os._exit(0)
    print("held", flush=True)
    time.sleep(600)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("data", ["naïve\n", b"\x00\xff"])
def test_a_file_is_replaced(data: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    write_atomically(path, data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert names(tmp_path) == ["a.txt"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before")
    with pytest.raises(UnicodeError):
        write_atomically(path, "\ud800")
    with pytest.raises(RuntimeError, match="half"), atomic_file(path) as file:
        file.write(b"after")
        assert path.read_text() == "before" and len(unfinished(path)) == 1
        raise RuntimeError("half")
    assert path.read_text() == "before" and names(tmp_path) == ["a"]
    with pytest.raises(OSError):
        write_atomically(tmp_path / "no such folder" / "a", "text")


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with file_lock(path):
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError):
                file_lock(path, timeout)
    with file_lock(path, timeout=0):
        pass


def test_a_killed_process_holds_no_lock_though_its_child_lives(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    ours, theirs = os.pipe()
    command = [sys.executable, "-c", HOLDER, str(path), str(ours)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment, pass_fds=[ours], text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(TimeoutError):
            file_lock(path, timeout=0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with file_lock(path, timeout=60):
            pass
        os.close(theirs)  # the child ends
    os.close(ours)
