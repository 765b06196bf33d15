"""Diffusion models: the algorithm, and the networks that it can train."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The algorithm `diffusion` and two models of the interface "denoiser"."""
    return [
        Component(
            "algorithm",
            "diffusion",
            "corelab_diffusion.diffusion:Diffusion",
            "diffusion model: images out of noise, step by step, with bounds on their likelihood",
            uses=("dataset", "latents", "denoiser"),
            paper="Ho et al. 2020, Denoising Diffusion Probabilistic Models, arXiv:2006.11239; "
            "Karras et al. 2022, Elucidating the Design Space of Diffusion-Based Generative "
            "Models, arXiv:2206.00364",
        ),
        Component(
            "model",
            "unet",
            "corelab_diffusion.unet:UNet",
            "convolutions with shortcuts across resolutions, and attention at the lowest",
            provides="denoiser",
        ),
        Component(
            "model",
            "dit",
            "corelab_diffusion.dit:DiT",
            "transformer over patches of the image, steered through its normalisations",
            provides="denoiser",
        ),
    ]
