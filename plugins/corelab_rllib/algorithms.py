"""RLlib's algorithms: RLlib owns the networks, the updates and its workers, corelab the run.

Liang et al. 2018, "RLlib: Abstractions for Distributed Reinforcement Learning", arXiv:1712.09381.
"""

from __future__ import annotations

import atexit
import logging
import math
import tomllib
import warnings
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, SupportsFloat

import numpy as np
import torch
from corelab_envs.interface import Environment, film, measure
from corelab_media import Video
from corelab_nets.masks import has_mask
from gymnasium import spaces
from numpy.typing import NDArray

from corelab import ConfigError, Context, PluginError, Split, require
from corelab.plugins import one_line
from corelab.state import load_tree, save_tree
from corelab_rllib.environment import Single, observed

_LOSSES = {
    "policy_loss": "policy_loss",
    "vf_loss": "value_loss",
    "qf_loss": "critic_loss",
    "qf_mean": "q",
    "entropy": "entropy",
    "mean_kl_loss": "approx_kl",
    "alpha_value": "alpha",
    "total_loss": "loss",
    "default_optimizer_learning_rate": "lr",
}
"""RLlib's names of metrics, and corelab's."""

_own_ray = ExitStack()
atexit.register(_own_ray.close)


@dataclass(frozen=True)
class Common:
    """Options of all of them."""

    lr: float = 3e-4
    """Step size of Adam."""
    gamma: float = 0.99
    """Discount of future rewards."""
    batch_size: int = 2_000
    """Steps of the environments in a batch that is learned from."""
    sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of its perceptrons."""
    settings: tuple[str, ...] = ()
    """Any other arguments of RLlib's `AlgorithmConfig.training`, such as "grad_clip=0.5"."""


