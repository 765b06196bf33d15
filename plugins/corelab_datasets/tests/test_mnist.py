from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from corelab_datasets.mnist import FashionMnist, Mnist

from corelab import DataError, StorageError

PARTS = {"train": 24, "t10k": 5}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)
    )


def arrays(part, n):
    rng = np.random.default_rng(n)
    images = rng.integers(0, 256, (n, 28, 28), np.uint8)
    return {
        f"{part}-images-idx3-ubyte": images,
        f"{part}-labels-idx1-ubyte": np.arange(n, dtype=np.uint8) % 10,
    }


@pytest.fixture
def files():
    """The four files of a small data set, by name."""
    return {
        name: idx(array) for part, n in PARTS.items() for name, array in arrays(part, n).items()
    }


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Nothing is installed, and the cache and $CORELAB_DATA are folders of this test."""
    monkeypatch.setattr(FashionMnist, "_installed", (tmp_path / "installed",))
    monkeypatch.setenv("CORELAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return [
        tmp_path / "data/fashion-mnist",
        tmp_path / "installed",
        tmp_path / "cache/corelab/fashion-mnist",
    ]


def write(folder, files, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / name).write_bytes(content)


def open_folder(folder):
    return FashionMnist(FashionMnist.Config(folder=folder))


@pytest.mark.parametrize("packed", [True, False])
def test_the_splits_are_the_files_in_their_order(tmp_path, files, packed):
    write(tmp_path, files, packed)
    task = open_folder(tmp_path)
    train, validation, test = map(task.split, ("train", "validation", "test"))
    assert [len(train), len(validation), len(test)] == [22, 2, 5]
    for part, splits in (("train", (train, validation)), ("t10k", (test,))):
        images, labels = arrays(part, PARTS[part]).values()
        assert torch.equal(torch.cat([s.images for s in splits]), torch.tensor(images)[:, None])
        assert torch.equal(torch.cat([s.labels for s in splits]), torch.tensor(labels).long())
    assert train.images.shape[1:] == task.shape == (1, 28, 28)


def test_the_usual_places_are_searched_in_order(places, files):
    for place in reversed(places):  # each one goes before those written until now
        marked = dict(files)
        labels = np.full(5, places.index(place), np.uint8)
        marked["t10k-labels-idx1-ubyte"] = idx(labels)
        write(place, marked)
        task = FashionMnist(FashionMnist.Config())
        assert task.split("test").labels.tolist() == labels.tolist()


def test_a_place_with_some_of_the_files_is_passed_over(places, files):
    write(places[0], dict(list(files.items())[:3]))
    write(places[2], files)
    assert len(FashionMnist(FashionMnist.Config()).split("test")) == 5


def test_the_cache_is_in_the_home_folder_without_xdg(tmp_path, monkeypatch, files):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / ".cache/corelab/mnist", files)
    assert len(Mnist(Mnist.Config()).split("test")) == 5


def test_a_named_folder_is_the_only_place(tmp_path, places, files):
    for place in places:
        write(place, files)
    with pytest.raises(DataError, match=r"/nowhere \(No such file or directory\)"):
        open_folder(tmp_path / "nowhere")


def test_files_not_found_are_told_with_every_way_to_get_them(places, files):
    write(places[2], dict(list(files.items())[:3]))
    with pytest.raises(DataError) as error:
        FashionMnist(FashionMnist.Config())
    sentence = str(error.value)
    assert f"{places[0]} (No such file or directory)" in sentence
    assert f"{places[2]} (without t10k-labels-idx1-ubyte)" in sentence
    for way in ("apt install dataset-fashion-mnist", "--task.folder", "--task.download"):
        assert way in sentence
    with pytest.raises(DataError) as error:
        Mnist(Mnist.Config())
    assert "apt" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        (
            "train-labels-idx1-ubyte",
            np.zeros(23),
            "23 labels, but train-images-idx3-ubyte.gz has 24",
        ),
        ("train-labels-idx1-ubyte", np.full(24, 10), "labels go from 0 to 9, found 10"),
        ("t10k-images-idx3-ubyte", np.zeros((5, 28, 27)), "28 x 28 pixels, found 28 x 27"),
        (
            "t10k-images-idx3-ubyte",
            np.zeros(5),
            "a 3-dimensional IDX file of bytes begins with 00 00 08 03",
        ),
        (
            "t10k-labels-idx1-ubyte",
            np.zeros((5, 1)),
            "a 1-dimensional IDX file of bytes begins with 00 00 08 01",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, files, name, array, sentence):
    write(tmp_path, {**files, name: idx(array.astype(np.uint8))})
    with pytest.raises(DataError) as error:
        open_folder(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / name}.gz: ")
    assert sentence in str(error.value)


def test_too_few_images_for_a_validation_split_are_refused(tmp_path, files):
    few = {name: idx(array) for name, array in arrays("train", 11).items()}
    write(tmp_path, {**files, **few})
    with pytest.raises(DataError, match=r"at least 12 training images .* found 11"):
        open_folder(tmp_path)


@pytest.fixture
def server(tmp_path, monkeypatch, files):
    """Offers the four files from this machine, as if they were Fashion-MNIST."""
    root = tmp_path / "server"
    write(root, files)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.path)

    requests = []
    handler = functools.partial(Quiet, directory=root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setattr(FashionMnist, "_url", f"http://127.0.0.1:{httpd.server_port}/")
        published = [
            hashlib.sha256((root / f"{name}.gz").read_bytes()).hexdigest() for name in files
        ]
        monkeypatch.setattr(FashionMnist, "_sha256", tuple(published))
        httpd.root, httpd.requests = root, requests
        yield httpd
        httpd.shutdown()
        thread.join()


download = functools.partial(FashionMnist.Config, download=True)


def test_files_are_downloaded_once_into_the_cache(server, places, files, capsys):
    task = FashionMnist(download())
    assert [len(task.split(name)) for name in ("train", "validation", "test")] == [22, 2, 5]
    assert sorted(f.name for f in places[2].iterdir()) == sorted(f"{name}.gz" for name in files)
    assert capsys.readouterr().err.count("downloading http://127.0.0.1:") == 4
    FashionMnist(download())
    FashionMnist(FashionMnist.Config())
    assert len(server.requests) == 4


def test_only_what_is_missing_is_downloaded_and_into_the_named_folder(server, tmp_path, files):
    folder = tmp_path / "mine"
    write(folder, dict(list(files.items())[:3]))
    FashionMnist(download(folder=folder))
    assert server.requests == ["/t10k-labels-idx1-ubyte.gz"]
    assert (folder / "t10k-labels-idx1-ubyte.gz").exists()


def test_nothing_is_downloaded_when_the_files_are_there(server, places, files):
    write(places[1], files)
    FashionMnist(download())
    assert server.requests == []


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:-1] + b"!", lambda c: b"<html>"])
def test_a_download_with_another_checksum_is_refused_and_not_kept(server, places, damage):
    file = server.root / "train-labels-idx1-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz: .* not the published file"):
        FashionMnist(download())
    assert [f.name for f in places[2].iterdir()] == ["train-images-idx3-ubyte.gz"]


def test_a_file_that_the_server_does_not_have_is_one_sentence(server):
    (server.root / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"-ubyte.gz: the server answers 404"):
        FashionMnist(download())


def test_no_server_is_one_sentence(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=r"it cannot be downloaded \(.*refused"):
        FashionMnist(download())


def test_a_connection_that_ends_early_is_one_sentence(server, monkeypatch):
    def cut_off(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"the beginning")

    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "do_GET", cut_off)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: "):
        FashionMnist(download())


def test_a_cache_that_cannot_be_written_is_one_sentence(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="it cannot be written"):
        FashionMnist(download())


@pytest.mark.skipif(
    not DEBIAN.exists(), reason="needs Fashion-MNIST: apt install dataset-fashion-mnist"
)
def test_fashion_mnist_as_debian_installs_it(monkeypatch):
    monkeypatch.setattr(FashionMnist, "_installed", (DEBIAN,))
    task = FashionMnist(FashionMnist.Config())
    train, validation, test = map(task.split, ("train", "validation", "test"))
    assert [len(train), len(validation), len(test)] == [55_000, 5_000, 10_000]
    everything = torch.cat([train.labels, validation.labels])
    assert torch.bincount(everything).tolist() == [6_000] * 10
    assert torch.bincount(test.labels).tolist() == [1_000] * 10
    # the first picture is an ankle boot, the mean of the training pictures is known: 72.94
    assert task.classes[train.labels[0]] == "Ankle boot"
    pixels = train.images.sum(dtype=torch.int64) + validation.images.sum(dtype=torch.int64)
    assert round(pixels.item() / (60_000 * 784), 2) == 72.94
