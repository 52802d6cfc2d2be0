"""The controller's statements: tasks of its run, and the workers that may take them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Double,
    Row,
    String,
    bindparam,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from lm_searcher.tools.executors.queue.documents import evaluation_text, outcome_text
from lm_searcher.tools.executors.queue.tables import (
    END,
    ENDED,
    GO_ON,
    NOW,
    RUNNING,
    STOP,
    TASK,
    WAITING,
    WORK,
    WORKER,
    wish_of,
)
from lm_searcher.tools.protocols import Evaluation

RUN, CONTROLLER = bindparam("of_run", type_=String), bindparam("of_controller", type_=String)
EXPIRY = bindparam("expiry", type_=Double)
MINE = (TASK.c.run == RUN) & (TASK.c.controller == CONTROLLER)


@dataclass(frozen=True)
class Tasks:
    """The tasks of one controller. All methods leave what they leave done once if repeated.

    `expiry` is after how many seconds a worker that was not heard of has lost its evaluation.
    """

    run: str
    controller: str
    expiry: float

    def claim(self, connection: Connection) -> int:
        """Take over what earlier controllers of the run have submitted; how many tasks it is."""
        parameters = {"of_run": self.run, "new_controller": self.controller}
        return connection.execute(CLAIM, parameters).rowcount

    def change(
        self,
        connection: Connection,
        recorded: Sequence[tuple[int, int]],
        submitted: Sequence[tuple[Evaluation, int]],
        stopped: Iterable[int],
    ) -> None:
        """Forget tasks whose outcome is recorded, add tasks, and have some stop early.

        `recorded` has keys and attempts. A task that is there already is left as it is, unless an
        earlier controller wished its end.
        """
        if recorded:
            found = [self._mine(of_key=key, of_attempt=attempt) for key, attempt in recorded]
            connection.execute(FORGET, found)
        if submitted:
            connection.execute(SUBMIT, [self._row(*one) for one in submitted])
            connection.execute(select(func.pg_notify(WORK, self.run)))
        for key in stopped:
            connection.execute(WISH_STOP, self._mine(of_key=key))
            connection.execute(select(func.pg_notify(WORK, wish_of(self.run, key))))

    def _row(self, evaluation: Evaluation, attempt: int) -> dict[str, Any]:
        return {
            "run": self.run,
            "key": evaluation.key,
            "attempt": attempt,
            "controller": self.controller,
            "evaluation": evaluation_text(evaluation),
        }

    def look(
        self, connection: Connection, keys: Sequence[int] | None
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """How tasks stand: those of `keys`, or all."""
        if keys is None:
            return connection.execute(LOOK, self._mine()).all()
        return connection.execute(LOOK_AT, self._mine(of_keys=list(keys))).all()

    def places(self, connection: Connection) -> int:
        """Workers that evaluate tasks of the run, or would take one at once."""
        found = connection.execute(PLACES, self._mine(expiry=self.expiry)).one()
        return int(found.running + found.own + max(0, found.any - found.others))

    def refusals(self, connection: Connection) -> dict[str, str]:
        """The places whose worker cannot evaluate the run's trials, and why."""
        rows = connection.execute(REFUSALS, self._mine(expiry=self.expiry))
        return {row.place: json.loads(row.refused)[self.controller] for row in rows}

    def silent(self, connection: Connection) -> dict[str, float]:
        """The workers of running tasks that were not heard of for two thirds of the expiry, and
        for how many seconds."""
        rows = connection.execute(SILENT, self._mine(expiry=self.expiry * 2 / 3))
        return {row.worker: row.age for row in rows}

    def lose(self, connection: Connection, workers: Sequence[str]) -> None:
        """End the tasks of those workers, unless they are heard of again."""
        lost = outcome_text(None, f"its worker was not heard of for {self.expiry:g} s")
        connection.execute(LOSE, self._mine(workers=list(workers), lost=lost, expiry=self.expiry))

    def withdraw(self, connection: Connection) -> None:
        """Remove the tasks that do not run, and have workers end the others."""
        connection.execute(REMOVE, self._mine())
        for key in connection.execute(WISH_END, self._mine()).scalars():
            connection.execute(select(func.pg_notify(WORK, wish_of(self.run, key))))

    def left(self, connection: Connection) -> int:
        """How many tasks are with workers that are heard of."""
        return int(connection.execute(LEFT, self._mine(expiry=self.expiry)).scalar_one())

    def remove(self, connection: Connection) -> None:
        """Remove all tasks: a worker that still evaluates one ends it."""
        connection.execute(delete(TASK).where(MINE), self._mine())

    def _mine(self, **parameters: Any) -> dict[str, Any]:
        return {"of_run": self.run, "of_controller": self.controller, **parameters}


