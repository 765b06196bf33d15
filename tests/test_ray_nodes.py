"""Two nodes with addresses of their own on this machine, and what may happen to them.

The nodes stand in network namespaces that a cable joins, where this process may make some, and
side by side otherwise.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs Ray: pip install 'corelab-ml[ray]'")

from corelab.runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

PORT = 6399
STORE = 100_000_000
"""Bytes of each node's object store."""
VAE = ["train", "vae", "--model", "mlp", "--model.width", "32", "--algorithm.batch-size", "32"]
VAE += ["--run.checkpoint-every", "64", "--run.eval-every", "0", "--run.sinks", "jsonl"]
VAE += ["--run.name", "run", "--workers", "2"]
PPO = ["train", "ppo", "--task", "CartPole-v1", "--rollout-workers", "2", "--run.eval-every", "0"]
PPO += ["--run.checkpoint-every", "4096", "--run.sinks", "jsonl", "--run.name", "run"]


class Cluster:
    """A head, and whatever nodes are added to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"corelab{os.getpid()}"
        self.apart = self._may_stand_apart()
        self.environment = {
            **os.environ,
            "CORELAB_PROGRESS": "off",
            "RAY_AUTH_MODE": "token",  # what `ray start --head` asks for
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.nodes: list[subprocess.Popen[bytes]] = []

    def _may_stand_apart(self) -> bool:
        if not shutil.which("ip"):
            return False
        made = self._ip("netns", "add", f"{self.name}-0", check=False)
        if made.returncode:
            return False
        self._ip("netns", "del", f"{self.name}-0")
        self._ip("link", "add", self.name, "type", "bridge")
        self._ip("link", "set", self.name, "up")
        return True

    def _ip(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ip", *words], check=check, capture_output=True, text=True)

    def address(self, i: int) -> str:
        """Where node I is."""
        return f"10.77.0.{i + 1}" if self.apart else "127.0.0.1"

    def there(self, i: int, *words: str) -> list[str]:
        """WORDS as a command on node I."""
        return ["ip", "netns", "exec", f"{self.name}-{i}", *words] if self.apart else list(words)

    def add(self, cpus: int) -> int:
        """Start a node with that many CPUs, the head if it is the first; its number."""
        i = len(self.nodes)
        if self.apart:
            space, cable = f"{self.name}-{i}", f"cl{os.getpid()}.{i}"
            self._ip("netns", "add", space)
            self._ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
            self._ip("link", "set", cable, "master", self.name, "up")
            self._ip("-n", space, "addr", "add", f"{self.address(i)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                self._ip("-n", space, "link", "set", device, "up")
        ray = str(Path(sys.executable).with_name("ray"))
        place = f"--temp-dir={self.folder}/{i}"
        kind = ["--head", f"--port={PORT}", "--include-dashboard=false", place]
        if i:
            kind = [f"--address={self.address(0)}:{PORT}"]
        words = [ray, "start", "--block", f"--node-ip-address={self.address(i)}", *kind]
        words += [f"--num-cpus={cpus}", f"--object-store-memory={STORE}", "--disable-usage-stats"]
        with (self.folder / f"node-{i}.log").open("wb") as log:
            node = subprocess.Popen(
                self.there(i, *words),
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes.append(node)
        wait(lambda: b"Ray runtime started" in (self.folder / f"node-{i}.log").read_bytes(), 120)
        return i

    def kill(self, i: int) -> None:
        """Let every process of node I end at once."""
        for pid in descendants(self.nodes[i].pid):
            os.kill(pid, signal.SIGKILL)
        self.nodes[i].wait()

    def drive(self, *words: str, before: str = "") -> subprocess.Popen[str]:
        """Start `corelab WORDS` on the head, in a process where the code BEFORE is done first."""
        words = (*words, "--address", f"{self.address(0)}:{PORT}", "--run.dir", str(self.folder))
        code = f"{before}\nimport sys\nfrom corelab.cli import main\nsys.exit(main({list(words)}))"
        return subprocess.Popen(
            self.there(0, sys.executable, "-c", code),
            env=self.environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    @property
    def run(self) -> Run:
        """The run of the driver."""
        return Run(self.folder / "run")

    def checkpoints(self) -> list[Path]:
        """Those of the run, so far."""
        return sorted(self.folder.glob("run/checkpoints/*/manifest.json"))

    def close(self) -> None:
        """Leave nothing behind."""
        for i, node in enumerate(self.nodes):
            if node.poll() is None:
                self.kill(i)
        if self.apart:
            for i in range(len(self.nodes)):
                self._ip("netns", "del", f"{self.name}-{i}", check=False)
            self._ip("link", "del", self.name, check=False)


def descendants(pid: int) -> list[int]:
    """PID and all processes that it has started, and so on."""
    parents: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has ended meanwhile
            continue
        parents[int(process.name)] = int(words[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def learners(pid: int) -> list[int]:
    """The training workers among the descendants of PID."""
    names = {p: Path(f"/proc/{p}/cmdline").read_bytes() for p in descendants(pid)}
    return [p for p, name in names.items() if name.startswith(b"ray::RayTrainWorker")]


def wait(happened: Callable[[], Any], seconds: float) -> None:
    """Return as soon as something has HAPPENED. AssertionError if it has not within SECONDS."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.1)