class RLlib:
    """What RLlib's algorithms have in common."""

    rolls_out: ClassVar[bool] = True
    exact: ClassVar[bool] = False
    unit: ClassVar[str] = "env steps"
    default_task: ClassVar[str] = "CartPole-v1"
    default_model: ClassVar[str] = ""
    default_steps: ClassVar[int] = 100_000
    best: ClassVar[str] = "max eval/return"
    highlights: ClassVar[tuple[str, ...]] = ("train/return", "eval/return")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    name: ClassVar[str]
    """What RLlib calls it."""
    num_envs: ClassVar[int] = 1
    """How many copies of the environment are learned from if the user does not say."""
    on_policy: ClassVar[bool] = False
    """Whether it learns from what it has just done."""
    heeds_masks: ClassVar[bool] = False
    """Whether it learns where a mask says which actions are allowed."""

    def __init__(self, config: Any, task: Environment, model: None, context: Context) -> None:
        require(config.batch_size >= 1, "algorithm.batch_size", config.batch_size, "at least 1")
        require(config.lr > 0, "algorithm.lr", config.lr, "positive")
        require(0 <= config.gamma <= 1, "algorithm.gamma", config.gamma, "between 0 and 1")
        self._several = getattr(task, "agents", 1) > 1
        self._policy = "shared" if self._several else "default_policy"  # what RLlib calls one
        if self._several and not self.on_policy:
            raise PluginError(
                f"{task.name} has several agents, for which rllib-ppo, rllib-appo and rllib-impala "
                "can learn"
            )
        self._masked = has_mask(task.single_observation_space)
        if self._masked and not self.heeds_masks:
            raise PluginError(
                f"{task.name} says which actions are allowed, which RLlib's {self.name} does not "
                "heed; rllib-ppo, rllib-impala, ppo and dqn do"
            )
        self.config, self.task, self.context = config, task, context
        self.space, self._see = observed(task)
        self.progress = 0
        self._algorithm = self._build()

    def training(self) -> dict[str, Any]:
        """The options as the arguments of RLlib's `AlgorithmConfig.training`."""
        c: Common = self.config
        return {"lr": c.lr, "gamma": c.gamma, "train_batch_size_per_learner": c.batch_size}

    def _build(self) -> Any:
        """RLlib's algorithm, on the Ray that is there or on one that ends with this process."""
        try:
            import ray
            from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
            from ray.rllib.core.rl_module.rl_module import RLModuleSpec
            from ray.tune.registry import get_trainable_cls
        except ImportError as error:
            raise PluginError(
                f"rllib-{self.name.lower()} needs RLlib: pip install 'corelab-ml[ray]'"
            ) from error
        from corelab.cluster.connection import connected

        config = self.config
        with _quiet():
            if not ray.is_initialized():
                _own_ray.enter_context(connected("", ()))
            settings = get_trainable_cls(self.name).get_default_config()
            try:
                settings.training(**self.training() | _read(config.settings))
            except (TypeError, ValueError) as error:
                raise ConfigError(f"algorithm.settings: {one_line(error)}") from error
            sizes = DefaultModelConfig(fcnet_hiddens=list(config.sizes))
            if self._masked:
                from corelab_rllib.masked import Masked

                settings.rl_module(rl_module_spec=RLModuleSpec(module_class=Masked))
            settings.rl_module(model_config=sizes)
            self._place(settings)
            try:
                algorithm = settings.build_algo()
            except (ValueError, NotImplementedError) as error:
                raise PluginError(
                    f"RLlib's {self.name} does not learn {self.task.name}: {one_line(error)}"
                ) from error
            with suppress(OSError):
                Path(algorithm.logdir).rmdir()  # made below ~/ray_results, and never used
            weakref.finalize(self, _end, algorithm)
        return algorithm

    def _place(self, settings: Any) -> None:
        """Tell RLlib's SETTINGS of the task and of the machine."""
        context = self.context
        kind: type = Single
        if self._several:
            from corelab_rllib.agents import Several

            kind, policy = Several, self._policy
            settings.multi_agent(policies={policy}, policy_mapping_fn=lambda *agent, **more: policy)
        environment = {"task": self.task, "seed": context.seed_for("envs")}
        settings.environment(kind, env_config=environment, disable_env_checking=True)
        settings.env_runners(
            num_env_runners=context.rollout_workers, num_envs_per_env_runner=self._copies()
        )
        settings.fault_tolerance(restart_failed_env_runners=False)
        gpus = int(context.device.type == "cuda")
        settings.learners(num_learners=0, num_gpus_per_learner=gpus)
        settings.reporting(
            min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=self._iteration()
        )
        settings.debugging(seed=context.seed_for("rllib") % 2**31, log_level="ERROR")

    def _copies(self) -> int:
        """Copies of the environment in each of RLlib's workers."""
        rows = self.task.num_envs or self.num_envs  # one for each agent
        copies = rows // getattr(self.task, "agents", 1)
        return max(1, copies // max(1, self.context.rollout_workers))

    def _iteration(self) -> int:
        """Steps of the environments that an iteration has at least."""
        return int(self.config.batch_size)

    def step(self) -> dict[str, float]:
        """One iteration of RLlib's; `return` and `episode_length` are means of 100 episodes."""
        before = self.progress
        while self.progress == before:
            with _quiet():
                results = self._algorithm.train()
            played = results["env_runners"]
            self.progress = int(sum(played["num_agent_steps_sampled_lifetime"].values()))
        learned = results.get("learners", {}).get(self._policy, {})
        metrics = {name: learned[key] for key, name in _LOSSES.items() if key in learned}
        metrics["return"] = played.get("episode_return_mean", math.nan)
        if self._several:  # what RLlib says is the sum over the agents
            metrics["return"] /= len(played["num_agent_steps_sampled_lifetime"])
        metrics["episode_length"] = played.get("episode_len_mean", math.nan)
        return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}

    def save(self, directory: Path) -> None:
        """Write RLlib's state, but for what its checkpoints leave out: replay and environments."""
        state = _plain(self._algorithm.get_state())
        modules = state["learner_group"]["learner"].pop("rl_module")
        save_tree(directory / "weights", modules)
        if (replay := self._algorithm.local_replay_buffer) is not None:
            state["replay"] = _plain(replay.get_state())
        save_tree(directory / "state", {"progress": self.progress, "rllib": state})

    def load(self, directory: Path) -> None:
        """Go on with RLlib's state, with new episodes and an empty replay."""
        saved = load_tree(directory / "state")
        state = saved["rllib"]
        state["learner_group"]["learner"]["rl_module"] = load_tree(directory / "weights")
        if "replay" in state:
            self._algorithm.local_replay_buffer.set_state(state.pop("replay"))
        with _quiet():
            self._algorithm.set_state(state)
        self.progress = saved["progress"]

    def evaluate(
        self, split: Split = "test", n: int | None = None, seed: int = 0
    ) -> dict[str, SupportsFloat | Video]:
        """Play N episodes (validation: 20, test: 100) with the likeliest actions."""
        return measure(self.task, self._act, n, split, seed)

    def sample(self, n: int = 1, seed: int = 0) -> Video:
        """Film N episodes, with the likeliest actions."""
        return film(self.task, self._act, n, "test", seed)

    @torch.no_grad()
    def _act(self, observation: Any) -> NDArray[Any]:
        """The likeliest actions [N, ...] for OBSERVATION [N, ...]."""
        module = self._algorithm.get_module(self._policy)
        device = next(module.parameters()).device
        seen = torch.as_tensor(self._see(observation)).to(device)
        given = module.forward_inference({"obs": seen})
        if "actions" in given:
            return np.asarray(given["actions"].cpu())
        kind = module.get_inference_action_dist_cls()
        chosen = kind.from_logits(given["action_dist_inputs"]).to_deterministic().sample()
        actions = np.asarray(chosen.cpu())
        space = self.task.single_action_space
        if isinstance(space, spaces.Box):  # RLlib's policies act within ±1
            inside = (np.clip(actions, -1, 1) + 1) / 2
            actions = (space.low + (space.high - space.low) * inside).astype(space.dtype)
        return actions


