"""Autoencoders: with Gaussian codes or with codes from a codebook, and the networks they train."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The algorithms, the models of the interfaces "autoencoder" and "codec", and the latents."""
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
        Component(
            "algorithm",
            "vqvae",
            "corelab_vae.vqvae:VQVAE",
            "autoencoder whose codes are entries of a codebook, with a PixelCNN as their "
            "distribution",
            uses=("dataset", "codec"),
            paper="van den Oord et al. 2017, Neural Discrete Representation Learning, "
            "arXiv:1711.00937; with two levels Razavi et al. 2019, arXiv:1906.00446",
        ),
        Component(
            "model",
            "vq-conv",
            "corelab_vae.vq_conv:VQConv",
            "convolutional encoder and decoder with one grid of vectors or two",
            provides="codec",
        ),
        Component(
            "task",
            "latents",
            "corelab_vae.latents:Latents",
            "the latents of a data set, as a finished run of an autoencoder has them",
            provides="latents",
            paper="Rombach et al. 2022, High-Resolution Image Synthesis with Latent Diffusion "
            "Models, arXiv:2112.10752",
        ),
    ]