CLAIM = update(TASK).where(TASK.c.run == RUN).values(controller=bindparam("new_controller"))

FORGET = delete(TASK).where(
    MINE, TASK.c.key == bindparam("of_key"), TASK.c.attempt == bindparam("of_attempt")
)

_NEW: dict[str, Any] = {
    "state": WAITING,
    "worker": "",
    "place": "",
    "wish": GO_ON,
    "submitted": NOW,
    "reports": "",
    "outcome": "",
}
_INSERT = insert(TASK).values(_NEW)
SUBMIT = _INSERT.on_conflict_do_update(
    index_elements=["run", "key", "attempt"],
    set_=_NEW | {name: _INSERT.excluded[name] for name in ("controller", "evaluation")},
    where=TASK.c.wish == END,
)

WISH_STOP = (
    update(TASK)
    .where(MINE, TASK.c.key == bindparam("of_key"), TASK.c.wish == GO_ON)
    .values(wish=STOP)
)

LOOK = select(
    TASK.c.key,
    TASK.c.attempt,
    TASK.c.state,
    TASK.c.worker,
    TASK.c.place,
    TASK.c.reports,
    TASK.c.outcome,
).where(MINE)
LOOK_AT = LOOK.where(TASK.c.key.in_(bindparam("of_keys", expanding=True)))

_HEARD = WORKER.c.beat > NOW - EXPIRY
_FREE = (WORKER.c.free == 1) & _HEARD


def _refuses(controller: Any) -> Any:
    return WORKER.c.refused.contains(controller)


_TAKERS = select(func.count()).where(_FREE, ~_refuses(CONTROLLER))
_OTHERS = select(func.count()).where(
    TASK.c.state == WAITING,
    TASK.c.run != RUN,
    exists().where(_FREE, WORKER.c.run.in_(["", TASK.c.run]), ~_refuses(TASK.c.controller)),
)
PLACES = select(
    select(func.count())
    .where(TASK.c.run == RUN, TASK.c.state == RUNNING, TASK.c.wish != END)
    .scalar_subquery()
    .label("running"),
    _TAKERS.where(WORKER.c.run == RUN).scalar_subquery().label("own"),
    _TAKERS.where(WORKER.c.run == "").scalar_subquery().label("any"),
    _OTHERS.scalar_subquery().label("others"),
)

REFUSALS = select(WORKER.c.place, WORKER.c.refused).where(_HEARD, _refuses(CONTROLLER))

_NEVER = literal(float("inf"))
SILENT = (
    select(TASK.c.worker, func.coalesce(NOW - WORKER.c.beat, _NEVER).label("age"))
    .select_from(TASK.outerjoin(WORKER, WORKER.c.id == TASK.c.worker))
    .where(TASK.c.run == RUN, TASK.c.state == RUNNING)
    .where(or_(WORKER.c.beat.is_(None), ~_HEARD))
    .distinct()
)

_OF_HEARD = exists().where(WORKER.c.id == TASK.c.worker, _HEARD)
LOSE = (
    update(TASK)
    .where(TASK.c.run == RUN, TASK.c.state == RUNNING, ~_OF_HEARD)
    .where(TASK.c.worker.in_(bindparam("workers", expanding=True)))
    .values(state=ENDED, worker="", outcome=bindparam("lost", type_=String))
)

REMOVE = delete(TASK).where(MINE, TASK.c.state != RUNNING)
WISH_END = update(TASK).where(MINE, TASK.c.state == RUNNING).values(wish=END).returning(TASK.c.key)
LEFT = select(func.count()).where(MINE, TASK.c.state == RUNNING, _OF_HEARD)