class PPO(RLlib):
    """RLlib's proximal policy optimization."""

    @dataclass(frozen=True)
    class Config(Common):
        """Options of RLlib's PPO."""

        epochs: int = 10
        """Passes over a batch."""
        minibatch_size: int = 128
        """Steps in a minibatch."""
        lam: float = 0.95
        """How far advantages look ahead, from 0 (one step) to 1 (the whole episode)."""
        clip: float = 0.2
        """How far the probability ratio may move from 1 before it stops to pay."""
        value_coef: float = 0.5
        """Weight of the value loss."""
        entropy_coef: float = 0.0
        """Weight of the entropy bonus."""

    name = "PPO"
    on_policy = heeds_masks = True
    num_envs = 8

    def training(self) -> dict[str, Any]:
        """See the base class."""
        c: PPO.Config = self.config
        return super().training() | {
            "minibatch_size": min(c.minibatch_size, c.batch_size),
            "num_epochs": c.epochs,
            "lambda_": c.lam,
            "clip_param": c.clip,
            "vf_clip_param": math.inf,  # RLlib's 10 would ignore what values of long episodes miss
            "vf_loss_coeff": c.value_coef,
            "entropy_coeff": c.entropy_coef,
        }


class IMPALA(RLlib):
    """RLlib's importance-weighted actor-learners."""

    @dataclass(frozen=True)
    class Config(Common):
        """Options of RLlib's IMPALA."""

        lr: float = 5e-4
        """Step size of Adam."""
        batch_size: int = 500
        """Steps of the environments in a batch that is learned from."""
        value_coef: float = 0.5
        """Weight of the value loss."""
        entropy_coef: float = 0.01
        """Weight of the entropy bonus."""

    name = "IMPALA"
    on_policy = heeds_masks = True

    def training(self) -> dict[str, Any]:
        """See the base class."""
        c: IMPALA.Config = self.config
        return super().training() | {
            "vf_loss_coeff": c.value_coef,
            "entropy_coeff": c.entropy_coef,
        }


