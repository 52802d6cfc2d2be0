"""The connection to a Ray cluster, and what is said where there is none."""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.executors.cluster.messages import Connect, Work
from lm_searcher.tools.executors.cluster.nodes import living_nodes

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
                logging_level=logging.WARNING,
            )
            break
        except (Exception, SystemExit) as error:  # Ray documents none
            print(f"{type(error).__name__}: {error}", flush=True)
            if attempt == TRIES or not isinstance(error, TimeoutError | RuntimeError):
                raise ConfigError(
                    f"[executor] address: the Ray cluster at {address} does not take this machine "
                    "as one of its nodes (is 'ray start' done here, with the cluster's token?)"
                ) from error
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return _shared(message, address, nodes)


def _shared(message: Connect, address: str, nodes: list[dict[str, Any]]) -> Work:
    has_gpus = any(node["Resources"].get("GPU", 0) > 0 for node in nodes if node["Alive"])
    gpus = (1.0 if has_gpus else 0.0) if message.gpus is None else message.gpus
    cpus = (0.0 if gpus else 1.0) if message.cpus is None else message.cpus
    if not any(node.places for node in living_nodes(nodes, gpus, cpus)):
        what = f"{gpus:g} GPU" if gpus and not cpus else f"{gpus:g} GPU and {cpus:g} processors"
        raise ConfigError(
            f"[executor] gpus = {gpus:g}: no node of the Ray cluster at {address} has {what}"
            + ("" if has_gpus else "; accepted: gpus = 0")
        )
    return replace(message.work, gpus=gpus, cpus=cpus)


def _found(address: str) -> str:
    """HOST:PORT of a cluster whose head answers."""
    from ray._private import services

    if address == "auto":
        address = checked_address(os.environ.get("RAY_ADDRESS") or address)
    try:
        found = services.canonicalize_bootstrap_address(address)
    except (ValueError, OSError):
        found = None
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
