"""Runs that span processes: rollout workers' pools, several learners, and what can go wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("ray", reason="needs Ray: pip install 'corelab-ml[ray]'")

from corelab import ClusterError, ConfigError, Context, DataError, Run, find_runs, train
from corelab.cluster import actors, connection
from corelab.cluster.actors import ActorContext, Actors
from corelab.experiments import resolve

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.usefixtures("cluster")]

CPU = torch.device("cpu")


# -- pools of actors ---------------------------------------------------------------------------


class Worker:
    """Counts its calls, as a worker may that is not to be lost."""

    def __init__(self, i: int) -> None:
        self.i, self.calls = i, 0

    def pid(self) -> int:
        return os.getpid()

    def plus(self, x: np.ndarray) -> tuple[int, np.ndarray]:
        self.calls += 1
        return self.calls, x + self.i

    def wait(self, seconds: float) -> int:
        time.sleep(seconds)
        return self.i

    def fail(self) -> None:
        raise DataError(f"worker {self.i} found no data")


def make(i: int) -> Worker:
    return Worker(i)


class Spoken(list[str]):
    """What a context was told to say."""

    def __call__(self, sentence: str) -> None:
        self.append(sentence)


SPOKEN = Spoken()


@pytest.fixture(scope="module")
def pool(cluster: None) -> Iterator[Actors[Worker]]:
    context = ActorContext(0, CPU, 1, rollout_workers=2)
    SPOKEN.clear()
    context.say = SPOKEN
    pool = context.pool(make, 2, cpus=0.5)
    assert isinstance(pool, Actors)
    yield pool
    pool.close()


def test_a_pool_of_actors_answers_as_one_in_this_process_does(pool: Actors[Worker]) -> None:
    pool_here = Context(0, CPU, 1).pool(make, 2)
    for x in (np.arange(4.0), np.arange(1e5)):
        shared = pool.share(x)
        assert (shared is x) == (x.nbytes < actors.SMALL)  # else it is in the object store
        there, here = pool.call("plus", shared), pool_here.call("plus", x)
        for (calls, result), (calls_here, expected) in zip(there, here, strict=True):
            assert calls == calls_here
            np.testing.assert_array_equal(result, expected)
    assert len(set(pool.call("pid")) | {os.getpid()}) == 3
    assert sorted(pool.stream("wait", 0)) == [(0, 0), (1, 1)]


def test_submitted_calls_are_taken_as_they_are_ready(pool: Actors[Worker]) -> None:
    pool.submit(0, "wait", 1.0)
    pool.submit(1, "wait", 0)
    assert [pool.take(), pool.take()] == [(1, 1), (0, 0)]


def test_an_error_in_an_actor_is_raised_as_itself(pool: Actors[Worker]) -> None:
    with pytest.raises(DataError, match=r"^worker 0 found no data$"):
        pool.call("fail")


def test_a_killed_actor_is_made_anew_and_its_call_repeated(pool: Actors[Worker]) -> None:
    first, second = pool.call("pid")
    replaced = pool.replaced
    pool.submit(1, "wait", 0.5)
    time.sleep(0.2)
    os.kill(second, signal.SIGKILL)
    assert pool.take() == (1, 1)
    assert pool.replaced == replaced + 1
    assert SPOKEN == ["rollout worker 1 was lost and has been made anew"]
    assert pool.call("pid")[0] == first


def test_a_silent_actor_is_told_in_a_sentence(
    pool: Actors[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors, "PATIENCE", 0.5)
    with pytest.raises(ClusterError, match=r"^rollout worker 0 was silent for 0.5 s; .* CPUs"):
        pool.call("wait", 2)
    monkeypatch.undo()
    pool.call("wait", 0)  # what it was asked before is over


def test_a_pool_that_cannot_be_is_refused_in_a_sentence() -> None:
    context = ActorContext(0, CPU, 1, rollout_workers=2)
    with pytest.raises(ConfigError, match=r"^--rollout-workers 99 takes 99 CPUs; .* has 4$"):
        context.pool(make, 99)
    lock = threading.Lock()
    with pytest.raises(ConfigError, match=r"cannot be sent to a process \(cannot pickle '_thread"):
        context.pool(lambda i: lock, 1)


def test_without_rollout_workers_a_pool_is_in_this_process() -> None:
    assert not isinstance(ActorContext(0, CPU, 1).pool(make, 2), Actors)


# -- several learners --------------------------------------------------------------------------


OPTIONS: dict[str, Any] = {
    "model.width": 32,
    "algorithm.batch_size": 32,
    "run.checkpoint_every": 64,
    "run.eval_every": 0,
    "run.log_every": 320,
    "run.sinks": ("jsonl",),
}


def children(name: str) -> list[int]:
    """The processes called NAME that descend from this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text()
            if words.startswith(name) and os.getpid() in _ancestors(int(process.name)):
                found.append(int(process.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@contextmanager
def once(happened: Callable[[], Any], act: Callable[[], None]) -> Iterator[None]:
    """Within: ACT is called as soon as something has HAPPENED. AssertionError if it never has."""
    over, acted = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if happened():
                acted.set()
                return act()
        return None

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert acted.is_set()


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.checkpoints.pick() / "algorithm" / "weights.safetensors")


def alike(run: Run, other: Run) -> bool:
    """Whether RUN's weights differ from OTHER's by nothing but the rounding of sums."""
    one, two = weights(run), weights(other)
    return all(torch.allclose(one[key], two[key], rtol=1e-2, atol=1e-3) for key in two)


@pytest.fixture(scope="module")
def learned(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """A run of one learner, and the same of two, of which one was killed after a checkpoint."""
    folder = tmp_path_factory.mktemp("learned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORELAB_PROGRESS", "off")
        alone = train("vae", model="mlp", steps=3200, run_dir=folder / "one", options=OPTIONS)

        def kill() -> None:
            os.kill(children("ray::RayTrainWorker")[-1], signal.SIGKILL)

        with once(lambda: list(folder.glob("two/*/checkpoints/*[0-9]")), kill):
            options = OPTIONS | {"workers": 2}
            two = train("vae", model="mlp", steps=3200, run_dir=folder / "two", options=options)
    return alone, two


@pytest.mark.slow
def test_two_learners_lose_one_and_learn_what_one_learns(learned: tuple[Run, Run]) -> None:
    alone, two = learned
    assert "a worker was lost" in (two.path / "log.txt").read_text()
    assert two.status == "done"
    assert alike(two, alone)
    rows, expected = two.metrics(), alone.metrics()
    assert [row["progress"] for row in rows] == [row["progress"] for row in expected]
    last, expected_last = rows[-2]["train/loss"], expected[-2]["train/loss"]
    assert last == pytest.approx(expected_last, rel=1e-3)
    bits = [run.evaluate(32)["bits_per_dim"] for run in learned]
    assert bits[0] == pytest.approx(bits[1], rel=1e-3)


@pytest.mark.slow
def test_a_killed_driver_leaves_nothing_behind_and_its_run_goes_on(
    learned: tuple[Run, Run], tmp_path: Path
) -> None:
    options = [
        f"--{name.replace('_', '-')}={value if not isinstance(value, tuple) else value[0]}"
        for name, value in OPTIONS.items()
    ]
    command = [sys.executable, "-m", "corelab", "train", "vae", "--model", "mlp", "--workers", "2"]
    driver = subprocess.Popen([*command, "--steps", "3200", *options, "--run.dir", tmp_path])
    began = time.monotonic()
    while not list(tmp_path.glob("*/checkpoints/*[0-9]")):
        assert driver.poll() is None
        assert time.monotonic() - began < 500  # on a machine that does other things
        time.sleep(0.1)
    offspring = [pid for pid in map(int, _pids()) if driver.pid in _line(pid)]
    assert len(offspring) > 4
    driver.kill()
    driver.wait()
    (run,) = find_runs(tmp_path)
    assert run.status == "killed"
    before = run.checkpoints.newest_whole()[0]
    assert before is not None
    run = run.resume()
    assert run.status == "done"
    assert run.record["sessions"][1]["progress"] >= int(before.name)
    # broken off elsewhere than the other, and yet the same to the last bit
    assert run.record["weights_sha256"] == learned[1].record["weights_sha256"]
    began = time.monotonic()
    while any(Path(f"/proc/{pid}").exists() for pid in offspring):
        assert time.monotonic() - began < 120
        time.sleep(0.1)


@pytest.mark.slow
def test_ctrl_c_saves_and_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "corelab", "train", "ppo", "--rollout-workers", "1"]
    command += ["--run.sinks", "jsonl", "--run.dir", str(tmp_path)]
    driver = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("*/metrics.jsonl")):
        assert driver.poll() is None
        time.sleep(0.1)
    offspring = [pid for pid in map(int, _pids()) if driver.pid in _line(pid)]
    assert len(offspring) > 4
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
    assert driver.wait(300) == 130
    (run,) = find_runs(tmp_path)
    assert run.status == "interrupted"
    assert int(run.checkpoints.pick().name) == run.progress > 0
    began = time.monotonic()
    while any(Path(f"/proc/{pid}").exists() for pid in offspring):
        assert time.monotonic() - began < 120
        time.sleep(0.1)


