"""One training run of one library in a process of its own: what `rl.py` and `curves.py` start.

    PYTHON benchmarks/trainers.py LIBRARY SETTINGS

SETTINGS is JSON: `algorithm`, `task`, `model` (of corelab; "" for the algorithm's own), `steps` (0
for corelab's own), `seed`, `options` (in the words of the library) and, if the policy is to be
judged, `episodes` after training, or `every`, the steps between evaluations of 20 episodes up to a
mean return of `target`. With `record` corelab, Stable-Baselines3 and CleanRL tell of the episodes
they train on. The last line is JSON: `steps`, `cpu_seconds` of training alone (without imports,
set-up and evaluations), what was judged, and `ended`: the step at which each episode did, and its
return.

Each library runs by its own public means and with its own defaults for whatever is not named.
Only what it writes for people to look at is turned off where it offers that. A library is imported
where it is used, so the interpreter needs no more than the one that is asked for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import runpy
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

EPISODES = 20
"""Episodes of an evaluation that may end the training."""


class Clock:
    """CPU seconds of this process since it was last started, summed over the times it ran."""

    seconds = 0.0

    def start(self) -> None:
        """Let it run."""
        self._began = time.process_time()

    def stop(self) -> None:
        """Add what passed since it was started."""
        self.seconds += time.process_time() - self._began

    @contextlib.contextmanager
    def paused(self) -> Any:
        """Do not count what happens within."""
        self.stop()
        yield
        self.start()


class Episodes:
    """The episodes that N copies of the environment have come to the end of."""

    def __init__(self, num_envs: int) -> None:
        self.ended: list[tuple[int, float]] = []
        """After how many steps of all copies together, and the return."""
        self._steps, self._returns = 0, np.zeros(num_envs)

    def add(self, rewards: Any, ends: Any, steps: int) -> None:
        """Count a call, [N], with so many steps: resetting is none, if it takes a call."""
        self._steps += steps
        self._returns += rewards
        self.ended += [(self._steps, total) for total in self._returns[ends].tolist()]
        self._returns[ends] = 0


def greedy_return(act: Callable[[Any], Any], task: str, episodes: int, seed: int) -> float:
    """Mean return of so many episodes, in which ACT gives the actions for observations [N, ...]."""
    import gymnasium as gym

    envs = gym.make_vec(task, episodes, vectorization_mode="sync")
    observation, _ = envs.reset(seed=1_000_000 + 1_000 * seed)
    total, over = np.zeros(episodes), np.zeros(episodes, np.bool_)
    while not over.all():
        observation, reward, terminated, truncated, _ = envs.step(act(observation))
        total += np.where(over, 0, reward)
        over |= terminated | truncated
    return float(total.mean())


def corelab(s: dict[str, Any], clock: Clock) -> dict[str, Any]:
    """The loop of `corelab train` without its checkpoints and its evaluations."""
    from corelab.experiments import resolve
    from corelab.plugins import Plugins

    options = {"seed": s["seed"], "device": "cpu", **s["options"]}
    if s["steps"]:  # settings of our own: what they leave out is not taken from the task's preset
        plugins = Plugins()
        config = plugins.load(plugins.find("algorithm", s["algorithm"])).Config
        defaults = {
            f"algorithm.{f.name}": f.default
            for f in dataclasses.fields(config)
            if f.default is not dataclasses.MISSING and not dataclasses.is_dataclass(f.default)
        }
        options = {"steps": s["steps"]} | defaults | options
    experiment = resolve(s["algorithm"], task=s["task"], model=s["model"], values=options)
    context = experiment.context()
    with context.owning_globals():
        algorithm: Any = experiment.build(context)
        recorded = {"ended": recording(algorithm)} if s["record"] else {}
        curve = []
        clock.start()
        while algorithm.progress < context.steps:
            before = algorithm.progress
            algorithm.step()
            if s["every"] and before // s["every"] != algorithm.progress // s["every"]:
                with clock.paused():
                    curve.append(algorithm.evaluate("test", EPISODES, s["seed"])["return"])
                if curve[-1] >= s["target"]:
                    break
        clock.stop()
        judged = {"solved": bool(curve) and curve[-1] >= s["target"]} if s["every"] else {}
        if s["episodes"]:
            judged["return"] = algorithm.evaluate("test", s["episodes"], s["seed"])["return"]
    return {"steps": algorithm.progress, **judged, **recorded}


def recording(algorithm: Any) -> list[tuple[int, float]]:
    """Where the episodes that ALGORITHM of corelab trains on from here on are told."""
    envs = getattr(algorithm, "rollout", algorithm).envs
    episodes, plain = Episodes(envs.num_envs), envs.step
    over = np.zeros(envs.num_envs, np.bool_)

    def step(actions: Any) -> Any:
        result = plain(actions)
        _, rewards, terminations, truncations, _ = result
        ends = terminations | truncations
        episodes.add(rewards, ends, int((~over).sum()))  # what was over is only reset
        over[:] = ends
        return result

    envs.step = step
    return episodes.ended


def sb3(s: dict[str, Any], clock: Clock) -> dict[str, Any]:
    """Stable-Baselines3: `learn`."""
    import stable_baselines3
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env, make_vec_env
    from stable_baselines3.common.vec_env import VecFrameStack

    class Judge(BaseCallback):
        curve: list[float] = []

        def _on_step(self) -> bool:
            # Every copy of the environment steps in one call, so multiples of EVERY may be passed.
            if self.num_timesteps % s["every"] >= self.training_env.num_envs:
                return True
            with clock.paused():
                self.curve.append(greedy_return(act, s["task"], EPISODES, s["seed"]))
            return self.curve[-1] < s["target"]

    class Recorder(BaseCallback):
        def _on_step(self) -> bool:
            episodes.add(self.locals["rewards"], self.locals["dones"], envs.num_envs)
            return True

    def act(observation: Any) -> Any:
        return model.predict(observation, deterministic=True)[0]

    options = dict(s["options"])
    if s["task"].startswith("ALE/"):
        import ale_py
        import gymnasium as gym

        gym.register_envs(ale_py)
        # The task's own frame skip and sticky actions are turned off: the wrapper skips frames.
        own = {"frameskip": 1, "repeat_action_probability": 0.0}
        envs = make_atari_env(s["task"], options.pop("n_envs"), seed=s["seed"], env_kwargs=own)
        envs, policy = VecFrameStack(envs, 4), "CnnPolicy"
    else:
        envs = make_vec_env(s["task"], options.pop("n_envs", 1), seed=s["seed"])
        policy = "MlpPolicy"
    for name in ("learning_rate", "clip_range"):  # "lin_X" is rl-zoo's way to write a schedule
        if str(options.get(name, "")).startswith("lin_"):
            first = float(options[name].removeprefix("lin_"))
            options[name] = partial(lambda first, remaining: first * remaining, first)
    if "policy_kwargs" in options and "activation_fn" in options["policy_kwargs"]:
        activation = getattr(torch.nn, options["policy_kwargs"]["activation_fn"])
        options["policy_kwargs"] = options["policy_kwargs"] | {"activation_fn": activation}
    cls = getattr(stable_baselines3, s["algorithm"].upper())
    model = cls(policy, envs, seed=s["seed"], device="cpu", **options)
    judge, episodes = Judge() if s["every"] else None, Episodes(envs.num_envs)
    clock.start()
    model.learn(s["steps"], callback=Recorder() if s["record"] else judge)
    clock.stop()
    judged = {"solved": judge.curve[-1] >= s["target"]} if judge else {}
    if s["episodes"]:
        judged["return"] = greedy_return(act, s["task"], s["episodes"], s["seed"])
    recorded = {"ended": episodes.ended} if s["record"] else {}
    return {"steps": model.num_timesteps, **judged, **recorded}


def cleanrl(s: dict[str, Any], clock: Clock) -> dict[str, Any]:
    """The file of the algorithm, run as it is, from the first reset until it closes its envs."""
    import gymnasium as gym
    import torch

    class Timed(gym.vector.SyncVectorEnv):
        """As Gymnasium 0.29 had it, for which these files are written.

        An environment is reset by the step that ends its episode. What 0.29 told of the episode,
        which the files print, is left out.
        """

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs["autoreset_mode"] = gym.vector.AutoresetMode.SAME_STEP
            super().__init__(*args, **kwargs)
            self.clocked, self.episodes = True, Episodes(self.num_envs)

        def reset(self, **kwargs: Any) -> Any:
            result = super().reset(**kwargs)
            clock.start()
            return result

        def step(self, actions: Any) -> Any:
            observation, reward, terminated, truncated, info = super().step(actions)
            if "final_obs" in info:
                info["final_observation"] = info.pop("final_obs")
                del info["final_info"]
            if s["record"]:
                self.episodes.add(reward, terminated | truncated, self.num_envs)
            return observation, reward, terminated, truncated, info

        def close(self, **kwargs: Any) -> None:
            if self.clocked:
                clock.stop()
                self.clocked = False
            super().close(**kwargs)

    gym.vector.SyncVectorEnv = Timed
    folder = Path(s["cleanrl"])
    sys.path.insert(0, str(folder))
    sys.argv = [s["algorithm"], "--env-id", s["task"], "--seed", str(s["seed"]), "--no-cuda"]
    sys.argv += ["--total-timesteps", str(s["steps"])]
    script = folder / "cleanrl" / f"{s['algorithm']}.py"
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        names = runpy.run_path(str(script), run_name="__main__")

    network = names["agent"].actor if "agent" in names else names["q_network"]

    @torch.no_grad()
    def act(observation: Any) -> Any:
        return network(torch.as_tensor(observation)).argmax(-1).numpy()

    judged = {}
    if s["episodes"]:
        judged["return"] = greedy_return(act, s["task"], s["episodes"], s["seed"])
    recorded = {"ended": names["envs"].episodes.ended} if s["record"] else {}
    return {"steps": s["steps"], **judged, **recorded}


def pufferlib(s: dict[str, Any], clock: Clock) -> dict[str, Any]:
    """PufferLib 3: its trainer on Gymnasium's environment, without its dashboard."""
    import gymnasium as gym
    import torch

    sys.argv = [sys.argv[0]]  # of which its own parser of arguments would read
    import pufferlib.emulation
    import pufferlib.pytorch
    import pufferlib.vector
    from pufferlib import pufferl
    from torch import nn

    warnings.resetwarnings()
    warnings.simplefilter("ignore")  # it asks for CUDA's autocast, which is not there
    options = dict(s["options"])
    torch.manual_seed(s["seed"])

    def make(buf: Any = None, seed: int = 0) -> Any:
        return pufferlib.emulation.GymnasiumPufferEnv(
            env_creator=gym.make, env_args=[s["task"]], buf=buf, seed=seed
        )

    def perceptron(outputs: int, std: float) -> nn.Sequential:
        layer = pufferlib.pytorch.layer_init
        return nn.Sequential(
            layer(nn.Linear(inputs, 64)),
            nn.Tanh(),
            layer(nn.Linear(64, 64)),
            nn.Tanh(),
            layer(nn.Linear(64, outputs), std=std),
        )

    class Policy(nn.Module):
        """The network of the other contenders."""

        def __init__(self) -> None:
            super().__init__()
            self.actor = perceptron(int(envs.single_action_space.n), 0.01)
            self.critic = perceptron(1, 1.0)

        def forward(self, observations: Any, state: Any = None) -> Any:
            return self.actor(observations), self.critic(observations)

        forward_eval = forward

    envs = pufferlib.vector.make(
        make, num_envs=options.pop("num_envs"), backend=pufferlib.vector.Serial, seed=s["seed"]
    )
    inputs = int(np.prod(envs.single_observation_space.shape))
    policy = Policy()
    sys.argv = [sys.argv[0]]
    config = pufferl.load_config("default")["train"] | options
    config |= {"device": "cpu", "seed": s["seed"], "total_timesteps": s["steps"], "env": s["task"]}
    config |= {"checkpoint_interval": 10**9, "data_dir": "puffer"}
    pufferl.PuffeRL.print_dashboard = lambda self, *_, **__: None
    trainer = pufferl.PuffeRL(config, envs, policy)
    trainer.utilization.stop()
    clock.start()
    while trainer.global_step < s["steps"]:
        trainer.evaluate()
        trainer.train()
    clock.stop()

    @torch.no_grad()
    def act(observation: Any) -> Any:
        return policy.actor(torch.as_tensor(observation)).argmax(-1).numpy()

    judged = {}
    if s["episodes"]:
        judged["return"] = greedy_return(act, s["task"], s["episodes"], s["seed"])
    return {"steps": trainer.global_step, **judged}


