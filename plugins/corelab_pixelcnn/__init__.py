"""PixelCNN: images drawn pixel by pixel, with their exact likelihood."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The algorithm `pixelcnn` and three models of the interface "autoregressive"."""
    return [
        Component(
            "algorithm",
            "pixelcnn",
            "corelab_pixelcnn.pixelcnn:PixelCNN",
            "autoregressive networks: images drawn pixel by pixel, with their exact likelihood",
            uses=("dataset", "autoregressive"),
            paper="van den Oord et al. 2016, Conditional Image Generation with PixelCNN Decoders, "
            "arXiv:1606.05328",
        ),
        Component(
            "model",
            "gated",
            "corelab_pixelcnn.models:Gated",
            "gated PixelCNN: a vertical and a horizontal stack, without a blind spot",
            provides="autoregressive",
        ),
        Component(
            "model",
            "plain",
            "corelab_pixelcnn.models:Plain",
            "PixelCNN of 2016: masked convolutions in residual blocks, with a blind spot",
            provides="autoregressive",
        ),
        Component(
            "model",
            "plusplus",
            "corelab_pixelcnn.models:PlusPlus",
            "the blocks of PixelCNN++: shifted convolutions, at one resolution",
            provides="autoregressive",
        ),
    ]
