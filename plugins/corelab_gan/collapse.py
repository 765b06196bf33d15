"""Telling that a generator has collapsed: that it makes few kinds of images, or none."""

from __future__ import annotations

from collections.abc import Mapping

UPDATES = 500
"""Of the generator, before which its variety says nothing."""


def collapsed(figures: Mapping[str, float], share: float, updates: int) -> bool:
    """Whether FIGURES of an evaluation, when a SHARE of the budget is spent, are of a collapse.

    Either the discriminator has won: it is right about 99 % of all pairs, and nine tenths of the
    samples are so bad to its mind that the minimax loss would teach nothing. Or the samples reach
    less than half as many of the real images (`recall`) as other real images do. That counts when
    half of the budget and 500 UPDATES of the generator are done: the young are all poor.
    """
    won = figures["win_rate"] > 0.99 and figures["saturation"] > 0.9
    grown = share >= 0.5 and updates >= UPDATES
    return won or (grown and figures["recall"] < 0.5 * figures["recall_floor"])


def explanation(figures: Mapping[str, float]) -> str:
    """What was seen, and what to try, in one sentence."""
    seen = (
        f"the generator has collapsed: its samples reach {figures['recall']:.0%} of the real "
        f"images, where other real images reach {figures['recall_floor']:.0%}"
    )
    if figures["win_rate"] > 0.99:
        return (
            f"{seen}, and the discriminator is right about {figures['win_rate']:.1%} of all pairs; "
            "try the loss non-saturating, the penalty r1 or more of it, or a smaller "
            "discriminator_lr"
        )
    return f"{seen}; try the penalty r1, a smaller lr, or a model with more channels"
