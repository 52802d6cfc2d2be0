"""The connection to a Ray cluster, and what is said where there is none."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.executors.cluster.messages import Connect, Work

TRIES = 3
"""Ray gives up after 30 s, which a busy machine may need."""

REACH = 5.0
"""Seconds that a machine has to answer: Ray tries for two minutes."""


def checked_address(address: str) -> str:
    """The address, unless it is one of Ray Client."""
    if "://" in address:
        raise ConfigError(
            f"[executor] address '{address}': Ray Client forgets what runs when its connection "
            "ends; run lm-searcher on a node of the cluster (accepted: auto, HOST:PORT)"
        )
    return address


def environment_with_token() -> dict[str, str]:
    """The variables of a process that uses Ray: with the cluster's token, where there is one.

    Ray reads RAY_AUTH_MODE when it is imported. A cluster without tokens ignores one.
    """
    environment = dict(os.environ)
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & environment.keys()
    if given or (Path.home() / ".ray" / "auth_token").is_file():
        environment.setdefault("RAY_AUTH_MODE", "token")
    return environment


def connect(message: Connect) -> Work:
    """Connect to the cluster; the work with its shares of GPU and processors.

    Raises ConfigError.
    """
    import ray

    address = _found(message.address)
    for attempt in range(1, TRIES + 1):
        try:
            ray.init(
                address=address,
                namespace=message.namespace,
                log_to_driver=False,
                logging_level="warning",
            )
            break
        except (Exception, SystemExit) as error:  # Ray documents none
            print(f"{type(error).__name__}: {error}", flush=True)
            if attempt == TRIES or not isinstance(error, TimeoutError | RuntimeError):
                raise ConfigError(
                    f"[executor] address: the Ray cluster at {address} does not take this machine "
                    "as one of its nodes (is 'ray start' done here, with the cluster's token?)"
                ) from error
    return _shared(message, address, ray.cluster_resources())


def _shared(message: Connect, address: str, resources: dict[str, float]) -> Work:
    has_gpus = resources.get("GPU", 0) > 0
    gpus = (1.0 if has_gpus else 0.0) if message.gpus is None else message.gpus
    cpus = (0.0 if gpus else 1.0) if message.cpus is None else message.cpus
    if gpus and not has_gpus:
        raise ConfigError(
            f"[executor] gpus = {gpus:g}: the Ray cluster at {address} has no GPU; accepted: 0"
        )
    return replace(message.work, gpus=gpus, cpus=cpus)


def _found(address: str) -> str:
    """HOST:PORT of a cluster whose head answers."""
    from ray._private import services

    if address == "auto":
        address = checked_address(os.environ.get("RAY_ADDRESS") or address)
    try:
        found = services.canonicalize_bootstrap_address(address)
    except (ConnectionError, ValueError, OSError) as error:
        found = None
        reason = str(error)
    if found is None:
        if address == "auto":
            raise ConfigError(
                "[executor] address = 'auto': no Ray cluster runs on this machine; "
                "'ray start --head' starts one"
            )
        raise ConfigError(f"[executor] address '{address}': accepted is auto, or HOST:PORT")
    host, _, port = found.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"[executor] address = '{address}': no Ray cluster answers at {found} ({error})"
        ) from error
    return str(found)
