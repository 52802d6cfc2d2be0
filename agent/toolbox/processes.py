"""Searches in processes of their own, which outlive whoever started them.

Whether one runs is asked of the system: a process counts as the run's only while it lives and its
command line names the run's own file, so a stale or reused process id misleads nobody.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
from pydantic import BaseModel, ValidationError

from lm_searcher.agent.settings import toml
from lm_searcher.agent.study.lock import is_driven
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.toolbox.workspace import RUN_FILE, Workspace
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.files import file_lock

PROGRAM = "lm_searcher.agent"


class Record(BaseModel):
    """What is kept of the process that drives a run, in `process.json`."""

    pid: int
    asked: str = ""
    """`pause` or `stop` once it has been asked to leave."""
    announced: bool = False
    """Whether its end has been told."""


def record_path(files: RunFiles) -> Path:
    """Where the record lies."""
    return files.folder / "process.json"


def log_path(files: RunFiles) -> Path:
    """What the process prints."""
    return files.folder / "process.log"


def record(files: RunFiles) -> Record | None:
    """The latest process of a run; None if it was never started from here."""
    try:
        return Record.model_validate_json(record_path(files).read_text())
    except (OSError, ValidationError):
        return None


def note(files: RunFiles, latest: Record) -> None:
    """Keep the record."""
    toml.write_text(record_path(files), latest.model_dump_json())


def process(files: RunFiles) -> psutil.Process | None:
    """The living process that was started for the run."""
    latest = record(files)
    if latest is None:
        return None
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        if _drives(found := psutil.Process(latest.pid), files):
            return found
    if is_driven(files):  # whoever started it was killed before it could keep the record
        return next((found for found in psutil.process_iter() if _drives(found, files)), None)
    return None


def _drives(found: psutil.Process, files: RunFiles) -> bool:
    """Whether the process was started for this run; its workers were not."""
    try:
        words = found.cmdline()
        alive = found.status() != psutil.STATUS_ZOMBIE and os.getsid(found.pid) == found.pid
    except (psutil.Error, OSError):
        return False
    path = f"{files.folder}{os.sep}"
    return alive and PROGRAM in words and any(word.startswith(path) for word in words)


def start(files: RunFiles, run_file: str = RUN_FILE) -> int:
    """Begin the run, or go on with it, in a new process; its id.

    Raises ConfigError if it is under way.
    """
    words = [sys.executable, "-P", "-m", PROGRAM, "run"]
    words += [str(files.folder / run_file), "--name", files.name]
    words += ["--folder", str(files.folder.parent)]
    with file_lock(files.folder / "process.lock", timeout=10):
        if process(files) is not None or is_driven(files):
            raise ConfigError(f"run '{files.name}' is under way already")
        note(files, Record(pid=-1))
        with open(log_path(files), "ab") as log:
            begun = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_heeds_sigint,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
            )
        note(files, Record(pid=begun.pid))
        _await_command_line(begun, files)
    # So that it does not stay a zombie for as long as this process lives.
    threading.Thread(target=begun.wait, daemon=True).start()
    return begun.pid


def _heeds_sigint() -> None:
    """In a new process: a shell has what it puts in the background ignore SIGINT, and children
    inherit that until they set a handler; a pause in that time would be lost."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _await_command_line(begun: subprocess.Popen[bytes], files: RunFiles) -> None:
    """A process that has just begun shows no command line for a moment, and would pass for none."""
    end = time.monotonic() + 5
    while process(files) is None and begun.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


def ask_to_leave(files: RunFiles, why: str, patience: float = 2.0) -> bool:
    """One SIGINT: it finishes the running trial, then leaves. Whether it has, `patience` later.

    `why` is `pause` or `stop`. A second call sends no second signal: that would cut trials short.
    Raises ConfigError for a run that another program drives.
    """
    living, latest = process(files), record(files)
    if living is None or latest is None:
        if is_driven(files):
            raise ConfigError(
                f"run '{files.name}' was started elsewhere; press Ctrl-C where it runs"
            )
        if latest is not None and why == "stop":
            note(files, latest.model_copy(update={"asked": why}))
        return True
    if not latest.asked:
        with contextlib.suppress(psutil.NoSuchProcess):
            living.send_signal(signal.SIGINT)
    note(files, latest.model_copy(update={"asked": why}))
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if process(files) is None:
            note(files, latest.model_copy(update={"asked": why, "announced": True}))
            return True
        time.sleep(0.05)
    return False


def last_words(files: RunFiles) -> str:
    """The last line of what the process printed, without the program's name before it."""
    try:
        with open(log_path(files), "rb") as log:
            log.seek(max(0, log_path(files).stat().st_size - 4096))
            lines = log.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].removeprefix("lm-searcher: ")[:500] if said else ""


def running(workspace: Workspace) -> list[str]:
    """The runs whose process lives."""
    return [n for n in workspace.names() if process(workspace.files_of(n)) is not None]


def newly_ended(workspace: Workspace) -> list[RunFiles]:
    """The runs whose process has ended since that was last asked, by anyone."""
    ended = []
    for name in workspace.names():
        files = workspace.files_of(name)
        latest = record(files)
        if latest is None or latest.announced or process(files) is not None:
            continue
        note(files, latest.model_copy(update={"announced": True}))
        ended.append(files)
    return ended
