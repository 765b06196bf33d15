"""What a network says about the return of an action, and how it learns to say it better.

Three ways: the expected return (Mnih et al. 2015), probabilities of fixed returns (C51; Bellemare
et al. 2017) and returns of fixed probabilities (QR-DQN; Dabney et al. 2018). Z is what the network
gives for an action, Z numbers called atoms. The gradients of the losses are written out, which
costs less than to have them derived at every update.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

Returns = Literal["expected", "c51", "quantile"]
"""The names of the three ways."""


class Loss(NamedTuple):
    """How wrong a network was about K actions."""

    loss: Tensor
    """[K]."""
    gradient: Tensor
    """Of each loss with respect to the network's outputs for the action, [K, Z]."""
    error: Tensor
    """What prioritised replay goes by, not negative, [K]."""


class Values(Protocol):
    """A way to describe returns by Z numbers."""

    atoms: int

    def expected(self, z: Tensor) -> Tensor:
        """The expected returns Q [...] that the outputs Z [..., Z] stand for."""

    def target(self, z: Tensor, reward: Tensor, discount: Tensor) -> Tensor:
        """What to learn, if REWARD [K] came and outputs Z [K, Z] describe what follows, which
        counts by DISCOUNT [K].
        """

    def loss(self, z: Tensor, target: Tensor) -> Loss:
        """How far outputs Z [K, Z] are from TARGET."""


def huber(error: Tensor) -> Tensor:
    """Huber's loss with κ = 1: ½ x² up to |x| = 1, and then |x| - ½."""
    size = error.abs()
    return torch.where(size <= 1, 0.5 * error**2, size - 0.5)


class Expectation:
    """One atom: Q itself. CLIPS says whether the gradient of its loss is clipped."""

    atoms = 1

    def __init__(self, clips: bool = True) -> None:
        self._clips = clips

    def expected(self, z: Tensor) -> Tensor:
        """Q [...]."""
        return z.squeeze(-1)

    def target(self, z: Tensor, reward: Tensor, discount: Tensor) -> Tensor:
        """Y = r + γ Q(s', a') [K] (Mnih et al. 2015, algorithm 1)."""
        return reward + discount * z.squeeze(-1)

    def loss(self, z: Tensor, target: Tensor) -> Loss:
        """½ δ² of δ = Q - y; if its gradient δ is clipped to [-1, 1], as in the paper, this is
        Huber's loss.
        """
        error = z.squeeze(-1) - target
        if self._clips:
            return Loss(huber(error), error.clamp(-1, 1).unsqueeze(-1), error.abs())
        return Loss(0.5 * error**2, error.unsqueeze(-1), error.abs())


_SURE = 0.9
"""How likely C51's first guess has a return of 0, or else of the end of its range next to it."""


class Categorical:
    """C51: the logits of probabilities p of returns z_0 … z_{Z-1}, evenly spaced.

    Logits are counted from those of a prior, in which 0.9 lies on a return of 0 and the rest is
    spread evenly. Without it the first guess would be the middle of the range, whatever the task,
    and differences between actions would be small beside the spread.
    """

    def __init__(self, atoms: int, low: float, high: float, device: torch.device) -> None:
        self.atoms = atoms
        self.support = torch.linspace(low, high, atoms, device=device)
        even = torch.full((1, atoms), 1 / atoms, device=device)
        nothing = project(even, torch.zeros_like(even), self.support)
        self._prior = torch.lerp(even, nothing, _SURE).log()[0]

    def log_p(self, z: Tensor) -> Tensor:
        """Log p [..., Z] of what the network gives."""
        return (z + self._prior.to(z.dtype)).log_softmax(-1)

    def expected(self, z: Tensor) -> Tensor:
        """Q = Σ p_i z_i [...]."""
        return self.log_p(z).exp() @ self.support.to(z.dtype)

    def target(self, z: Tensor, reward: Tensor, discount: Tensor) -> Tensor:
        """Probabilities m [K, Z]: of what follows, shrunk, shifted and projected."""
        returns = reward.unsqueeze(-1) + discount.unsqueeze(-1) * self.support
        return project(self.log_p(z).exp(), returns, self.support)

    def loss(self, z: Tensor, target: Tensor) -> Loss:
        """KL(m ‖ p) (Bellemare et al. 2017, eq. 7 and below); its gradient is p - m."""
        log_p = self.log_p(z)
        kl = (target.xlogy(target) - target * log_p).sum(-1)
        return Loss(kl, log_p.exp() - target, kl.clamp(min=0))


def project(p: Tensor, returns: Tensor, support: Tensor) -> Tensor:
    """Probabilities m [K, Z] on the evenly spaced SUPPORT [Z] for P [K, Z] of RETURNS [K, Z]: each
    is shared by its two neighbours, and belongs to the end that it lies beyond (algorithm 1).
    """
    low, high, spacing = support[0], support[-1], support[1] - support[0]
    b = ((returns.clamp(low, high) - low) / spacing).clamp(0, len(support) - 1)
    below = b.floor()
    share = b - below
    l = below.long()  # noqa: E741
    u = (l + 1).clamp(max=len(support) - 1)
    m = torch.zeros_like(p)
    m.scatter_add_(-1, l, p * (1 - share))
    m.scatter_add_(-1, u, p * share)
    return m


class Quantiles:
    """QR-DQN: the quantiles θ_i of the return at the middles τ_i = (i + ½) / Z."""

    def __init__(self, atoms: int, device: torch.device) -> None:
        self.atoms = atoms
        self.tau = (torch.arange(atoms, device=device) + 0.5) / atoms

    def expected(self, z: Tensor) -> Tensor:
        """Q = mean θ_i [...]."""
        return z.mean(-1)

    def target(self, z: Tensor, reward: Tensor, discount: Tensor) -> Tensor:
        """T θ_j = r + γ θ_j(s', a') [K, Z]."""
        return reward.unsqueeze(-1) + discount.unsqueeze(-1) * z

    def loss(self, z: Tensor, target: Tensor) -> Loss:
        """Σ_i mean_j |τ_i - 1{u_ij < 0}| L_κ(u_ij), u_ij = T θ_j - θ_i (Dabney et al. 2018, eq. 10
        and algorithm 1), with κ = 1.
        """
        u = target.unsqueeze(-2) - z.unsqueeze(-1)
        weight = (self.tau.to(z.dtype).unsqueeze(-1) - (u < 0).to(z.dtype)).abs()
        loss = (weight * huber(u)).mean(-1).sum(-1)
        return Loss(loss, -(weight * u.clamp(-1, 1)).mean(-1), loss)


def describe(
    returns: Returns, clips: bool, atoms: int, low: float, high: float, device: torch.device
) -> Values:
    """The way called RETURNS, with so many ATOMS; C51's are spread from LOW to HIGH. An expectation
    CLIPS its error.
    """
    match returns:
        case "expected":
            return Expectation(clips)
        case "c51":
            return Categorical(atoms, low, high, device)
        case "quantile":
            return Quantiles(atoms, device)