def ended(driver: subprocess.Popen[str]) -> str:
    """What DRIVER has said when it has come to its end."""
    _, said = driver.communicate(timeout=400)
    assert driver.returncode == 0, said
    return said


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Cluster]:
    """A head and a node, with a CPU each."""
    # the paths of sockets may have 107 letters
    folder = Path("/tmp") / f"nodes-{os.getpid()}"
    folder.mkdir()
    cluster = Cluster(folder)
    try:
        for _ in range(2):
            cluster.add(cpus=1)
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_run_goes_on_after_a_node_is_lost_and_another_comes(nodes: Cluster) -> None:
    driver = nodes.drive(*VAE, "--steps", "6400")
    wait(nodes.checkpoints, 300)
    assert len(learners(nodes.nodes[0].pid)) == len(learners(nodes.nodes[1].pid)) == 1
    nodes.kill(1)
    nodes.add(cpus=1)
    said = ended(driver)
    assert "a worker was lost; on from" in said
    assert nodes.run.status == "done"
    assert nodes.run.progress == 6400
    assert [session["progress"] > 0 for session in nodes.run.record["sessions"]] == [False, True]
    progress = [row["progress"] for row in nodes.run.metrics() if "train/loss" in row]
    assert progress == sorted(set(progress))


def test_a_worker_that_hangs_is_given_up_and_the_run_goes_on(nodes: Cluster) -> None:
    impatient = "import corelab.cluster.training as t\nt.SILENCE = 10"
    driver = nodes.drive(*VAE, "--steps", "6400", before=impatient)
    wait(nodes.checkpoints, 300)
    (worker,) = learners(nodes.nodes[1].pid)
    os.kill(worker, signal.SIGSTOP)
    said = ended(driver)
    assert "a worker was lost; on from" in said
    assert nodes.run.status == "done"
    assert nodes.run.progress == 6400


def test_rollouts_go_on_after_a_node_is_lost_and_another_comes(nodes: Cluster) -> None:
    nodes.add(cpus=1)
    driver = nodes.drive(*PPO, "--steps", "60000")
    wait(nodes.checkpoints, 300)
    nodes.kill(1)
    nodes.add(cpus=1)
    ended(driver)
    assert nodes.run.status == "done"
    assert nodes.run.progress >= 60_000


def test_a_full_object_store_costs_a_run_nothing(nodes: Cluster) -> None:
    """What others have put there moves to the disk."""
    nodes.add(cpus=1)
    fill = f"import numpy as np, ray; ray.init('{nodes.address(0)}:{PORT}', log_to_driver=False)\n"
    fill += f"kept = [ray.put(np.ones({STORE // 10}, np.uint8)) for _ in range(12)]\n"
    fill += "print('full', flush=True); input()"
    words = nodes.there(0, sys.executable, "-c", fill)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, env=nodes.environment, **pipes) as filler:
        try:
            assert filler.stdout
            assert filler.stdout.readline() == b"full\n"
            ended(nodes.drive(*PPO, "--steps", "20000"))
        finally:
            filler.kill()
    assert nodes.run.status == "done"
    assert nodes.run.progress >= 20_000