def tianshou(s: dict[str, Any], clock: Clock) -> dict[str, Any]:
    """Tianshou 2: PPO by its trainer, without progress bar, tests and log."""
    import gymnasium as gym
    import torch
    from tianshou.algorithm import PPO
    from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory, LRSchedulerFactoryLinear
    from tianshou.data import Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv
    from tianshou.trainer import OnPolicyTrainerParams
    from tianshou.utils.net.common import Net
    from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic

    options = dict(s["options"])
    N, T = options.pop("num_envs"), options.pop("horizon")
    batch_size, epochs = options.pop("batch_size"), options.pop("epochs")
    torch.manual_seed(s["seed"])
    np.random.seed(s["seed"])
    envs = DummyVectorEnv([partial(gym.make, s["task"]) for _ in range(N)])
    envs.seed(s["seed"])
    observation_space, action_space = envs.observation_space[0], envs.action_space[0]

    def perceptron() -> Net:
        return Net(
            state_shape=observation_space.shape, hidden_sizes=[64, 64], activation=torch.nn.Tanh
        )

    actor = DiscreteActor(
        preprocess_net=perceptron(), action_shape=action_space.n, softmax_output=False
    )
    policy = ProbabilisticActorPolicy(
        actor=actor,
        dist_fn=lambda logits: torch.distributions.Categorical(logits=logits),
        action_space=action_space,
        action_scaling=False,
    )
    adam = AdamOptimizerFactory(lr=options.pop("lr"), eps=1e-5).with_lr_scheduler_factory(
        LRSchedulerFactoryLinear(
            max_epochs=1, epoch_num_steps=s["steps"], collection_step_num_env_steps=N * T
        )
    )
    critic = DiscreteCritic(preprocess_net=perceptron())
    algorithm = PPO(policy=policy, critic=critic, optim=adam, **options)
    collector = Collector(algorithm, envs, VectorReplayBuffer(N * T, N))
    collector.reset()
    training = OnPolicyTrainerParams(
        training_collector=collector,
        max_epochs=1,
        epoch_num_steps=s["steps"],
        collection_step_num_env_steps=N * T,
        batch_size=batch_size,
        update_step_num_repetitions=epochs,
        show_progress=False,
        verbose=False,
    )
    clock.start()
    algorithm.run_training(training)
    clock.stop()

    @torch.no_grad()
    def act(observation: Any) -> Any:
        return actor(torch.as_tensor(observation))[0].argmax(-1).numpy()

    judged = {}
    if s["episodes"]:
        judged["return"] = greedy_return(act, s["task"], s["episodes"], s["seed"])
    return {"steps": s["steps"], **judged}


def main() -> None:
    # A process started as a script finds its siblings first; none of them may hide a library.
    sys.path = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]
    library, settings = sys.argv[1], json.loads(sys.argv[2])
    clock = Clock()
    trainers = (corelab, sb3, cleanrl, pufferlib, tianshou)
    trainer = {t.__name__: t for t in trainers}[library]
    import torch

    torch.set_num_threads(1)
    told = trainer(settings, clock)
    print()
    print(json.dumps(told | {"cpu_seconds": round(clock.seconds, 3)}), flush=True)
    os._exit(0)  # some libraries leave threads behind


if __name__ == "__main__":
    main()
