"""Learning to prove theorems."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The algorithms of this package."""
    return [
        Component(
            "algorithm",
            "rlcop",
            "corelab_theorem.rlcop:RlCoP",
            "rlCoP: a tree search of connection tableaux, led by what its own proofs taught",
            uses=("theorems",),
            paper="Kaliszyk, Urban, Michalewski and Olšák 2018, Reinforcement Learning of Theorem "
            "Proving, arXiv:1805.07563",
        ),
        Component(
            "algorithm",
            "premises",
            "corelab_theorem.premises:PremiseSelection",
            "premise selection: which formulas a theorem can be proved from, by their graphs",
            uses=("premises",),
            paper="Wang, Tang, Wang and Deng 2017, Premise Selection for Theorem Proving by Deep "
            "Graph Embedding, arXiv:1709.09994",
        ),
    ]
