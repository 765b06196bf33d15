"""The Ray that a run uses: a cluster's, or one of this machine's own that ends with the run."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from corelab.errors import ClusterError, ConfigError
from corelab.plugins import installed, one_line

ANSWER = 10.0
"""Seconds that an address has for its answer."""
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How HTTP/2, which Ray speaks, begins: a preface and a frame of settings (RFC 9113, 3.4)."""
LOOK = 60.0
"""Seconds that a node has for telling what is installed on it: a first process must start there."""


@contextmanager
def connected(address: str, distributions: Iterable[str]) -> Iterator[None]:
    """Within: Ray is there, at ADDRESS or, if that is "", as this machine's own.

    It is silent and has no dashboard. A Ray that this process has already is used and left as it
    is. ConfigError if ADDRESS does not answer, ClusterError if a node of it has not the same
    DISTRIBUTIONS as this process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"ray\.")
        if ray.is_initialized():
            yield
            return
        _connect(address)
        try:
            if address:
                _compare(set(distributions))
            yield
        finally:
            ray.shutdown()


def _connect(address: str) -> None:
    silent: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if not address:
        try:
            ray.init("local", include_dashboard=False, **silent)
        except Exception as error:  # it raises nothing more special if a process is too slow
            ray.shutdown()
            raise ClusterError(f"Ray does not start here: {one_line(error)}") from error
        return
    if address != "auto":
        _knock(address)
    try:
        ray.init(address, **silent)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise ConfigError(f"--address {address}: {one_line(error)}") from error


def _knock(address: str) -> None:
    """ConfigError unless Ray answers at ADDRESS, for which Ray itself would wait long."""
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        if not place.hostname or not place.port:
            raise ValueError
        with socket.create_connection((place.hostname, place.port), ANSWER) as there:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                there.sendall(GREETING)
                if there.recv(9)[3:4] != GREETING[-6:-5]:  # the kind of frame
                    raise OSError("something else does")
    except ValueError:
        raise ConfigError(f'--address takes "auto" or "HOST:PORT", got {address!r}') from None
    except OSError as error:
        raise ConfigError(
            f"--address {address}: Ray does not answer there ({error.strerror or error}); "
            "`ray start --head` starts Ray"
        ) from error


def require_resources(option: str, n: int, **each: float) -> None:
    """ConfigError unless the cluster has EACH (cpus=1, gpus=0.5) for all N workers of OPTION."""
    there = ray.cluster_resources()
    for name, amount in each.items():
        kind = name.upper().removesuffix("S")
        asked, has = n * amount, there.get(kind, 0.0)
        if asked > has:
            raise ConfigError(f"{option} {n} takes {asked:g} {kind}s; the cluster has {has:g}")


def _compare(distributions: set[str]) -> None:
    """ClusterError for the first node where one of DISTRIBUTIONS is another than here."""

    def look() -> dict[str, str]:  # travels by value, since corelab may be missing there
        from importlib.metadata import distributions

        return {d.metadata["Name"]: d.version for d in distributions()}

    here = installed()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = [
        ray.remote(num_cpus=0)(look)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote()
        for node in nodes
    ]
    for node, answer in zip(nodes, asked, strict=True):
        name = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        try:
            there = ray.get(answer, timeout=LOOK)
        except GetTimeoutError:
            raise ClusterError(f"{name} did not tell what it has in {LOOK:g} s") from None
        except RayError as error:
            raise ClusterError(f"{name} cannot tell what it has: {one_line(error)}") from error
        for distribution in sorted({"corelab-ml", "torch"} | distributions):
            ours, theirs = here.get(distribution), there.get(distribution)
            if ours != theirs:
                found = f"has {distribution} {theirs}" if theirs else f"lacks {distribution}"
                raise ClusterError(
                    f"{name} {found}, and here is {ours}: "
                    f"pip install {distribution}=={ours} on every node"
                )
