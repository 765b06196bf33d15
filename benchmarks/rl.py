"""corelab beside other libraries: env steps per CPU second, what is learned, seconds to solve.

    python benchmarks/rl.py [--only ppo-sb3-zoo dqn-cleanrl] [--rounds 5]
                            [--peers .peers/bin/python] [--cleanrl .peers/cleanrl]

A round of a case trains corelab and then its peer at the same settings and the same seed, each in a
process of its own with one thread, and judges both by 100 episodes of the likeliest actions. What
is timed are the CPU seconds of training alone (benchmarks/trainers.py). A case ends with a line
of JSON: steps per CPU second (medians), the ratio corelab / peer (median, least and greatest of
the rounds), and the returns of both.

Peers live in an environment of their own, whose Python PEERS is, and CleanRL in a checkout:
`benchmarks/peers.txt` says how to make both. What is missing is named, and corelab is timed alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".peers"
TARGET = 475.0
"""The mean return at which CartPole-v1 counts as solved."""


@dataclass(frozen=True)
class Case:
    """The same training by corelab and by PEER, each told in its own words."""

    peer: str
    algorithm: str
    steps: int
    corelab: dict[str, Any]
    """Options of `corelab train`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the peer; CleanRL is run with its own defaults."""
    task: str = "CartPole-v1"
    model: str = ""
    """The network of corelab, if it is not the algorithm's own choice."""
    episodes: int = 100
    every: int = 0
    """Steps between evaluations, if the question is when the task is solved."""
    record: bool = False
    """Whether every episode of training is told."""


