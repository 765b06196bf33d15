"""Deciding by search: AlphaZero, which learns from where its tree search leads."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The algorithms and models of this package."""
    return [
        Component(
            "algorithm",
            "alphazero",
            "corelab_search.alphazero:AlphaZero",
            "AlphaZero: a network guides a tree search and learns from where the search leads",
            uses=("game", "policy-value"),
            paper="Silver et al. 2018, A general reinforcement learning algorithm that masters "
            "chess, shogi, and Go through self-play, arXiv:1712.01815",
        ),
        Component(
            "model",
            "resnet",
            "corelab_search.resnet:ResNet",
            "a small residual network with a head each for policy and value",
            provides="policy-value",
        ),
        Component(
            "model",
            "cnn",
            "corelab_search.cnn:CNN",
            "one wide convolution and dense layers, with a head each for policy and value",
            provides="policy-value",
        ),
        Component(
            "model",
            "mlp",
            "corelab_search.mlp:MLP",
            "a multilayer perceptron with two heads",
            provides="policy-value",
        ),
    ]
