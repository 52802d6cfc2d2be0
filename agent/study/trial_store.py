"""The trial store: an Optuna study, and the only place where trials live.

One categorical parameter a position; the NCode, seed, ranker, metrics, seconds and failure
reason as attributes; the learning curve as intermediate values; a direction an objective, and
constraints as Optuna keeps them. So Optuna's dashboard, plots and storages work on a run as they
are. Values carry the user's own signs; `history` turns them.
"""

from __future__ import annotations

import contextlib
import copy
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import optuna
import sqlalchemy.engine
import sqlalchemy.exc
from optuna.distributions import CategoricalDistribution
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.errors import StoreError
from lm_searcher.spaces.fidelity import Curves
from lm_searcher.spaces.history import History, Trial, TrialState, reported
from lm_searcher.spaces.ncode import NCode, to_codes
from lm_searcher.spaces.objectives import Values, penalised
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.protocols import Outcome

MEMORY = "memory"
"""The store URL of a run that leaves nothing behind."""

CONSTRAINT = "constraints:"
"""Before the name of a constraint among a trial's system attributes: where Optuna keeps what
``Trial.set_constraint`` is given, feasible at 0 and below."""

BUSY_SECONDS = 30
"""How long a write waits for another process's write to a SQLite store."""

_STATES = {
    TrialState.WAITING: optuna.trial.TrialState.WAITING,
    TrialState.RUNNING: optuna.trial.TrialState.RUNNING,
    TrialState.COMPLETE: optuna.trial.TrialState.COMPLETE,
    TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
    TrialState.FAIL: optuna.trial.TrialState.FAIL,
}
_ORDER = list(_STATES)
"""Codes of the states in an array: those still to come first."""


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLite URL; None for any other store."""
    path = url.removeprefix("sqlite:///")
    return Path(unquote(path)) if path != url else None


def shown(url: str) -> str:
    """A store's URL as it may be printed and kept: without a password."""
    try:
        parsed = sqlalchemy.engine.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        return url
    return parsed.render_as_string(hide_password=True) if parsed.password else url


@contextlib.contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Turn what a database says into one line."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        cause = error.__cause__ or error
        text = " ".join(str(getattr(cause, "orig", None) or cause).split())
        raise StoreError(f"store '{shown(url)}': {_advice(text)}") from error
    except sqlite3.Error as error:
        raise StoreError(f"store '{shown(url)}': {_advice(str(error))}") from error
    except ImportError as error:
        raise StoreError(
            f"store '{shown(url)}' wants a database driver that is not installed "
            "(PostgreSQL: pip install 'lm-searcher[postgres]')"
        ) from error
    except RuntimeError as error:  # Optuna's word for a schema of another version
        raise StoreError(f"store '{shown(url)}': {' '.join(str(error).split())}") from error


def _advice(text: str) -> str:
    if "locked" in text:
        return f"the database is locked by another process; end it, or wait ({text})"
    if "readonly database" in text:
        return "it holds no runs yet"
    if "not a database" in text or "malformed" in text:
        return f"this file is no SQLite database ({text})"
    return text[:300]