# The settings of rl-baselines3-zoo for CartPole-v1 (hyperparams/ppo.yml and dqn.yml).
SB3_ZOO_PPO = {
    "n_envs": 8,
    "n_steps": 32,
    "batch_size": 256,
    "n_epochs": 20,
    "gamma": 0.98,
    "gae_lambda": 0.8,
    "learning_rate": "lin_0.001",
    "clip_range": "lin_0.2",
    "ent_coef": 0.0,
}
ZOO_PPO = {
    "task.num_envs": 8,
    "algorithm.horizon": 32,
    "algorithm.batch_size": 256,
    "algorithm.epochs": 20,
    "algorithm.gamma": 0.98,
    "algorithm.lam": 0.8,
    "algorithm.lr": 1e-3,
    "algorithm.anneal_lr": True,
    "algorithm.clip": 0.2,
    "algorithm.anneal_clip": True,
    "algorithm.value_coef": 0.5,
    "algorithm.entropy_coef": 0.0,
    "model.sizes": [64, 64],
}
SB3_DEFAULT_PPO = {
    "task.num_envs": 1,
    "algorithm.horizon": 2048,
    "algorithm.batch_size": 64,
    "algorithm.epochs": 10,
    "algorithm.gamma": 0.99,
    "algorithm.lam": 0.95,
    "algorithm.lr": 3e-4,
    "algorithm.anneal_lr": False,
    "algorithm.clip": 0.2,
    "algorithm.anneal_clip": False,
    "algorithm.value_coef": 0.5,
    "algorithm.entropy_coef": 0.0,
    "model.sizes": [64, 64],
}
# CleanRL and PufferLib halve the squared error of the value, so their 0.5 is 0.25 here.
CLEANRL_PPO = {
    "task.num_envs": 4,
    "algorithm.horizon": 128,
    "algorithm.batch_size": 128,
    "algorithm.epochs": 4,
    "algorithm.gamma": 0.99,
    "algorithm.lam": 0.95,
    "algorithm.lr": 2.5e-4,
    "algorithm.anneal_lr": True,
    "algorithm.clip": 0.2,
    "algorithm.anneal_clip": False,
    "algorithm.value_coef": 0.25,
    "algorithm.clip_value": True,
    "algorithm.entropy_coef": 0.01,
    "model.sizes": [64, 64],
}
# Its sampling of segments cannot be turned off, but prio_alpha = 0 makes it uniform.
PUFFERLIB_PPO = {
    "num_envs": 4,
    "bptt_horizon": 128,
    "minibatch_size": 128,
    "update_epochs": 4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "learning_rate": 2.5e-4,
    "anneal_lr": True,
    "optimizer": "adam",
    "adam_beta1": 0.9,
    "adam_eps": 1e-5,
    "clip_coef": 0.2,
    "vf_clip_coef": 0.2,
    "vf_coef": 0.5,
    "ent_coef": 0.01,
    "max_grad_norm": 0.5,
    "prio_alpha": 0.0,
    "use_rnn": False,
}
TIANSHOU_PPO = {
    "num_envs": 4,
    "horizon": 128,
    "batch_size": 128,
    "epochs": 4,
    "lr": 2.5e-4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "eps_clip": 0.2,
    "value_clip": True,
    "vf_coef": 0.25,
    "ent_coef": 0.01,
    "max_grad_norm": 0.5,
}
SB3_ZOO_DQN = {
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1_000,
    "gamma": 0.99,
    "target_update_interval": 10,
    "train_freq": 256,
    "gradient_steps": 128,
    "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [256, 256]},
}
ZOO_DQN = {
    "task.num_envs": 1,
    "algorithm.lr": 2.3e-3,
    "algorithm.batch_size": 64,
    "algorithm.capacity": 100_000,
    "algorithm.learning_starts": 1_000,
    "algorithm.gamma": 0.99,
    "algorithm.target_every": 10,
    "algorithm.train_every": 256,
    "algorithm.updates": 128,
    "algorithm.exploration": 0.16,
    "algorithm.epsilon_end": 0.04,
    "algorithm.max_grad_norm": 10.0,
    "algorithm.double": False,
    "algorithm.n_step": 1,
    "model.sizes": [256, 256],
}
SB3_DEFAULT_DQN = ZOO_DQN | {
    "algorithm.lr": 1e-4,
    "algorithm.batch_size": 32,
    "algorithm.capacity": 1_000_000,
    "algorithm.learning_starts": 100,
    "algorithm.target_every": 10_000,
    "algorithm.train_every": 4,
    "algorithm.updates": 1,
    "algorithm.exploration": 0.1,
    "algorithm.epsilon_end": 0.05,
    "model.sizes": [64, 64],
}
CLEANRL_DQN = ZOO_DQN | {
    "algorithm.clip_error": False,
    "algorithm.max_grad_norm": 1e9,  # CleanRL does not scale gradients
    "algorithm.lr": 2.5e-4,
    "algorithm.batch_size": 128,
    "algorithm.capacity": 10_000,
    "algorithm.learning_starts": 10_000,
    "algorithm.target_every": 500,
    "algorithm.train_every": 10,
    "algorithm.updates": 1,
    "algorithm.exploration": 0.5,
    "algorithm.epsilon_end": 0.05,
    "model.sizes": [120, 84],
}
# The settings of rl-baselines3-zoo for Atari, with the preprocessing of Mnih et al. 2015.
SB3_ATARI_PPO = {
    "n_envs": 8,
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 4,
    "learning_rate": "lin_0.00025",
    "clip_range": "lin_0.1",
    "vf_coef": 0.5,
    "ent_coef": 0.01,
}
ATARI_PPO = ZOO_PPO | {
    "task.standard": "mnih",
    "algorithm.horizon": 128,
    "algorithm.epochs": 4,
    "algorithm.gamma": 0.99,
    "algorithm.lam": 0.95,
    "algorithm.lr": 2.5e-4,
    "algorithm.clip": 0.1,
    "algorithm.entropy_coef": 0.01,
    "model.width": 512,
}
del ATARI_PPO["model.sizes"]

CASES = {
    "ppo-sb3-zoo": Case("sb3", "ppo", 50_000, ZOO_PPO, SB3_ZOO_PPO),
    "ppo-sb3-zoo-compiled": Case(
        "sb3", "ppo", 50_000, ZOO_PPO | {"model.engine": "compiled"}, SB3_ZOO_PPO
    ),
    "ppo-sb3-defaults": Case("sb3", "ppo", 30_720, SB3_DEFAULT_PPO),
    "ppo-cleanrl": Case("cleanrl", "ppo", 51_200, CLEANRL_PPO),
    "ppo-pufferlib": Case("pufferlib", "ppo", 51_200, CLEANRL_PPO, PUFFERLIB_PPO),
    "ppo-tianshou": Case("tianshou", "ppo", 51_200, CLEANRL_PPO, TIANSHOU_PPO),
    "dqn-sb3-zoo": Case("sb3", "dqn", 20_000, ZOO_DQN, SB3_ZOO_DQN),
    "dqn-sb3-defaults": Case("sb3", "dqn", 30_000, SB3_DEFAULT_DQN),
    "dqn-cleanrl": Case("cleanrl", "dqn", 40_000, CLEANRL_DQN),
    "ppo-atari": Case(
        "sb3", "ppo", 4_096, ATARI_PPO, SB3_ATARI_PPO, task="ALE/Pong-v5", model="cnn", episodes=0
    ),
    # Each at its own best settings: corelab's preset, and rl-baselines3-zoo's with its budget.
    "solve-cartpole": Case("sb3", "ppo", 100_000, {}, SB3_ZOO_PPO, episodes=0, every=2_048),
}


