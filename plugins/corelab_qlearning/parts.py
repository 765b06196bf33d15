"""Parts of Q-networks: dueling streams and noisy layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Pull = Callable[[Tensor], tuple[Tensor, list[Tensor]]]
"""Makes of the gradient with respect to outputs that with respect to inputs, and those with respect
to the parameters in their order."""

_FEW = 16
"""For fewer rows than this it is cheaper to disturb what goes in and out than the weights."""


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
        if not self.training:
            return nn.functional.linear(x, self.mu, self.mu_bias)
        if len(x) < _FEW:
            disturbed = nn.functional.linear(x * self.noise_in, self.sigma, self.sigma_bias)
            return nn.functional.linear(x, self.mu, self.mu_bias) + disturbed * self.noise_out
        weight, bias, _ = self._disturbed()
        return nn.functional.linear(x, weight, bias)

    def _disturbed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights and biases with their noise, and the noise of the weights."""
        noise = torch.outer(self.noise_out, self.noise_in)
        bias = torch.addcmul(self.mu_bias, self.sigma_bias, self.noise_out)
        return torch.addcmul(self.mu, self.sigma, noise), bias, noise

    def trace(self, x: Tensor) -> tuple[Tensor, Pull]:
        """What a call gives in training, without a graph, and what makes gradients of gradients."""
        weight, bias, noise = self._disturbed()

        def pull(dy: Tensor) -> tuple[Tensor, list[Tensor]]:
            dx, (dw, db) = _pull(weight, x, dy)
            return dx, [dw, db, dw * noise, db * self.noise_out]

        return nn.functional.linear(x, weight, bias), pull


class Linear(nn.Linear):
    """A linear layer that can be trained without a graph."""

    def trace(self, x: Tensor) -> tuple[Tensor, Pull]:
        """What a call gives, without a graph, and what makes gradients of gradients."""
        return self(x), lambda dy: _pull(self.weight, x, dy)


def _pull(weight: Tensor, x: Tensor, dy: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The gradients with respect to X [B, inputs] and to WEIGHT and the bias, from that with
    respect to y = x Wᵀ + b, DY [B, outputs].
    """
    return dy @ weight, [dy.T @ x, dy.sum(0)]


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
        linear = NoisyLinear if noisy else Linear
        self.hidden = linear(inputs, width)
        self.output = linear(width, (actions + dueling) * atoms)
        self._atoms, self._dueling = atoms, dueling

    def forward(self, features: Tensor) -> Tensor:
        """Values [B, actions, atoms]."""
        return join(self.output(self.hidden(features).relu()), self._atoms, self._dueling)

    def trace(self, features: Tensor) -> tuple[Tensor, Pull]:
        """Values as a call has them in training, without a graph, and what makes of their gradient
        those of the features and of all parameters.
        """
        hidden, pull_hidden = self.hidden.trace(features)
        hidden.relu_()
        y, pull_output = self.output.trace(hidden)

        def pull(dz: Tensor) -> tuple[Tensor, list[Tensor]]:
            dy = unjoin(dz) if self._dueling else dz
            dh, of_output = pull_output(dy.reshape(len(dz), -1))
            dx, of_hidden = pull_hidden(torch.ops.aten.threshold_backward(dh, hidden, 0))
            return dx, of_hidden + of_output

        return join(y, self._atoms, self._dueling), pull


def join(y: Tensor, atoms: int, dueling: bool) -> Tensor:
    """Values [B, actions, atoms] of the outputs Y of a last layer, [B, (actions or, if DUELING,
    1 + actions) x atoms]: Q = V + A - mean_a A (Wang et al. 2016, eq. 9).
    """
    z = y.view(len(y), -1, atoms)
    if not dueling:
        return z
    value, advantage = z[:, :1], z[:, 1:]
    return value + advantage - advantage.mean(1, keepdim=True)


def unjoin(dz: Tensor) -> Tensor:
    """The gradient with respect to the outputs of dueling streams, [B, 1 + actions, atoms], from
    that with respect to what `join` makes of them, DZ [B, actions, atoms].
    """
    return torch.cat([dz.sum(1, keepdim=True), dz - dz.mean(1, keepdim=True)], 1)
