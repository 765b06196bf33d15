"""RLlib's network of PPO and IMPALA, with a mask of actions. Only to be imported where Ray is."""

from __future__ import annotations

from typing import Any

from corelab_nets.masks import masked
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule


class Masked(DefaultPPOTorchRLModule):  # type: ignore[misc]
    """The same, except that what the first numbers of an observation forbid is never done."""

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._heeding(batch, super()._forward(batch, **kwargs))

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._heeding(batch, super()._forward_train(batch, **kwargs))

    def _heeding(self, batch: dict[str, Any], output: dict[str, Any]) -> dict[str, Any]:
        allowed = batch["obs"][..., : int(self.action_space.n)] > 0
        return output | {"action_dist_inputs": masked(output["action_dist_inputs"], allowed)}