def missing(library: str, options: argparse.Namespace) -> str:
    """What to do so that LIBRARY can be timed; "" if it can."""
    how = f"{HERE / 'peers.txt'} says how to make it"
    if not options.peers.exists():
        return f"there is no {options.peers}; {how}"
    if library == "cleanrl" and not (options.cleanrl / "cleanrl").is_dir():
        return f"there is no checkout of it at {options.cleanrl}; {how}"
    module = {"sb3": "stable_baselines3", "cleanrl": "tyro"}.get(library, library)
    probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    if subprocess.run([options.peers, "-c", probe]).returncode:
        return f"{options.peers} -m pip install -c constraints.txt -r {HERE / 'peers.txt'}"
    return ""


def trained(library: str, case: Case, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run of LIBRARY, in a process and a folder of its own."""
    ours = library == "corelab"
    settings = {
        "algorithm": case.algorithm,
        "task": case.task,
        "model": case.model,
        "steps": 0 if ours and case.every else case.steps,
        "seed": seed,
        "options": case.corelab if ours else case.options,
        "episodes": case.episodes,
        "every": case.every,
        "target": TARGET,
        "record": case.record,
        "cleanrl": str(options.cleanrl.resolve()),
    }
    python = sys.executable if ours else str(options.peers.absolute())
    command = [python, str(HERE / "trainers.py"), library, json.dumps(settings)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, env={**os.environ, **threads}, cwd=folder, capture_output=True, text=True
        )
    if done.returncode:
        raise SystemExit(f"{library} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def spread(values: list[float]) -> list[float]:
    """Median, least, greatest."""
    return [round(f(values), 2) for f in (statistics.median, min, max)]


def measured(name: str, case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """All rounds of a case."""
    why = missing(case.peer, options)
    if why:
        print(f"{name}: {case.peer} is not timed: {why}", flush=True)
    libraries = ["corelab"] if why else ["corelab", case.peer]
    runs: dict[str, list[dict[str, Any]]] = {library: [] for library in libraries}
    for seed in range(options.first, options.first + options.rounds):
        for library in libraries:
            run = trained(library, case, seed, options)
            runs[library].append(run)
            print(f"{name}, seed {seed}: {library} {json.dumps(run)}", flush=True)
    figures: dict[str, Any] = {"benchmark": name, "seeds": options.rounds, "peer": case.peer}
    speeds = {k: [r["steps"] / r["cpu_seconds"] for r in rs] for k, rs in runs.items()}
    figures["steps_per_cpu_second"] = {k: spread(v) for k, v in speeds.items()}
    costs = speeds
    if case.every:
        costs = {k: [1 / r["cpu_seconds"] for r in rs] for k, rs in runs.items()}
        seconds = {k: [r["cpu_seconds"] for r in rs] for k, rs in runs.items()}
        figures["cpu_seconds"] = {k: spread(v) for k, v in seconds.items()}
        figures["steps"] = {k: [r["steps"] for r in rs] for k, rs in runs.items()}
        figures["solved"] = {k: sum(r["solved"] for r in rs) for k, rs in runs.items()}
        figures["ratio_of_medians"] = round(
            statistics.median(seconds[libraries[-1]]) / statistics.median(seconds["corelab"]), 2
        )
    if not why:
        figures["ratio"] = spread(
            [a / b for a, b in zip(costs["corelab"], costs[case.peer], strict=True)]
        )
    if case.episodes:
        figures["returns"] = {k: [round(r["return"], 1) for r in rs] for k, rs in runs.items()}
    return figures


def add_options(parser: argparse.ArgumentParser, cases: Mapping[str, Case]) -> None:
    """What says where the peers are, and which of CASES are run from which seed on."""
    parser.add_argument("--peers", type=Path, default=PEERS / "bin" / "python", help="a Python")
    parser.add_argument("--cleanrl", type=Path, default=PEERS / "cleanrl", help="a checkout")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=cases,
        default=list(cases),
        metavar="CASE",
        help=", ".join(cases),
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser, CASES)
    parser.add_argument("--rounds", type=int, default=5, help="how many seeds")
    options = parser.parse_args()
    for name in options.only:
        print(json.dumps(measured(name, CASES[name], options)), flush=True)


if __name__ == "__main__":
    main()
