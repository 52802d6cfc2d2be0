"""A PostgreSQL server for the tests, of the system's package or of the wheel `pgserver`.

It listens on a socket in a folder of its own, with fsync on, and ends with the tests.
"""

from __future__ import annotations

import getpass
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

USER = "tester"


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`; None where there is none."""
    wheel = importlib.util.find_spec("pgserver")
    folders = [Path(found).resolve().parent for found in filter(None, [shutil.which("initdb")])]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if wheel is not None and wheel.origin is not None:
        folders.append(Path(wheel.origin).parent / "pginstall" / "bin")
    complete = (f for f in folders if (f / "postgres").exists() and (f / "initdb").exists())
    return next(complete, None)


def owner() -> str | None:
    """Who the server runs as: this user, but for root another; None where there is none."""
    if os.getuid() != 0:
        return getpass.getuser()
    users = {user.pw_name for user in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in users), None)


def why_not() -> str:
    """Why no server can be started here; empty if one can."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed"
    if binaries() is None:
        return "PostgreSQL is not installed (a system package, or pip install pgserver)"
    return "" if owner() else "PostgreSQL does not run as root, and there is no user 'nobody'"


class Postgres:
    """A server. `start` and `stop` may be called again and again."""

    def __init__(self) -> None:
        found, user = binaries(), owner()
        assert found is not None and user is not None
        self.bin, self.user, self._schemas = found, user, itertools.count()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.folder.chmod(0o755)
        shutil.chown(self.folder, user)
        self._process: subprocess.Popen[str] | None = None
        self._run("initdb", "-D", "data", "-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8")

    def _command(self, program: str, arguments: Sequence[str]) -> dict[str, Any]:
        command: dict[str, Any] = {
            "args": [str(self.bin / program), *arguments],
            "cwd": self.folder,
            "env": {"LC_ALL": "C", "PATH": os.environ.get("PATH", "")},
        }
        if os.getuid() == 0:
            group = pwd.getpwnam(self.user).pw_gid
            command |= {"user": self.user, "group": group, "extra_groups": []}
        return command

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(**self._command(program, arguments), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Returns once the server takes connections."""
        arguments = ["-D", "data", "-k", str(self.folder), "-c", "listen_addresses="]
        process = self._process = subprocess.Popen(
            **self._command("postgres", arguments), stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        for line in process.stderr:
            if "ready to accept connections" in line:
                break
        else:
            raise AssertionError(f"PostgreSQL ended with exit code {process.wait()}")
        self._reader = threading.Thread(target=process.stderr.read, daemon=True)
        self._reader.start()

    def stop(self, number: int) -> None:
        """End the server by a signal: SIGTERM waits for clients, SIGINT does not, SIGQUIT is a
        crash. Returns once it has ended."""
        assert self._process is not None and self._process.stderr is not None
        self._process.send_signal(number)
        self._process.wait()
        self._reader.join()
        self._process.stderr.close()

    def kill_clients(self) -> None:
        """End the connections of all others, as a failing network would."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )

    def execute(self, *statements: str) -> list[Any]:
        """Run statements as the superuser; the rows of the last."""
        import psycopg

        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @property
    def conninfo(self) -> str:
        """For psycopg itself."""
        return f"host={self.folder} user={USER} dbname=postgres"

    def url(self, schema: str | None = None, user: str = USER) -> str:
        """The URL of a store: in a schema of its own, a new one unless it is named."""
        if schema is None:
            schema = f"s{next(self._schemas)}"
            self.execute(f"CREATE SCHEMA {schema}")
        options = f"-csearch_path%3D{schema}"
        return f"postgresql://{user}@/postgres?host={self.folder}&options={options}"

    def close(self) -> None:
        """End the server and remove its files."""
        if self._process is not None and self._process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)