class APPO(RLlib):
    """RLlib's asynchronous PPO: IMPALA's actors and learner with PPO's clipped ratio."""

    @dataclass(frozen=True)
    class Config(Common):
        """Options of RLlib's APPO."""

        lr: float = 5e-4
        """Step size of Adam."""
        batch_size: int = 500
        """Steps of the environments in a batch that is learned from."""
        reuse: int = 2
        """How often a batch is learned from."""
        clip: float = 0.4
        """How far the probability ratio may move from 1 before it stops to pay."""
        value_coef: float = 0.5
        """Weight of the value loss."""
        entropy_coef: float = 0.01
        """Weight of the entropy bonus."""

    name = "APPO"
    on_policy = True

    def training(self) -> dict[str, Any]:
        """See the base class."""
        c: APPO.Config = self.config
        return super().training() | {
            "circular_buffer_iterations_per_batch": c.reuse,
            "clip_param": c.clip,
            "vf_loss_coeff": c.value_coef,
            "entropy_coeff": c.entropy_coef,
        }


class DQN(RLlib):
    """RLlib's deep Q-network."""

    @dataclass(frozen=True)
    class Config(Common):
        """Options of RLlib's DQN."""

        lr: float = 5e-4
        """Step size of Adam."""
        batch_size: int = 32
        """Transitions in a minibatch."""
        capacity: int = 50_000
        """How many of the newest transitions are kept."""
        warmup: int = 1_000
        """Steps of the environment before learning begins."""
        target_every: int = 500
        """Steps of the environment between two updates of the target network."""
        epsilon: float = 0.05
        """The share of random actions at the end of the exploration."""
        exploration: int = 10_000
        """Steps of the environment over which that share falls from 1."""

    name = "DQN"

    def training(self) -> dict[str, Any]:
        """See the base class."""
        c: DQN.Config = self.config
        return super().training() | {
            "num_steps_sampled_before_learning_starts": c.warmup,
            "target_network_update_freq": c.target_every,
            "epsilon": [(0, 1.0), (c.exploration, c.epsilon)],
            "replay_buffer_config": {
                "type": "PrioritizedEpisodeReplayBuffer",
                "capacity": c.capacity,
                "alpha": 0.6,
                "beta": 0.4,
            },
        }

    def _iteration(self) -> int:
        return 256


class SAC(RLlib):
    """RLlib's soft actor-critic."""

    @dataclass(frozen=True)
    class Config(Common):
        """Options of RLlib's SAC."""

        batch_size: int = 256
        """Transitions in a minibatch."""
        capacity: int = 100_000
        """How many of the newest transitions are kept."""
        warmup: int = 1_000
        """Steps of the environment before learning begins."""
        tau: float = 0.005
        """How far the target critics move towards the critics in each update."""

    name = "SAC"
    default_task: ClassVar[str] = "Pendulum-v1"

    def training(self) -> dict[str, Any]:
        """See the base class."""
        c: SAC.Config = self.config
        return super().training() | {
            "lr": None,  # it has three
            "actor_lr": c.lr,
            "critic_lr": c.lr,
            "alpha_lr": c.lr,
            "tau": c.tau,
            "num_steps_sampled_before_learning_starts": c.warmup,
            "replay_buffer_config": {
                "type": "EpisodeReplayBuffer",
                "capacity": c.capacity,
            },
        }

    def _iteration(self) -> int:
        return 256


def _read(settings: tuple[str, ...]) -> dict[str, Any]:
    """SETTINGS, each of them a line of TOML. ConfigError for one that is not."""
    values: dict[str, Any] = {}
    for line in settings:
        try:
            values |= tomllib.loads(line)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(
                f'algorithm.settings takes lines of TOML, such as "grad_clip=0.5", got {line!r} '
                f"({error})"
            ) from error
    return values


def _plain(value: Any) -> Any:
    """VALUE with what RLlib keeps in queues as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | deque):
        return [_plain(v) for v in value]
    return value


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, RLlib keeps its notices to itself."""
    logger = logging.getLogger("ray.rllib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _end(algorithm: Any) -> None:
    with _quiet():
        algorithm.stop()
