"""Generative adversarial networks: the algorithm, and the networks that play the game."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The algorithm `gan` and five models of the interface "gan"."""
    return [
        Component(
            "algorithm",
            "gan",
            "corelab_gan.gan:GAN",
            "generative adversarial networks: sharp images from a network that learns to fool "
            "another",
            uses=("dataset", "gan"),
            paper="Goodfellow et al. 2014, Generative Adversarial Nets, arXiv:1406.2661",
        ),
        Component(
            "model",
            "mlp",
            "corelab_gan.mlp:MLP",
            "fully connected networks: for the smallest images",
            provides="gan",
        ),
        Component(
            "model",
            "dcgan",
            "corelab_gan.dcgan:DCGAN",
            "strided convolutions: the best for each second of a CPU",
            provides="gan",
            paper="Radford, Metz & Chintala 2016, Unsupervised Representation Learning with Deep "
            "Convolutional Generative Adversarial Networks, arXiv:1511.06434",
        ),
        Component(
            "model",
            "biggan",
            "corelab_gan.biggan:BigGAN",
            "residual blocks told of the class in every layer, with self-attention",
            provides="gan",
            paper="Brock, Donahue & Simonyan 2019, Large Scale GAN Training for High Fidelity "
            "Natural Image Synthesis, arXiv:1809.11096",
        ),
        Component(
            "model",
            "progressive",
            "corelab_gan.progressive:Progressive",
            "networks that grow: from tiny images to whole ones while they train",
            provides="gan",
            paper="Karras et al. 2018, Progressive Growing of GANs for Improved Quality, "
            "Stability, and Variation, arXiv:1710.10196",
        ),
        Component(
            "model",
            "stylegan",
            "corelab_gan.stylegan:StyleGAN",
            "a style for every layer and noise for every pixel: looks that can be mixed",
            provides="gan",
            paper="Karras, Laine & Aila 2019, A Style-Based Generator Architecture for Generative "
            "Adversarial Networks, arXiv:1812.04948",
        ),
    ]
