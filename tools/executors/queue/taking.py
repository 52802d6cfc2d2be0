"""A worker's statements: it takes a task, tells how it goes, and is heard of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Connection,
    String,
    bindparam,
    case,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from lm_searcher.tools.executors.queue.documents import evaluation_of
from lm_searcher.tools.executors.queue.tables import (
    ENDED,
    NOW,
    RUNNING,
    TASK,
    WAITING,
    WORK,
    WORKER,
    news_channel,
)
from lm_searcher.tools.protocols import Evaluation

FORGOTTEN_SECONDS = 3600.0
"""Workers that were not heard of for so long are removed."""


@dataclass(frozen=True)
class Taken:
    """A task that a worker has."""

    run: str
    controller: str
    evaluation: Evaluation
    attempt: int

    @property
    def parameters(self) -> dict[str, Any]:
        """Which task it is, for statements."""
        return {"of_run": self.run, "of_key": self.evaluation.key, "of_attempt": self.attempt}

    @property
    def news(self) -> dict[str, str]:
        """Whom to wake, for statements."""
        return {"channel": news_channel(self.run), "payload": str(self.evaluation.key)}


@dataclass
class Taker:
    """A worker as the queue knows it. All methods leave what they leave done once if repeated.

    A task that was taken from the worker meanwhile is not changed by any of them.
    """

    id: str
    run: str
    """The run that it serves; empty: any."""
    place: str
    free: bool = True
    """Whether it takes a task at once."""
    refused: dict[str, str] = field(default_factory=dict)
    """The controllers whose trials it cannot evaluate, and why."""

    def beat(self, connection: Connection) -> None:
        """Be heard of."""
        connection.execute(BEAT, self._row)

    def announce(self, connection: Connection) -> None:
        """Be heard of, and say whether it is free."""
        connection.execute(ANNOUNCE, self._row)

    @property
    def _row(self) -> dict[str, Any]:
        row = {"id": self.id, "run": self.run, "place": self.place, "free": int(self.free)}
        return row | {"refused": json.dumps(self.refused)}

    def leave(self, connection: Connection) -> None:
        """Be no more, and remove workers that were not heard of for long."""
        connection.execute(LEAVE, self._me(forgotten=FORGOTTEN_SECONDS))

    def take(self, connection: Connection) -> Taken | None:
        """The task that waits for longest; None if there is none."""
        refused = list(self.refused)
        parameters = self._me(serves=self.run, place=self.place, refused=refused)
        row = connection.execute(TAKE, parameters).first()
        if row is None:
            return None
        connection.execute(BUSY, self._me())
        evaluation = evaluation_of(row.key, row.evaluation)
        taken = Taken(row.run, row.controller, evaluation, row.attempt)
        _notify(connection, taken.news)
        return taken

    def wish(self, connection: Connection, task: Taken) -> int | None:
        """What the controller wishes of a task; None if it is no longer the worker's."""
        return connection.execute(WISH, self._me(**task.parameters)).scalar()

    def report(self, connection: Connection, task: Taken, text: str) -> int | None:
        """Append a report to the others; the wish, as above."""
        parameters = self._me(text=text, **task.parameters)
        wish = connection.execute(REPORT, parameters).scalar()
        if wish is not None:
            _notify(connection, task.news)
        return wish

    def end(self, connection: Connection, task: Taken, outcome: str) -> bool:
        """Leave the outcome of a task; whether it was still the worker's. `tell_end` comes next."""
        self.announce(connection)
        return (
            connection.execute(FINISH, self._me(outcome=outcome, **task.parameters)).rowcount == 1
        )

    def tell_end(self, connection: Connection, task: Taken) -> None:
        """Wake the controller: in a transaction of its own, since those that notify wait for each
        other, and that of an outcome waits for the disk."""
        _notify(connection, task.news)

    def give_back(self, connection: Connection, task: Taken) -> None:
        """Let another worker take the task."""
        self.announce(connection)
        connection.execute(GIVE_BACK, self._me(**task.parameters))
        _notify(connection, {"channel": WORK, "payload": task.run})

    def drop(self, connection: Connection, task: Taken) -> None:
        """Remove a task whose end the controller wished."""
        self.announce(connection)
        connection.execute(DROP, self._me(**task.parameters))
        _notify(connection, task.news)

    def _me(self, **parameters: Any) -> dict[str, Any]:
        return {"me": self.id, **parameters}


def _notify(connection: Connection, news: Mapping[str, str]) -> None:
    connection.execute(NOTIFY, news)


ME = bindparam("me", type_=String)
MINE = TASK.c.worker == ME
THIS = (
    (TASK.c.run == bindparam("of_run"))
    & (TASK.c.key == bindparam("of_key"))
    & (TASK.c.attempt == bindparam("of_attempt"))
)

NOTIFY = select(func.pg_notify(bindparam("channel"), bindparam("payload")))

_WORKER = insert(WORKER).values(beat=NOW)
BEAT, ANNOUNCE = (
    _WORKER.on_conflict_do_update(
        index_elements=["id"], set_={name: _WORKER.excluded[name] for name in names}
    )
    for names in (["beat"], ["beat", "free", "refused"])
)

LEAVE = delete(WORKER).where((WORKER.c.id == ME) | (WORKER.c.beat < NOW - bindparam("forgotten")))

_SERVES = bindparam("serves", type_=String)
_MAY_TAKE = (
    (TASK.c.state == WAITING)
    & ((_SERVES == "") | (TASK.c.run == _SERVES))
    & TASK.c.controller.not_in(bindparam("refused", expanding=True))
)
# Of a transaction whose commit was not answered, the task is the worker's already.
_HAS = (TASK.c.state == RUNNING) & MINE
_NEXT = (
    select(TASK.c.run, TASK.c.key, TASK.c.attempt)
    .where(_HAS | _MAY_TAKE)
    .order_by(case((TASK.c.state == RUNNING, 0), else_=1), TASK.c.submitted, TASK.c.key)
    .limit(1)
    .with_for_update(skip_locked=True)
    .cte("next_task")
)
TAKE = (
    update(TASK)
    .where(TASK.c.run == _NEXT.c.run, TASK.c.key == _NEXT.c.key, TASK.c.attempt == _NEXT.c.attempt)
    .values(state=RUNNING, worker=ME, place=bindparam("place"), reports="", outcome="")
    .returning(TASK.c.run, TASK.c.controller, TASK.c.key, TASK.c.attempt, TASK.c.evaluation)
)

BUSY = update(WORKER).where(WORKER.c.id == ME).values(free=0)

WISH = select(TASK.c.wish).where(THIS, MINE, TASK.c.state == RUNNING)

REPORT = (
    update(TASK)
    .where(THIS, MINE, TASK.c.state == RUNNING)
    .values(reports=TASK.c.reports + bindparam("text", type_=String))
    .returning(TASK.c.wish)
)

FINISH = (
    update(TASK)
    .where(THIS, MINE, TASK.c.state.in_([RUNNING, ENDED]))
    .values(state=ENDED, outcome=bindparam("outcome"))
)

GIVE_BACK = (
    update(TASK)
    .where(THIS, MINE, TASK.c.state == RUNNING)
    .values(state=WAITING, worker="", place="", reports="")
)

DROP = delete(TASK).where(THIS, MINE)
