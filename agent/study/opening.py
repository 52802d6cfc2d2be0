"""Opening a run's store for the process that drives it: a new run, or one that goes on."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from optuna.pruners import BasePruner

from lm_searcher.agent.study.identity import check_same, versions
from lm_searcher.agent.study.lock import run_lock
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import FORMAT, Identity
from lm_searcher.agent.study.storage import shown
from lm_searcher.agent.study.trial_store import TrialStore
from lm_searcher.spaces.errors import StoreError
from lm_searcher.spaces.space import SearchSpace


@contextlib.contextmanager
def opened(
    files: RunFiles,
    space: SearchSpace,
    objectives: ObjectiveSet,
    identity: Identity,
    pruner: BasePruner,
    config: Mapping[str, Any],
) -> Iterator[TrialStore]:
    """The store of a run, which this process alone drives meanwhile; its trials are loaded.

    Raises StoreError if another process drives the run, or if it is of something else.
    """
    with (
        run_lock(files),
        contextlib.closing(TrialStore(files.url, files.name, space, objectives, pruner)) as store,
    ):
        if "id" not in store.attributes:
            _begin(store, files, identity)
        check_same(files, store.attributes, identity)
        store.load()
        store.put_back()
        store.set_attribute("config", dict(config))
        store.set_attribute("versions", versions())
        yield store


def _begin(store: TrialStore, files: RunFiles, identity: Identity) -> None:
    if store.begun:
        raise StoreError(
            f"store '{shown(files.url)}': study '{files.name}' holds trials of another program; "
            "choose another --name"
        )
    for key, value in identity.document.items():
        store.set_attribute(key, value)
    store.set_attribute("format", FORMAT)
    store.set_attribute("id", uuid.uuid4().hex)  # last: a run is begun once it has one
