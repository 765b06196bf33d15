"""Generative models: adversaries, codes and noise."""

from __future__ import annotations

import numpy as np

from corelab_diagnosis.interface import Evidence, Finding

_WON, _LOST = 0.99, 0.52
"""Share of pairs that a discriminator tells right, if its game is over."""
_UPDATES = 1000
"""Of a generator, before which its variety says nothing."""
_ACTIVE = 0.01
"""Nats from which on a number of a code is used (as in `eval/active_units`)."""
_CARRIED = 0.5
"""Nats that a code carries in all, at least."""
_USED, _EVENLY = 0.25, 0.1
"""Share of a codebook's entries below which most are of no use, and the same of as many as would be
worth no less if used evenly. Where all are used, but some seldom, that is how the data are."""
_WORSE = 1.5
"""Error of a denoiser, as a share of that of the best linear one, that no training should leave."""
_STILL = 1e-3
"""Share of this error by which it changes at the least from one evaluation to the next, if anything
is learned at a level of noise."""


def discriminator(e: Evidence) -> Finding | None:
    """Neither player of a GAN has won."""
    rate, saturation = e.late("train/win_rate"), e.late("train/saturation")
    if rate is None or saturation is None or e.progress < 0.2:
        return None
    wins = e.series("train/win_rate")
    if rate > _WON and saturation > 0.5:
        seen = f"the discriminator tells {rate:.1%} of all pairs right and takes {saturation:.0%} "
        seen += "of the samples for certain fakes"
        why = "a generator that fools nobody is not told in which direction to go"
        advice = "the loss non-saturating, --algorithm.penalty r1 or more of its weight, a smaller "
        advice += "--algorithm.discriminator-lr"
    elif rate < _LOST and wins.max() < 0.6:
        seen = f"the discriminator never told more than {wins.max():.0%} of all pairs right "
        seen += f"({rate:.0%} late in the run)"
        why = "a generator learns only what its discriminator sees"
        advice = "a larger --algorithm.discriminator-lr, less of the penalty, or more of --n-critic"
    else:
        return None
    return Finding(
        "discriminator",
        seen,
        why,
        advice,
        "Goodfellow et al. 2014, arXiv:1406.2661, section 3; Arjovsky & Bottou 2017, "
        "arXiv:1701.04862, section 2",
    )


def modes(e: Evidence) -> Finding | None:
    """A generator makes many kinds of images."""
    recall, floor = e.series("eval/recall"), e.series("eval/recall_floor")
    updates = e.progress * e.steps / (e.option("batch_size", 1) * e.option("n_critic", 1))
    if not len(recall) or not len(floor) or e.progress < 0.5 or updates < _UPDATES:
        return None
    if recall[-1] >= 0.5 * floor[-1]:
        return None
    return Finding(
        "mode collapse",
        f"the samples reach {recall[-1]:.0%} of the real images, where other real images reach "
        f"{floor[-1]:.0%}",
        "a generator that fools its discriminator with a few kinds of images has no reason to make "
        "others",
        "--algorithm.penalty r1 or more of it, smaller step sizes, a larger batch, or a model with "
        "more channels",
        "Salimans et al. 2016, arXiv:1606.03498, section 3; Kynkäänniemi et al. 2019, "
        "arXiv:1904.06991, section 2",
    )


def posterior(e: Evidence) -> Finding | None:
    """The numbers of a code carry something."""
    names = sorted({n for row in e.rows for n in row if n.startswith("eval/kl_nats_")})
    if not names or e.progress < 0.3:
        return None
    nats = np.array([e.series(name)[-1] for name in names])
    first = e.series("train/kl_nats")[:1]
    if len(first) and nats.sum() > 0.5 * first[0]:
        return None  # what a random encoder tells has not been unlearned
    used = int((nats > _ACTIVE).sum())
    if used > max(1, len(nats) // 4) and nats.sum() > _CARRIED:
        return None
    beta = e.option("beta", 1.0)
    return Finding(
        "posterior collapse",
        f"{used} of {len(nats)} numbers of the code carry more than {_ACTIVE} nats (the most "
        f"{nats.max():.2g}, all {nats.sum():.2g})",
        "where q(z|x) is the prior, the decoder has learned to do without the code",
        ("a smaller --algorithm.beta" if beta > 1 else "a beta that rises from 0")
        + ", a weaker decoder, or a smaller --algorithm.latent",
        "Bowman et al. 2016, arXiv:1511.06349, section 3.1; Burda et al. 2016, arXiv:1509.00519, "
        "section 5.2",
    )


def codebook(e: Evidence) -> Finding | None:
    """The entries of a codebook are used."""
    K = e.option("entries")
    for level in ("", "_top", "_bottom"):
        used, perplexity = e.series(f"eval/used{level}"), e.series(f"eval/perplexity{level}")
        if not len(used) or not K or e.progress < 0.2:
            continue
        if used[-1] >= _USED or perplexity[-1] >= _EVENLY * K:
            continue
        return Finding(
            "codebook",
            f"{used[-1]:.0%} of {K} entries are used, as evenly as {perplexity[-1]:.3g} would be",
            "entries that are never the nearest get no update, and the code has fewer words than "
            "it pays for",
            "--algorithm.revive above 0, a smaller --algorithm.entries or --algorithm.dim",
            "van den Oord et al. 2017, arXiv:1711.00937, section 3.2; Łańcucki et al. 2020, "
            "arXiv:2005.08520",
        )
    return None


def noise_levels(e: Evidence) -> Finding | None:
    """A denoiser removes more than a Gaussian's would, at every level of noise."""
    names = sorted({n for row in e.rows for n in row if n.startswith("eval/error_at_")})
    if not names or e.progress < 0.3:
        return None
    curves = np.array([e.series(name) for name in names])
    errors, moved = curves[:, -1], np.ptp(curves, 1) / curves[:, 0]
    worst, still = int(errors.argmax()), int(moved.argmin())
    if errors[worst] > max(_WORSE, 0.5 * curves[worst, 0]):  # and it has not come down by much
        level = worst
        seen = f"{errors[level]:.3g} times that of the best linear one (at the others "
        seen += f"{np.delete(errors, level).max():.3g} or less)"
    elif curves.shape[1] >= 3 and moved[still] < _STILL < 0.1 * moved.max():
        level = still
        seen = f"{errors[level]:.4g} times that of the best linear one, and was so in all "
        seen += f"{curves.shape[1]} evaluations, while it changed at others by {moved.max():.1%}"
    else:
        return None
    return Finding(
        "noise level",
        f"at noise of {names[level].removeprefix('eval/error_at_')} of {len(names)} the denoiser's "
        f"error is {seen}",
        "samples pass through every level, and what goes wrong at one cannot be mended at the next",
        "another --algorithm.schedule or parametrisation, or tell the network the level better",
        "Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.3; Karras et al. 2022, "
        "arXiv:2206.00364, section 5",
    )
