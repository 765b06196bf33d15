"""Parts of Q-networks: dueling streams and noisy layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NoisyLinear(nn.Module):
    """A linear layer whose weights are disturbed by factorised noise of learned size (Fortunato et
    al. 2018, arXiv:1706.10295): y = (μ + σ ⊙ f(ε_out) f(ε_in)ᵀ) x + μ_b + σ_b ⊙ f(ε_out).

    The noise stays the same until it is drawn anew by `draw_noise`; in evaluation there is none.
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, inputs: int, outputs: int, sigma: float = 0.1) -> None:
        super().__init__()
        bound = inputs**-0.5  # §3.2
        self.mu = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.mu_bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        self.sigma = nn.Parameter(torch.full((outputs, inputs), sigma * bound))
        self.sigma_bias = nn.Parameter(torch.full((outputs,), sigma * bound))
        self.register_buffer("noise_in", torch.zeros(inputs))
        self.register_buffer("noise_out", torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs] to [B, outputs]."""
        y = nn.functional.linear(x, self.mu, self.mu_bias)
        if not self.training:
            return y
        # σ ⊙ (f_out f_inᵀ) is never formed: scaling inputs and outputs does the same for less
        disturbed = nn.functional.linear(x * self.noise_in, self.sigma, self.sigma_bias)
        return y + disturbed * self.noise_out


@torch.no_grad()
def draw_noise(net: nn.Module, generator: torch.Generator) -> None:
    """Give every noisy layer of NET new noise f(ε) = sgn(ε) √|ε| (eq. 10), ε standard normal."""
    for layer in net.modules():
        if isinstance(layer, NoisyLinear):
            for noise in (layer.noise_in, layer.noise_out):
                noise.normal_(generator=generator)
                noise.copy_(noise.sign() * noise.abs().sqrt())


class Head(nn.Module):
    """The last two layers of a Q-network: features [B, inputs] to values [B, actions, atoms].

    With DUELING (Wang et al. 2016, arXiv:1511.06581) the last layer has two streams, the value of
    the state and the advantages of the actions.
    """

    def __init__(
        self, inputs: int, width: int, actions: int, atoms: int, *, dueling: bool, noisy: bool
    ) -> None:
        super().__init__()
        linear = NoisyLinear if noisy else nn.Linear
        self.hidden = linear(inputs, width)
        self.output = linear(width, (actions + dueling) * atoms)
        self._atoms, self._dueling = atoms, dueling

    def forward(self, features: Tensor) -> Tensor:
        """Values [B, actions, atoms]."""
        return join(self.output(self.hidden(features).relu()), self._atoms, self._dueling)


def join(y: Tensor, atoms: int, dueling: bool) -> Tensor:
    """Values [B, actions, atoms] of the outputs Y of a last layer, [B, (actions or, if DUELING,
    1 + actions) x atoms]: Q = V + A - mean_a A (Wang et al. 2016, eq. 9).
    """
    z = y.view(len(y), -1, atoms)
    if not dueling:
        return z
    value, advantage = z[:, :1], z[:, 1:]
    return value + advantage - advantage.mean(1, keepdim=True)
