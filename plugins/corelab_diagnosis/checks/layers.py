"""Networks layer by layer: what they are given, and what comes back through them."""

from __future__ import annotations

from itertools import groupby

from corelab_diagnosis.interface import Evidence, Finding, Layer, Networks

_SHRUNK, _GROWN = 1e-3, 50.0
"""Activations, as root mean squares, between which a fresh network has them."""
_DEAD = 0.8
"""Share of a layer's units that may always be 0."""
_ROWS = 128
"""Rows below which a unit that is never above 0 proves nothing."""
_SATURATED = 0.5
"""Share of values at the flat ends of a sigmoid or tanh."""
_VANISHED = 1e-4
"""How much smaller the gradient of a first layer may be than that of a last one."""
_UNBOUNDED = ("actor-critic", "q-network", "policy-value", "classifier")
"""Interfaces whose networks give any number: logits, values."""


def last_activation(e: Evidence) -> Finding | None:
    """What gives logits or values does not end in something that bounds them."""
    for networks in (e.fresh, e.end):
        for network, kind in (networks or Networks()).endings.items():
            of_logits = e.provides == "gan" and network == "Discriminator"
            if (e.provides not in _UNBOUNDED and not of_logits) or kind == "log-softmax":
                continue
            return Finding(
                "last activation",
                f"what {network} gives comes right out of a {kind}",
                f"the loss takes logits or values, any number; a {kind} keeps them where it cannot "
                "become small, and squashes the gradient once more",
                f"leave the {kind} out: the loss has its own",
                "Goodfellow et al. 2016, Deep Learning, section 6.2.2",
            )
    return None


def initialisation(e: Evidence) -> Finding | None:
    """In a fresh network activations neither shrink nor grow from layer to layer."""
    for layer in (e.fresh or Networks()).hidden():
        if layer.alike:
            seen = f"all units before {layer} were the same at the start"
            why = "units that begin alike get the same gradient and stay alike"
        elif not _SHRUNK < layer.rms < _GROWN:
            seen = f"{layer} was given numbers of {layer.rms:.2g} (rms) at the start"
            way = "nothing is left of a signal" if layer.rms < 1 else "a signal drowns all others"
            why = f"activations should be about 1 in every layer; here {way}"
        elif layer.saturated > 0.8:
            seen = f"{layer.saturated:.0%} of what {layer} was given at the start were at "
            seen += "the flat ends of a sigmoid or tanh"
            why = "where an activation is flat, no gradient comes back"
        else:
            continue
        return Finding(
            "initialisation",
            seen,
            why,
            "draw weights with a variance of 2 / fan-in before ReLUs and 1 / fan-in before others, "
            "or put a normalisation between the layers",
            "Glorot & Bengio 2010, section 4.2; He et al. 2015, arXiv:1502.01852, section 2.2",
        )
    return None


def dead(e: Evidence) -> Finding | None:
    """Units are above 0 sometimes."""
    networks = e.end or e.start or Networks()
    layers = [layer for layer in networks.hidden() if layer.seen >= _ROWS]
    worst = max(layers, key=lambda layer: layer.dead, default=None)
    if worst is None or worst.dead < _DEAD:
        return None
    return Finding(
        "dead units",
        f"{worst.dead:.0%} of the units before {worst} were 0 in all {worst.seen:,} rows",
        "a ReLU that is never above 0 gets no gradient and does not come back",
        "a smaller step size, biases that begin at 0, leaky ReLUs, or a normalisation before them",
        "Lu et al. 2019, Dying ReLU and Initialization, arXiv:1903.06733; in reinforcement "
        "learning Sokar et al. 2023, arXiv:2302.12902, section 3",
    )


def saturated(e: Evidence) -> Finding | None:
    """Sigmoids and tanhs are not at their ends."""
    # a critic whose values are large has its last layer there late in the run, and learns
    late = None if len(e.series("train/return")) else e.end
    worst = next((x for n in (e.fresh, late) if (x := _flattest(n)) is not None), None)
    if worst is None:
        return None
    return Finding(
        "saturation",
        f"{worst.saturated:.0%} of what {worst} is given are at the flat ends of a sigmoid or tanh",
        "where an activation is flat, no gradient comes back",
        "smaller weights at the start, normalised inputs, a smaller step size, or ReLUs",
        "Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural "
        "networks, section 3",
    )


def _flattest(networks: Networks | None) -> Layer | None:
    """The hidden layer with the most values at flat ends, if these are too many."""
    hidden = (networks or Networks()).hidden()
    worst = max(hidden, key=lambda layer: layer.saturated, default=None)
    return worst if worst is not None and worst.saturated > _SATURATED else None


def gradients(e: Evidence) -> Finding | None:
    """Gradients reach the first layer, and are not larger there than anywhere else by far."""
    for networks in (e.fresh, e.start, e.end):
        layers = [layer for layer in (networks or Networks()).layers if layer.gradient]
        for _, group in groupby(sorted(layers, key=_branch), key=_branch):
            if finding := _compared(list(group)):
                return finding
    return None


def _branch(layer: Layer) -> tuple[str, str]:
    """Which layers follow each other: those of one network and part of it, such as `policy.body`.

    An actor and a critic in one network have losses, and gradients, of their own.
    """
    *parents, _ = layer.name.split(".")
    return layer.network, ".".join([part for part in parents if not part.isdigit()][:2])


def _compared(layers: list[Layer]) -> Finding | None:
    if len(layers) < 3:
        return None
    first, last = layers[0].gradient, max(layer.gradient for layer in layers[1:])
    if first < _VANISHED * last:
        kind, advice = "vanishing", "fewer layers, ReLUs in place of sigmoids, residual "
        advice += "connections, or a normalisation between the layers"
    elif first > last / _VANISHED:
        kind, advice = "exploding", "clip the gradients (--update.clip 1), smaller weights at "
        advice += "the start, or a normalisation between the layers"
    else:
        return None
    return Finding(
        f"{kind} gradients",
        f"the gradient of {layers[0]} is {first:.2g}, that of the others up to "
        f"{last:.2g} ({len(layers)} layers)",
        "each layer multiplies what comes back by its slope, so the first layers learn "
        + ("nothing" if kind == "vanishing" else "in jumps"),
        advice,
        "Pascanu et al. 2013, arXiv:1211.5063, section 2; He et al. 2016, arXiv:1512.03385, "
        "section 3",
    )
