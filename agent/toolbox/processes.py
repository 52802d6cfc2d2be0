"""Searches in background processes, which outlive the program that started them.

The operating system says whether a search runs: a process counts as the run's only while it is
alive and its command line names a file of the run, so stale or reused process ids do no harm.
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
from lm_searcher.agent.study.lease import is_driven
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.toolbox.workspace import RUN_FILE, Workspace
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.files import file_lock

PROGRAM = "lm_searcher.agent"


class ProcessRecord(BaseModel):
    """The latest process of a run, as stored in `process.json`."""

    pid: int
    asked: str = ""
    """`pause` or `stop` once the process was asked to end; otherwise empty."""
    announced: bool = False
    """Whether the end of the process has been reported to a user or a model."""


def record_path(files: RunFiles) -> Path:
    """The file of the process record."""
    return files.folder / "process.json"


def log_path(files: RunFiles) -> Path:
    """The file with the output of the process."""
    return files.folder / "process.log"


def load_record(files: RunFiles) -> ProcessRecord | None:
    """The record of the run's latest process; None if there is none, or it is damaged."""
    try:
        return ProcessRecord.model_validate_json(record_path(files).read_text())
    except (OSError, ValidationError):
        return None


def save_record(files: RunFiles, latest: ProcessRecord) -> None:
    """Store the record atomically."""
    toml.write_text(record_path(files), latest.model_dump_json())


def process(files: RunFiles) -> psutil.Process | None:
    """The live process that was started for the run; None if there is none."""
    latest = load_record(files)
    if latest is None:
        return None
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        if _runs(found := psutil.Process(latest.pid), files):
            return found
    if is_driven(files):  # its parent was killed before the record was stored
        return next((found for found in psutil.process_iter() if _runs(found, files)), None)
    return None


def _runs(found: psutil.Process, files: RunFiles) -> bool:
    """Whether the process runs this search. Its workers do not count: they lead no session."""
    try:
        words = found.cmdline()
        alive = found.status() != psutil.STATUS_ZOMBIE and os.getsid(found.pid) == found.pid
    except (psutil.Error, OSError):
        return False
    path = f"{files.folder}{os.sep}"
    return alive and PROGRAM in words and any(word.startswith(path) for word in words)


def start(files: RunFiles, run_file: str = RUN_FILE) -> int:
    """Start or resume the run in a new process; return the process id.

    Raises ConfigError if the run is under way.
    """
    words = [sys.executable, "-P", "-m", PROGRAM, "run"]
    words += [str(files.folder / run_file), "--name", files.name]
    words += ["--folder", str(files.folder.parent)]
    with file_lock(files.folder / "process.lock", timeout=10):
        if process(files) is not None or is_driven(files):
            raise ConfigError(f"run '{files.name}' is under way already")
        save_record(files, ProcessRecord(pid=-1))
        with open(log_path(files), "ab") as log:
            begun = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_default_sigint,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
            )
        save_record(files, ProcessRecord(pid=begun.pid))
        _await_command_line(begun, files)
    # Reap the child, so that it does not stay a zombie while this process lives.
    threading.Thread(target=begun.wait, daemon=True).start()
    return begun.pid


def _default_sigint() -> None:
    """Runs in the child before exec: restore SIGINT.

    Shells let background jobs ignore SIGINT, and children inherit this. Without the default a
    pause would be lost until the child sets its own handler.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _await_command_line(begun: subprocess.Popen[bytes], files: RunFiles) -> None:
    """Wait, 5 s at most, until the new process has its command line, by which it is recognised."""
    end = time.monotonic() + 5
    while process(files) is None and begun.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


def request_exit(files: RunFiles, asked: str, patience: float = 2.0) -> bool:
    """Send one SIGINT: the process finishes its running trial and ends.

    `asked` is `pause` or `stop`. Returns whether the process has ended within `patience` seconds.
    A second call sends no second signal, which would cut trials short. Raises ConfigError for a
    run that was not started by a tool.
    """
    living, latest = process(files), load_record(files)
    if living is None or latest is None:
        if is_driven(files):
            raise ConfigError(
                f"run '{files.name}' was started elsewhere; press Ctrl-C where it runs"
            )
        if latest is not None and asked == "stop":
            save_record(files, latest.model_copy(update={"asked": asked}))
        return True
    if not latest.asked:
        with contextlib.suppress(psutil.NoSuchProcess):
            living.send_signal(signal.SIGINT)
    save_record(files, latest.model_copy(update={"asked": asked}))
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if process(files) is None:
            save_record(files, latest.model_copy(update={"asked": asked, "announced": True}))
            return True
        time.sleep(0.05)
    return False


def last_log_line(files: RunFiles) -> str:
    """The last line that the process printed, without the program's name; empty if none."""
    try:
        with open(log_path(files), "rb") as log:
            log.seek(max(0, log_path(files).stat().st_size - 4096))
            lines = log.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    printed = [line.strip() for line in lines if line.strip()]
    return printed[-1].removeprefix("lm-searcher: ")[:500] if printed else ""


def running(workspace: Workspace) -> list[str]:
    """The names of the runs with a live process."""
    return [n for n in workspace.names() if process(workspace.files_of(n)) is not None]


def newly_ended(workspace: Workspace) -> list[RunFiles]:
    """The runs whose process has ended since the last call by any program; marks them announced."""
    ended = []
    for name in workspace.names():
        files = workspace.files_of(name)
        latest = load_record(files)
        if latest is None or latest.announced or process(files) is not None:
            continue
        save_record(files, latest.model_copy(update={"announced": True}))
        ended.append(files)
    return ended