@contextlib.contextmanager
def open_storage(url: str, create: bool = True) -> Iterator[BaseStorage]:
    """Optuna's storage at a URL, `memory` included; let go of at the end.

    Without `create` it is for reading: a SQLite file must be there and is not written to.
    Raises StoreError.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url == MEMORY:
        yield InMemoryStorage()
        return
    path, arguments = sqlite_path(url), {}
    with store_errors(url):
        if path is not None:
            if not create and not path.is_file():
                raise StoreError(f"store '{shown(url)}': no such file")
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")  # readers never block the run
            arguments = {"connect_args": {"timeout": BUSY_SECONDS}}
        place = url
        if path is not None and not create:  # quoted for SQLite, and once more for SQLAlchemy
            place = f"sqlite:///file:{quote(quote(str(path)))}?mode=ro&uri=true"
        backend = RDBStorage(place, engine_kwargs=arguments)
    try:
        yield optuna.storages.get_storage(backend)
    finally:
        backend.remove_session()
        backend.engine.dispose()


def studies(url: str) -> list[str]:
    """The names of the runs in a store. Raises StoreError."""
    with open_storage(url, create=False) as storage, store_errors(url):
        return sorted(s.study_name for s in storage.get_all_studies())


def has_run(url: str, name: str) -> bool:
    """Whether the store has a run of that name that has begun. Raises StoreError.

    A process may be killed at any moment of making a store: a file without tables holds none.
    """
    path = sqlite_path(url)
    if path is not None and not _has_study(path, url, name):
        return False
    with open_storage(url, create=False) as storage, store_errors(url):
        known = {s.study_name: s.user_attrs for s in storage.get_all_studies()}
    return "id" in known.get(name, {})


def _has_study(path: Path, url: str, name: str) -> bool:
    if not path.is_file():
        return False
    place = f"file:{quote(str(path))}?mode=ro"
    query = "SELECT count(*) FROM studies WHERE study_name = ?"
    with (
        store_errors(url),
        contextlib.closing(sqlite3.connect(place, BUSY_SECONDS, uri=True)) as connection,
    ):
        try:
            return bool(connection.execute(query, (name,)).fetchone()[0])
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return False
            raise


class TrialStore:
    """One run's trials. This process is the only one that writes them (RunLock sees to it).

    Raises StoreError where the database does not do as it is told.
    """

    def __init__(
        self,
        url: str,
        name: str,
        space: SearchSpace,
        objectives: ObjectiveSet,
        pruner: BasePruner | None = None,
    ) -> None:
        self.url, self.name, self.space, self.objectives = url, name, space, objectives
        self._closing = contextlib.ExitStack()
        self.storage = self._closing.enter_context(open_storage(url))
        wanted = [
            StudyDirection.MAXIMIZE if goal.direction == "max" else StudyDirection.MINIMIZE
            for goal in objectives.goals
        ]
        with store_errors(url):
            try:
                self.study_id = self.storage.create_new_study(wanted, name)
            except optuna.exceptions.DuplicatedStudyError:
                self.study_id = self.storage.get_study_id_from_name(name)
        self.study = optuna.load_study(
            study_name=name,
            storage=self.storage,
            sampler=optuna.samplers.RandomSampler(),
            pruner=pruner or optuna.pruners.NopPruner(),
        )
        self.distributions = {p.name: CategoricalDistribution(p.choices) for p in space.positions}
        self._ids: list[int] = []
        self._curves: dict[int, dict[int, float]] = {}
        self._trials: list[Trial] = []
        # The history's arrays, with room to grow: a step must not cost more in a longer run.
        self._codes = np.zeros((64, len(space.positions)), np.uint8)
        self._values = np.full((64, len(objectives.goals)), np.nan)
        self._violations = np.zeros(64)
        self._states = np.zeros(64, np.uint8)
        self._reported = Curves()

    @property
    def begun(self) -> bool:
        """Whether the study holds trials, whosever."""
        with store_errors(self.url):
            return bool(self.storage.get_n_trials(self.study_id))

    def load(self) -> None:
        """Read the trials of an earlier process."""
        with store_errors(self.url):
            frozen = self.storage.get_all_trials(self.study_id, deepcopy=False)
        for trial in frozen:
            self._ids.append(trial._trial_id)
            self._append(as_trial(trial, self.objectives))

    # -- attributes of the run -------------------------------------------------------------

    @property
    def attributes(self) -> dict[str, Any]:
        """What is stored with the run besides its trials."""
        with store_errors(self.url):
            found: dict[str, Any] = self.storage.get_study_user_attrs(self.study_id)
        return found

    def set_attribute(self, key: str, value: object) -> None:
        """Store something with the run, as JSON."""
        with store_errors(self.url):
            self.storage.set_study_user_attr(self.study_id, key, value)

    # -- trials ------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._trials)

    def __getitem__(self, number: int) -> Trial:
        return self._trials[number]

    @property
    def trials(self) -> Sequence[Trial]:
        """Every trial, by number; grows as the run does."""
        return self._trials

    def history(self, before: int | None = None, weights: Values | None = None) -> History:
        """The trials with a number below `before`, as a ranker sees them.

        Scores are of equal fidelity: trials that were stopped early have estimates of what they
        would have come to (spaces/fidelity.py). With several objectives they are scalarised with
        `weights`; without these they tell domination ranks, as memory and the stopping rules see
        the trials.
        """
        n = len(self._trials) if before is None else min(before, len(self._trials))
        values, violations = self._values[:n].copy(), self._violations[:n]
        values[:, 0] = self._reported.final(values[:, 0])
        return History(
            self._codes[:n].copy(),
            self.objectives.scores(values, violations, weights),
            self._states[:n] == _ORDER.index(TrialState.FAIL),
            self._states[:n] <= _ORDER.index(TrialState.RUNNING),
            penalised(values, violations) if self.objectives.several else None,
        )

    def start(
        self, number: int, ncode: NCode, seed: int, ranker: str, account: Mapping[str, Any] = {}
    ) -> Trial:
        """The trial of that number, made unless an earlier process made it.

        Raises StoreError if it is of another architecture.
        """
        if number < len(self._trials):
            trial = self._trials[number]
            if trial.ncode != ncode:
                raise StoreError(
                    f"store '{shown(self.url)}': trial {number} of run '{self.name}' is of "
                    f"'{trial.ncode}', not '{ncode}'; another program wrote to this run"
                )
            if trial.state is TrialState.WAITING:
                trial = self._set_state(trial, TrialState.RUNNING)
            return trial
        attributes: dict[str, Any] = {"ncode": ncode, "seed": seed, "ranker": ranker}
        if account:
            attributes["account"] = dict(account)
        trial = Trial(number, ncode, seed=seed, usage=Usage.of(account) if account else None)
        template = create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=self.space.decode(ncode),
            distributions=self.distributions,
            user_attrs=attributes,
        )
        with store_errors(self.url):
            trial_id = self.storage.create_new_trial(self.study_id, template)
            given = self.storage.get_trial_number_from_id(trial_id)
        if given != number:
            raise StoreError(
                f"store '{shown(self.url)}': trial {number} of run '{self.name}' became number "
                f"{given}; another program writes to this run"
            )
        self._ids.append(trial_id)
        self._append(trial)
        return trial

    def put_back(self) -> None:
        """Trials whose process has gone wait to be evaluated again: none stays RUNNING."""
        for trial in self._trials:
            if trial.state is TrialState.RUNNING:
                self._set_state(trial, TrialState.WAITING)

    def _set_state(self, trial: Trial, state: TrialState) -> Trial:
        with store_errors(self.url):
            self.storage.set_trial_state_values(self._ids[trial.number], _STATES[state])
        self._trials[trial.number] = trial = replace(trial, state=state)
        self._note(trial)
        return trial

    def report(self, number: int, step: int, value: float) -> bool:
        """Record one point of a learning curve; whether the pruner stops the trial here."""
        if not math.isfinite(value):
            return False
        trial_id = self._ids[number]
        curve = self._curves.setdefault(number, {})
        curve[step] = value
        with store_errors(self.url):
            self.storage.set_trial_intermediate_value(trial_id, step, value)
            frozen = copy.copy(self.storage.get_trial(trial_id))
            frozen.intermediate_values = dict(curve)  # an earlier process may have come further
            return bool(self.study.pruner.prune(self.study, frozen))

    def finish(self, number: int, outcome: Outcome, fidelity: float = 1.0) -> Trial:
        """Record what became of a running trial; one without all metrics has failed."""
        outcome = self.objectives.checked(outcome)
        state, violation = TrialState.FAIL, 0.0
        values: tuple[float, ...] = ()
        margins: Mapping[str, float] = {}
        if outcome.reason is None:
            state = TrialState.PRUNED if outcome.stopped else TrialState.COMPLETE
            values = self.objectives.values(outcome.metrics)
            violation = self.objectives.violation(outcome.metrics)
            margins = self.objectives.margins(outcome.metrics)
        attributes: dict[str, Any] = {"seconds": round(outcome.seconds, 4)}
        if outcome.metrics:
            attributes["metrics"] = dict(outcome.metrics)
        if outcome.reason is not None:
            attributes["reason"] = outcome.reason
        if fidelity != 1.0:
            attributes["fidelity"] = fidelity
        trial_id = self._ids[number]
        with store_errors(self.url):
            for key, content in attributes.items():
                self.storage.set_trial_user_attr(trial_id, key, content)
            for constraint, margin in margins.items():
                self.storage.set_trial_system_attr(trial_id, CONSTRAINT + constraint, margin)
            self.storage.set_trial_state_values(trial_id, _STATES[state], values or None)
        curve = self._curves.pop(number, {})
        trial = replace(
            self._trials[number],
            state=state,
            value=values[0] if values else None,
            values=values,
            violation=violation,
            metrics=dict(outcome.metrics),
            fidelity=fidelity,
            reason=outcome.reason,
            seconds=attributes["seconds"],
            curve=tuple(curve[step] for step in sorted(curve)),
        )
        self._trials[number] = trial
        self._note(trial)
        return trial

    def _append(self, trial: Trial) -> None:
        if trial.number == len(self._states):
            self._codes, self._values, self._violations, self._states = (
                np.concatenate([a, np.zeros_like(a)])
                for a in (self._codes, self._values, self._violations, self._states)
            )
        self._trials.append(trial)
        self._codes[trial.number] = to_codes([trial.ncode], self._codes.shape[1])[0]
        self._note(trial)

    def _note(self, trial: Trial) -> None:
        self._values[trial.number] = self.objectives.row(trial)
        self._violations[trial.number] = trial.violation
        self._states[trial.number] = _ORDER.index(trial.state)
        if trial.curve:
            self._reported.note(trial.number, *reported(trial, self.objectives.sign))

    def close(self) -> None:
        """Let go of the database."""
        self._closing.close()


def as_trial(frozen: FrozenTrial, objectives: ObjectiveSet) -> Trial:
    """One of ours from one of Optuna's."""
    attributes: Mapping[str, Any] = frozen.user_attrs
    state = next(ours for ours, theirs in _STATES.items() if theirs == frozen.state)
    curve = tuple(frozen.intermediate_values[s] for s in sorted(frozen.intermediate_values))
    values = () if state is TrialState.FAIL else tuple(frozen.values or ())
    metrics = attributes.get("metrics", {})
    return Trial(
        number=frozen.number,
        ncode=attributes.get("ncode", ""),
        state=state,
        value=values[0] if values else None,
        values=values,
        violation=objectives.violation(metrics) if values else 0.0,
        metrics=metrics,
        seed=attributes.get("seed", 0),
        fidelity=attributes.get("fidelity", 1.0),
        reason=attributes.get("reason"),
        seconds=attributes.get("seconds"),
        curve=curve,
        usage=Usage.of(attributes["account"]) if "account" in attributes else None,
    )