def _pids() -> list[str]:
    return [process.name for process in Path("/proc").glob("[0-9]*")]


def _line(pid: int) -> list[int]:
    try:
        return list(_ancestors(pid))
    except OSError:
        return []


@pytest.mark.slow
def test_an_error_in_a_worker_ends_the_run_as_it_would_here(tmp_path: Path) -> None:
    options = OPTIONS | {"workers": 2, "run.target": "eval/nothing >= 1", "run.eval_every": 32}
    with pytest.raises(ConfigError, match=r"run\.target: evaluations have no 'eval/nothing'"):
        train("vae", model="mlp", steps=3200, run_dir=tmp_path, options=options)
    (run,) = find_runs(tmp_path)
    assert run.status == "failed"
    assert "Traceback" not in run.record["error"]


@pytest.mark.parametrize(
    ("algorithm", "options", "sentence"),
    [
        ("vae", {"workers": 3}, r"--workers 3 does not divide algorithm.batch_size, which is"),
        ("vae", {"workers": 0}, r"--workers is at least 1"),
        ("vae", {"gpus": 2}, r"--gpus is for several --workers; one process takes --device cuda"),
        ("vae", {"rollout_workers": 2}, r"vae takes no --rollout-workers"),
        ("qlearning", {"workers": 2}, r"qlearning learns in one process, .*; --seeds"),
    ],
)
def test_what_workers_cannot_do_is_refused(
    algorithm: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        resolve(algorithm, values=options)


def test_more_than_the_cluster_has_is_refused_before_the_run_begins(tmp_path: Path) -> None:
    for more, sentence in (
        ({"workers": 8}, r"^--workers 8 takes 8 CPUs; the cluster has 4$"),
        ({"workers": 2, "gpus": 64}, r"^--workers 2 takes 64 GPUs; the cluster has \d+$"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            train("vae", run_dir=tmp_path, options=OPTIONS | more)
    assert not list(tmp_path.iterdir())


# -- the connection ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("somewhere", r'^--address takes "auto" or "HOST:PORT", got \'somewhere\'$'),
        (
            "127.0.0.1:1",
            r"^--address 127.0.0.1:1: Ray does not answer there \(Connection refused\)",
        ),
    ],
)
def test_an_address_that_does_not_answer_is_told(address: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        connection._knock(address)


def test_an_address_has_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER", 0.2)
    with pytest.raises(ConfigError, match=r"^--address 192.0.2.1:6379: Ray does not answer there"):
        connection._knock("192.0.2.1:6379")  # an address that is nobody's (RFC 5737)


@pytest.mark.parametrize(
    ("answer", "sentence"), [(b"", "timed out"), (b"HTTP/1.1", "something else does")]
)
def test_an_address_of_something_else_is_told(
    answer: bytes, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not answer:
        monkeypatch.setattr(connection, "ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def reply() -> None:
            there, _ = server.accept()
            with there:
                there.recv(64)
                there.sendall(answer)
                there.recv(64)  # until the other side hangs up

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(ConfigError, match=rf"^--address {address}: Ray .* \({sentence}\)"):
            connection._knock(address)
        thread.join()


def test_ray_is_known_by_its_greeting() -> None:
    import ray

    connection._knock(ray.get_runtime_context().gcs_address)


def test_a_node_with_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    connection._compare({"corelab-ml"})  # the node that is there has the same
    here = connection.installed() | {"corelab-bandit": "0.2.0", "torch": "1.0"}
    monkeypatch.setattr(connection, "installed", lambda: here)
    with pytest.raises(ClusterError, match=r"^node \S+ \(\S+\) lacks corelab-bandit, and here is"):
        connection._compare({"corelab-bandit"})
    with pytest.raises(
        ClusterError, match=r"^node .* has torch \S+, and here is 1\.0: pip install"
    ):
        connection._compare(set())


def test_without_workers_ray_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from corelab import train; "
        "train('vae', model='mlp', steps=64, run_dir=sys.argv[1]); "
        "assert 'torch' in sys.modules and 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)


@pytest.mark.slow
def test_twenty_kills_in_a_row_change_nothing(tmp_path: Path) -> None:
    steps, rng = 64 * 45, np.random.default_rng(0)
    alone = train("vae", model="mlp", steps=steps, run_dir=tmp_path / "alone", options=OPTIONS)
    over, killed, last = threading.Event(), [], [""]

    def kill() -> None:
        while len(killed) < 20 and not over.wait(0.05):
            newest = max((p.name for p in tmp_path.glob("two/*/checkpoints/*[0-9]")), default="")
            workers = children("ray::RayTrainWorker")
            if newest > last[0] and len(workers) == 2:
                last[0] = newest
                killed.append(rng.choice(workers))
                os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    two = train(
        "vae", model="mlp", steps=steps, run_dir=tmp_path / "two", options=OPTIONS | {"workers": 2}
    )
    over.set()
    killer.join()
    assert len(killed) == 20
    assert two.status == "done"
    assert alike(two, alone)
    assert [row["progress"] for row in two.metrics()] == [
        row["progress"] for row in alone.metrics()
    ]
