"""What passes through networks while they learn: forwards, backwards, and what becomes of weights.

    with Watch() as watch:
        algorithm.step()
    watch.seen()                          # a `Networks`

Nothing of the algorithm has to be known. Torch tells of every module that is called; the
perceptrons of `corelab_nets`, whose passes are no modules' calls, are asked as well. Nothing that
is computed changes, and no random number is drawn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from corelab_nets.arrays import ArrayPerceptrons
from corelab_nets.compiled import CompiledPerceptrons
from corelab_nets.perceptron import Perceptrons
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from torch.nn.utils import parametrize

from corelab_diagnosis.interface import Layer, Networks

_ROWS = 1024
"""Rows of an input that are looked at, at most."""
_SAMPLE = 512
"""Rows of what a hidden layer is given whose rank is taken, at most; of half as many units."""
_KEPT = 0.99
"""Share of the sum of singular values that an effective rank accounts for."""
_SQUASHED, _LOW = 0.98, 0.02
"""Beyond these a tanh, or a sigmoid, is flat."""
_VIEWS = (
    *("View", "Unsafe", "Squeeze", "Unsqueeze", "Select", "Slice", "Split", "Permute", "Clone"),
    *("Reshape", "Transpose", "TBackward", "Expand", "ToCopy", "Alias", "Unbind", "Chunk"),
)
"""How the names of graph nodes begin that leave numbers as they are."""
_BOUNDED = {
    "SoftmaxBackward0": "softmax",
    "LogSoftmaxBackward0": "log-softmax",
    "SigmoidBackward0": "sigmoid",
    "TanhBackward0": "tanh",
    "ReluBackward0": "ReLU",
}


class Watch:
    """Within: gathers what is seen of UPDATES updates; later ones are let pass."""

    def __init__(self, updates: int = 16) -> None:
        self.updates = 0
        """How many were seen."""
        self.counted = 0
        """How many there were, those that were let pass as well."""
        self.seconds = 0.0
        """Of processor time that looking has taken."""
        self._limit = updates
        self._layers: dict[Any, _Layer] = {}
        self._endings: dict[str, str] = {}
        self._names: dict[int, tuple[str, str]] = {}
        self._depth = 0
        self._stack = ExitStack()

    @property
    def done(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.updates >= self._limit or self.counted >= 4 * self._limit

    @property
    def _full(self) -> bool:
        """Whether what comes now belongs to an update after the last that is looked at."""
        return self.counted >= self._limit

    def __enter__(self) -> Watch:
        enter = torch_modules.register_module_forward_pre_hook(self._entered)
        leave = torch_modules.register_module_forward_hook(self._left, always_call=True)
        for handle in (enter, leave):
            self._stack.callback(handle.remove)
        for owner, method, wrapper in (
            (Perceptrons, "trace", self._trace),
            (Perceptrons, "pull", self._pull),
            (ArrayPerceptrons, "trace", self._trace_arrays),
            (ArrayPerceptrons, "pull", self._pull_arrays),
            (CompiledPerceptrons, "trace", self._trace_arrays),
            (CompiledPerceptrons, "pull", self._pull_arrays),
        ):
            wrapped = wrapper(getattr(owner, method))
            self._stack.enter_context(patch.object(owner, method, wrapped))
        return self

    def __exit__(self, *_: object) -> None:
        for layer in self._layers.values():
            layer.finish()
            self.updates = max(self.updates, len(layer.changes))
        self._stack.close()

    def seen(self) -> Networks:
        """All of it."""
        layers = [layer.summary() for layer in self._layers.values() if layer.n or layer.gradients]
        return Networks(layers, dict(self._endings), self.updates)

    # Modules

    def _entered(self, module: nn.Module, args: Any) -> None:
        if self._depth == 0 and torch.is_grad_enabled() and id(module) not in self._names:
            network = type(module).__name__
            for name, part in module.named_modules():
                self._names.setdefault(id(part), (network, name))
        self._depth += 1

    def _left(self, module: nn.Module, args: Any, output: Any) -> None:
        self._depth -= 1
        if self._full or not torch.is_grad_enabled():
            return
        if self._depth == 0:
            self._end(type(module).__name__, output)
        weight = _weight_of(module)
        if weight is None:
            return
        if (layer := self._layers.get(id(module))) is None:
            network, name = self._names.get(id(module), (type(module).__name__, ""))
            first = all(other.network != network for other in self._layers.values())
            layer = _Layer(module, network, name or type(module).__name__, first)
            self._layers[id(module)] = layer
            if weight.requires_grad and weight.is_leaf:
                register: Any = weight.register_post_accumulate_grad_hook
                self._stack.callback(register(partial(self._learn, layer)).remove)
        x = args[0] if args else None
        if isinstance(x, Tensor) and x.is_floating_point() and x.dim() >= 2:
            units = 1 if hasattr(module, "kernel_size") else -1
            self._given(layer, x.detach().movedim(units, -1), data=not x.requires_grad)

    def _end(self, network: str, output: Any) -> None:
        outputs = output if isinstance(output, tuple | list) else (output,)
        for tensor in outputs:
            if isinstance(tensor, Tensor) and (ending := _ending(tensor)):
                self._endings[network] = ending

    def _learn(self, layer: _Layer, weight: Tensor) -> None:
        if weight.grad is not None:
            self._update(layer, weight.grad, weight)

    def _given(self, layer: _Layer, x: Tensor, data: bool) -> None:
        began = time.process_time()
        layer.see(x, data)
        self.seconds += time.process_time() - began

    def _update(self, layer: _Layer, gradient: Tensor, weight: Tensor) -> None:
        layer.gradients_seen += 1
        self.counted = max(self.counted, layer.gradients_seen)
        began = time.process_time()
        layer.finish()
        if not self.done:
            layer.learn(gradient, weight)
            self.updates = max(self.updates, len(layer.changes))
        self.seconds += time.process_time() - began

    # Perceptrons

    def _trace(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def trace(net: Perceptrons, x: Tensor) -> Any:
            y, kept = original(net, x)
            self._see(net, kept)
            return y, kept

        return trace

    def _trace_arrays(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def trace(fast: ArrayPerceptrons | CompiledPerceptrons, x: Any) -> Any:
            if not self._full:
                began, before = time.process_time(), self.seconds
                with torch.no_grad():
                    fast.net.trace(torch.from_numpy(x))  # which tells what the layers are given
                self.seconds = before + time.process_time() - began
            return original(fast, x)

        return trace

    def _pull(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def pull(net: Perceptrons, *args: Any) -> Any:
            flat, delta = original(net, *args)
            self._pulled(net, flat)
            return flat, delta

        return pull

    def _pull_arrays(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def pull(fast: ArrayPerceptrons | CompiledPerceptrons, *args: Any) -> Any:
            flat = original(fast, *args)
            self._pulled(fast.net, flat)
            return flat

        return pull

    def _see(self, net: Perceptrons, kept: list[Tensor]) -> None:
        if not self._full:
            for depth, h in enumerate(kept):
                for g in range(net.nets):
                    self._given(self._of(net, g, depth), h[g], data=depth == 0)

    def _pulled(self, net: Perceptrons, flat: Tensor) -> None:
        first = self._of(net, 0, 0)
        if self.done and not first.pending:  # only the count goes on
            first.gradients_seen += 1
            self.counted = max(self.counted, first.gradients_seen)
            return
        for depth, gradient in enumerate(net.cut(flat)[::2]):
            for g in range(net.nets):
                layer = self._of(net, g, depth)
                self._update(layer, gradient[g], net.layers(g)[depth][0])

    def _of(self, net: Perceptrons, g: int, depth: int) -> _Layer:
        key = (id(net), g, depth)
        if key not in self._layers:
            network = f"Perceptrons.{g}" if net.nets > 1 else "Perceptrons"
            self._layers[key] = _Layer(net, network, f"layer {depth + 1}", depth == 0)
        return self._layers[key]


class _Layer:
    """Sums over what one layer is given, and over what it learns from that."""

    def __init__(self, owner: nn.Module, network: str, name: str, first: bool) -> None:
        self.owner, self.network, self.name, self.first = owner, network, name, first
        self.n = 0
        self.rows = 0
        self.data = False
        self.gradients_seen = 0
        self.gradients: list[float] = []
        self.changes: list[float] = []
        self._weight: Tensor | None = None
        self._before: Tensor | None = None
        self._counts = torch.zeros(5)
        self._sample: list[Tensor] = []
        self._sampled = 0

    @property
    def pending(self) -> bool:
        """Whether its weight is about to change."""
        return self._before is not None

    def see(self, x: Tensor, data: bool) -> None:
        """X [..., units] is what it is given."""
        x = x.reshape(-1, x.shape[-1])
        self.rows, self.data = len(x), data
        if len(x) > _ROWS:
            x = x[:: len(x) // _ROWS]
        x = x.float()
        if not self.n:
            self.sum, self.square, self.largest = (x.new_zeros(x.shape[1]) for _ in range(3))
            self._counts = x.new_zeros(5)
        elif x.shape[1] != len(self.sum):
            return
        self.n += len(x)
        self.sum += x.sum(0)
        self.square += x.square().sum(0)
        if not data and self._sampled < _SAMPLE and not hasattr(self.owner, "kernel_size"):
            self._sample.append(x[: _SAMPLE - self._sampled].clone())
            self._sampled += len(self._sample[-1])
        size = x.abs()
        self.largest = torch.maximum(self.largest, size.amax(0))
        zero = size == 0
        self._counts += torch.stack(
            [
                (size > 1).sum(),
                (x < 0).sum(),
                zero.sum(),
                (size > _SQUASHED).sum(),
                ((size < _LOW) & ~zero).sum(),
            ]
        )

    def learn(self, gradient: Tensor, weight: Tensor) -> None:
        """WEIGHT has this GRADIENT and is about to change."""
        self.gradients.append(gradient.norm().item() / gradient.numel() ** 0.5)
        self._weight, self._before = weight, weight.detach().clone()

    def finish(self) -> None:
        """See what has become of the weight since it was last looked at."""
        if self._weight is not None and self._before is not None:
            change = (self._weight.detach() - self._before).norm().item()
            if change > 0:
                self.changes.append(change / (self._before.norm().item() + 1e-12))
        self._weight = self._before = None

    def summary(self) -> Layer:
        """All of it in a few numbers."""
        rms = mean = std = dead = saturated = largest = 0.0
        alike = False
        if self.n:
            n = self.n * len(self.sum)
            above, negative, zero, high, low = (self._counts / n).tolist()
            of_unit = self.sum / self.n
            rms = (self.square.sum() / n).sqrt().item()
            mean = of_unit.abs().max().item()
            std = (self.square / self.n - of_unit**2).clamp(min=0).sqrt().max().item()
            largest = self.largest.max().item()
            dead = (self.largest == 0).float().mean().item()
            if above < 1e-3 and negative > 0:
                saturated = high  # a tanh
            elif above < 1e-3 and (zero < 0.01 or high > 0.2):
                saturated = high + low + zero  # a sigmoid
            spread = (self.square.max() - self.square.min()) / (self.square.max() + 1e-12)
            alike = len(self.sum) > 1 and dead < 1 and bool(spread < 1e-6)
        return Layer(
            name=self.name,
            network=self.network,
            first=self.first,
            data=self.data,
            rows=self.rows,
            seen=self.n,
            units=len(self.sum) if self._sample else 0,
            used=_used(torch.cat(self._sample)) if self._sample else 0.0,
            rms=rms,
            mean=mean,
            std=std,
            largest=largest,
            dead=dead,
            saturated=saturated,
            alike=alike,
            gradient=_median(self.gradients),
            change=_median(self.changes),
            updates=len(self.changes),
        )


def _used(x: Tensor) -> float:
    """Effective rank of X [rows, units] (Kumar et al. 2021, arXiv:2010.14498, section 3) as a share
    of its units, of so many of them as there are rows for; 0 if that is fewer than two.
    """
    k = min(x.shape[1], len(x) // 2)
    if k < 2:
        return 0.0
    some = x[:, torch.arange(k, device=x.device) * x.shape[1] // k].double()
    singular = torch.linalg.eigvalsh(some.T @ some).clamp(min=0).sqrt().flip(0).cumsum(0)
    if not singular[-1] > 0:
        return 1 / k
    return (1 + int((singular < _KEPT * singular[-1]).sum())) / k


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


def _weight_of(module: nn.Module) -> Tensor | None:
    """The matrix, or what else it multiplies with, of a layer."""
    if isinstance(module, parametrize.ParametrizationList):
        return None
    if parametrize.is_parametrized(module):
        own: Any = module.parametrizations
        candidates = [part.original for part in own.values() if hasattr(part, "original")]
    else:
        candidates = list(module.parameters(recurse=False))
    matrices = [p for p in candidates if p.dim() >= 2]
    return max(matrices, key=Tensor.numel) if matrices else None


def _ending(output: Tensor) -> str:
    """What OUTPUT comes right out of, if that bounds it."""
    node: Any = output.grad_fn
    while node is not None:
        name = type(node).__name__
        if name in _BOUNDED:
            return _BOUNDED[name]
        if not name.startswith(_VIEWS) or not node.next_functions:
            return ""
        node = node.next_functions[0][0]
    return ""
