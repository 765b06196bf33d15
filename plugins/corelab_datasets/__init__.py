"""Tasks that are sets of labelled images."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The data sets, each one of the interface "dataset"."""
    return [
        Component(
            "task",
            "digits",
            "corelab_datasets.digits:Digits",
            "1,797 handwritten digits of 8 x 8 pixels, part of scikit-learn: no download",
            provides="dataset",
            paper="Alpaydin, Kaynak 1998, Optical Recognition of Handwritten Digits (UCI)",
        ),
        Component(
            "task",
            "fashion-mnist",
            "corelab_datasets.mnist:FashionMnist",
            "70,000 grey pictures of clothes in 10 classes, 28 x 28 pixels",
            provides="dataset",
            paper="Xiao, Rasul, Vollgraf 2017, Fashion-MNIST: a Novel Image Dataset for "
            "Benchmarking Machine Learning Algorithms",
        ),
        Component(
            "task",
            "mnist",
            "corelab_datasets.mnist:Mnist",
            "70,000 handwritten digits, 28 x 28 pixels",
            provides="dataset",
            paper="LeCun, Bottou, Bengio, Haffner 1998, Gradient-Based Learning Applied to "
            "Document Recognition",
        ),
        Component(
            "task",
            "images",
            "corelab_datasets.images:ImageFolder",
            "a folder of your own PNG and JPEG files, one subfolder for each class",
            provides="dataset",
        ),
    ]
