"""Data-parallel training by Ray Train: N workers learn, this process keeps the run's directory.

Rank 0 of the workers tells of rows, checkpoints and the end through a desk, an actor of ours, so
nodes need no storage in common. When a worker is lost, Ray Train starts all of them again, and they
go on from the last checkpoint that the desk has.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import struct
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from corelab.cluster.actors import ActorContext
from corelab.cluster.parallel import DataParallel, PeerLostError, broadcast, gather
from corelab.context import Context
from corelab.contracts import Algorithm, Media
from corelab.errors import ClusterError, CorelabError
from corelab.experiments import Experiment
from corelab.local import LocalRecorder
from corelab.loop import Position, drive
from corelab.plugins import one_line
from corelab.runs import Run
from corelab.state import load_tree, save_tree

Files = dict[str, bytes]
"""What a directory holds, by relative path."""

LOSSES = 5
"""How often workers may be lost in a row without a checkpoint between."""
POLL = 0.2
"""Seconds between two looks of rank 0 for a request to stop."""
SILENCE = 1800
"""Seconds after which a worker that the others wait for is taken for lost."""
PATIENCE = 300.0
"""Seconds in which the workers have to start."""
SIOCGIFADDR = 0x8915
"""Linux's number for asking an interface's address; elsewhere none has one."""
GRACE = 30.0
"""Seconds that workers have to stop when the run has ended."""


class Desk:
    """Where the workers leave their messages, and find what they start from; an actor."""

    def __init__(self, checkpoint: Files) -> None:
        self._checkpoint = checkpoint
        self._messages: list[tuple[Any, ...]] = []
        self._stopping = self._over = False

    def begin(self) -> tuple[Files, bool]:
        """What workers that begin go on from, and whether there is nothing left to do."""
        if not self._over:
            self.tell("begun")
        return self._checkpoint, self._over

    def tell(self, kind: str, *facts: Any) -> None:
        """Leave a message; the files of a checkpoint are kept, too."""
        if kind == "save":
            self._checkpoint = facts[0]
        self._over |= kind in ("ended", "failed")
        self._messages.append((kind, *facts))

    def read(self) -> list[tuple[Any, ...]]:
        """The messages since the last call."""
        messages, self._messages = self._messages, []
        return messages

    def ask_to_stop(self) -> None:
        """Let `stopping` say so."""
        self._stopping = True

    def stopping(self) -> bool:
        """Whether the workers are to stop after the step that they are in."""
        return self._stopping


class WorkerContext(DataParallel, ActorContext):
    """A worker of Ray Train, whose pools are actors if the run has rollout workers."""


class WorkerRecorder:
    """What a worker's loop restores from and tells; rank 0 tells it on to the desk."""

    def __init__(self, desk: Any, context: Context, checkpoint: Files) -> None:
        self._desk, self._context, self._checkpoint = desk, context, checkpoint
        self._first = context.rank == 0
        self._looked = 0.0
        self._stopping = False
        context.say = lambda sentence: self._tell("say", sentence)

    def _tell(self, kind: str, *facts: Any) -> None:
        if self._first:
            self._desk.tell.remote(kind, *facts)

    def restore(self, algorithm: Algorithm) -> Position:
        """Bring everything of this rank to the checkpoint."""
        if not self._checkpoint:
            return Position()
        own, others = f"ranks/{self._context.rank}/", "ranks/"
        shared = {k: v for k, v in self._checkpoint.items() if not k.startswith(others)}
        mine = {k.removeprefix(own): v for k, v in self._checkpoint.items() if k.startswith(own)}
        self._checkpoint = {}
        with tempfile.TemporaryDirectory() as folder:
            write_files(shared | mine, Path(folder))
            algorithm.load(Path(folder) / "algorithm")
            loop = load_tree(Path(folder) / "loop")
        self._context.load_state_dict(loop["streams"])
        return Position(**loop["position"])

    def log(
        self,
        progress: int,
        metrics: Mapping[str, float],
        media: Mapping[str, Media],
        position: Position,
    ) -> None:
        """Tell of METRICS and MEDIA at PROGRESS."""
        self._tell("log", progress, dict(metrics), dict(media), position)

    def save(self, algorithm: Algorithm, position: Position, best: bool) -> None:
        """Tell rank 0's files, and of those of other ranks the ones that differ."""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "algorithm").mkdir()
            algorithm.save(Path(folder) / "algorithm")
            state = {"streams": self._context.state_dict(), "position": asdict(position)}
            save_tree(Path(folder) / "loop", state)
            files = read_files(Path(folder))
        digests = {name: hashlib.sha256(data).digest() for name, data in files.items()}
        of_first = gather(digests if self._first else None)[0]
        differ = {name: data for name, data in files.items() if digests[name] != of_first.get(name)}
        for rank, theirs in enumerate(gather(differ)):
            files |= {f"ranks/{rank}/{name}": data for name, data in theirs.items()}
        self._tell("save", files, algorithm.progress, position, best)

    def rescue(self, algorithm: Algorithm, position: Position) -> None:
        """Nothing: the other ranks are elsewhere, so no checkpoint of all can be made."""

    def mean(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The mean of METRICS over the ranks that have them."""
        everyone = gather(dict(metrics))
        names = dict.fromkeys(name for theirs in everyone for name in theirs)
        found = {name: [theirs[name] for theirs in everyone if name in theirs] for name in names}
        return {name: sum(values) / len(values) for name, values in found.items()}

    def clock(self) -> float:
        """Rank 0's seconds, so that all ranks decide alike; with it comes a request to stop."""
        now = time.monotonic()
        if self._first and now - self._looked > POLL:
            self._looked = now
            self._stopping = ray.get(self._desk.stopping.remote())
        told = broadcast(torch.tensor([now, self._stopping], dtype=torch.float64))
        now, stopping = told.tolist()
        self._stopping = bool(stopping)
        return float(now)

    def stop(self) -> str:
        """Why to stop: somebody asked for it."""
        return "interrupted" if self._stopping else ""


def work(facts: dict[str, Any]) -> None:
    """What every worker of Ray Train does: run the loop."""
    desk, run = facts["desk"], facts["run"]
    first = torch.distributed.get_rank() == 0
    checkpoint, over = gather(ray.get(desk.begin.remote()) if first else None)[0]
    if over:
        return
    try:
        experiment: Experiment = run.experiment()
        options = experiment.options
        context = experiment.context(_device(options), kind=WorkerContext)
        recorder = WorkerRecorder(desk, context, checkpoint)
        with context.owning_globals():
            algorithm = experiment.build(context)
            reason = drive(algorithm, options.steps, options.run, recorder, recorder.clock)
        if first:
            ray.get(desk.tell.remote("ended", reason))
    except PeerLostError:
        raise
    except Exception as error:
        told = error if isinstance(error, CorelabError) else RuntimeError(one_line(error))
        told.add_note(traceback.format_exc())
        ray.get(desk.tell.remote("failed", told))
        raise


def _device(options: Any) -> str:
    """Where this worker's tensors live: on its GPU, if it was given one."""
    if options.gpus and options.device != "cpu":
        return str(get_device())
    return "cpu" if options.device == "auto" else ""


def lead(run: Run, experiment: Experiment, recorder: LocalRecorder) -> str:
    """Have RUN's workers trained by Ray Train and keep what they tell; return why they ended.

    ClusterError if they do not start, or are lost again and again; else what any of them raised.
    """
    place = recorder.newest()
    progress = int(place.name) if place else 0
    recorder.begin(progress)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    desk = (
        ray.remote(num_cpus=0)(Desk)
        .options(scheduling_strategy=here)
        .remote(read_files(place) if place else {})
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(experiment, {"desk": desk, "run": run}, folder)
        engine = Engine(trainer)
        try:
            reason = _follow(engine, desk, recorder, progress)
        except Exception:  # a second Ctrl-C, which is none, waits for nothing
            ray.get(desk.ask_to_stop.remote())
            engine.join(GRACE)
            raise
        engine.join(GRACE)
        return reason


def _trainer(experiment: Experiment, facts: dict[str, Any], folder: str) -> TorchTrainer:
    o = experiment.options
    # NCCL refuses two workers on one GPU; what is small travels between CPUs
    backend = "cpu:gloo,cuda:nccl" if o.gpus >= o.workers else "gloo"
    each = {"CPU": float(o.run.threads)} | ({"GPU": o.gpus / o.workers} if o.gpus else {})
    return TorchTrainer(
        work,
        train_loop_config=facts,
        torch_config=Meeting(backend=backend, timeout_s=SILENCE),
        scaling_config=ScalingConfig(
            num_workers=o.workers, use_gpu=o.gpus > 0, resources_per_worker=each
        ),
        run_config=RunConfig(
            name="train", storage_path=folder, failure_config=FailureConfig(max_failures=-1)
        ),
    )


class Meeting(TorchConfig):  # type: ignore[misc]  # Ray Train has no types
    """How workers meet: over the network by which Ray has reached them."""

    @property
    def backend_cls(self) -> Any:
        """Ray's, after `choose_interface`."""
        base: Any = super().backend_cls

        class Backend(base):  # type: ignore[misc]  # likewise
            def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
                worker_group.execute(choose_interface)
                super().on_start(worker_group, backend_config)

        return Backend


def choose_interface() -> None:
    """Have gloo listen at the address that Ray has for this node.

    By itself it takes that of this host's name, which on many machines is 127.0.0.1 or 127.0.1.1,
    where other nodes find themselves.
    """
    address = ray.util.get_node_ip_address()
    for _, name in socket.if_nameindex():
        if _address_of(name) == address:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def _address_of(interface: str) -> str:
    """The IPv4 address of INTERFACE; "" if it has none."""
    asked = struct.pack("256s", interface.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            told = fcntl.ioctl(any_socket.fileno(), SIOCGIFADDR, asked)
        except OSError:
            return ""
    return socket.inet_ntoa(told[20:24])


class Engine(Thread):
    """Ray Train at work, in a thread so that signals reach this process's own."""

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(daemon=True)
        self._trainer = trainer
        self.end = "before the workers did"

    def run(self) -> None:
        """Train until the workers end."""
        try:
            self._trainer.fit()
        except (Exception, SystemExit) as error:  # the latter if Ray is shut down meanwhile
            self.end = one_line(error)


def _follow(engine: Engine, desk: Any, recorder: LocalRecorder, saved: int) -> str:
    """Keep what the workers tell until they end."""
    engine.start()
    began, lost, starts = time.monotonic(), 0, 0
    while True:
        alive = engine.is_alive()
        for kind, *facts in ray.get(desk.read.remote()):
            if kind == "begun":
                starts += 1
                if starts > 1:
                    lost += 1
                    if lost > LOSSES:
                        raise ClusterError(f"workers were lost {lost} times since {saved:,}")
                    recorder.again(saved, ClusterError(f"a worker was lost; on from {saved:,}"))
            elif kind == "log":
                recorder.log(*facts)
            elif kind == "say":
                recorder.say(*facts)
            elif kind == "save":
                files, saved, position, best = facts
                recorder.write(saved, partial(write_files, files), position, best)
                lost = 0
            elif kind == "failed":
                raise facts[0]
            elif kind == "ended":
                return str(facts[0])
        if not alive:
            raise ClusterError(f"Ray Train ended: {engine.end}")
        if not starts and time.monotonic() - began > PATIENCE:
            raise ClusterError(f"the workers did not start within {PATIENCE:g} s")
        if recorder.stop():
            desk.ask_to_stop.remote()
        engine.join(POLL)


def read_files(folder: Path) -> Files:
    """What FOLDER and those in it hold."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def write_files(files: Files, folder: Path) -> None:
    """Write FILES into FOLDER."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
