"""Variational autoencoders: the algorithm, and the networks that it can train."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The algorithm `vae` and two models of the interface "autoencoder"."""
    return [
        Component(
            "algorithm",
            "vae",
            "corelab_vae.vae:VAE",
            "variational autoencoder: images from a few Gaussian numbers, with a bound on their "
            "likelihood",
            uses=("dataset", "autoencoder"),
            paper="Kingma & Welling 2014, Auto-Encoding Variational Bayes, arXiv:1312.6114",
        ),
        Component(
            "model",
            "mlp",
            "corelab_vae.mlp:MLP",
            "fully connected encoder and decoder: the fast one on a CPU",
            provides="autoencoder",
        ),
        Component(
            "model",
            "conv",
            "corelab_vae.conv:Conv",
            "convolutional encoder and decoder with residual blocks: better for each example, "
            "slower on a CPU",
            provides="autoencoder",
        ),
    ]
