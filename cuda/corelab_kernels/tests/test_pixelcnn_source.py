"""pixelcnn.h as other compilers, sanitizers and GPUs see it."""

from __future__ import annotations

import ctypes
import os
import subprocess
from dataclasses import astuple
from functools import partial
from pathlib import Path

import pytest
import torch
from corelab_kernels import build, nvidia, pixelcnn
from corelab_nets.gated import Gated
from corelab_nets.kernel import Kernel, pack
from corelab_nets.plusplus import PlusPlus

from corelab import DivergedError, StorageError


def program(folder, *flags, name="pixelcnn_teams"):
    """The program that compares teams, compiled with FLAGS."""
    made = folder / name
    source = str(Path(__file__).with_name(f"{name}.cpp"))
    command = ["c++", "-std=c++20", "-g", "-pthread", "-ffp-contract=off", *flags, "-o", str(made)]
    subprocess.run([*command, source], check=True, timeout=600)
    return made


def run(made, *words):
    environment = {
        **os.environ,
        "TSAN_OPTIONS": "halt_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1",
    }
    command = [str(made), *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=environment, check=False
    )


@pytest.mark.slow
@pytest.mark.compiled
def test_a_team_of_several_draws_the_same_without_a_race(tmp_path):
    made = program(tmp_path, "-O1", "-fsanitize=thread")
    done = run(made)
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr[-2000:]
    raced = [run(made, str(left_out)) for left_out in (0, 3, 12, 13, 21)]
    assert all("WARNING: ThreadSanitizer: data race" in done.stderr for done in raced)


@pytest.mark.compiled
def test_blocks_of_a_gpu_draw_the_same_without_a_race(tmp_path):
    made = program(tmp_path, "-O1", "-fsanitize=thread", "-DPROGRAM", name="pixelcnn_blocks")
    done = run(made)
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr[-2000:]
    raced = [run(made, str(left_out)) for left_out in range(1, 40)]
    assert all("WARNING: ThreadSanitizer: data race" in done.stderr for done in raced)


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize("level", ["", "x86-64-v3"])
def test_nothing_is_touched_that_is_not_its_own(level, tmp_path):
    if level and not build.instructions():
        pytest.skip("this is no x86-64")
    march = (f"-march={level}",) if level else ()
    sanitizers = "-fsanitize=address,undefined"
    done = run(program(tmp_path, "-O1", sanitizers, "-fno-sanitize-recover=all", *march))
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.compiled
def test_blocks_of_a_gpu_touch_nothing_that_is_not_their_own(tmp_path):
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    done = run(program(tmp_path, "-O0", "-DPROGRAM", *sanitizers, name="pixelcnn_blocks"))
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_build_draws_the_same_images_from_the_same_numbers(dtype, monkeypatch):
    torch.manual_seed(0)
    nets = [
        Gated((1, 9, 8), 40, levels=40, layers=3, channels=20),
        PlusPlus((2, 9, 8), 40, levels=40, layers=2, channels=20),
    ]
    found = []
    levels = {"x86-64-v4": ["", "x86-64-v3"], "x86-64-v3": [""]}.get(build.instructions(), [])
    for flags in (build.exact(), ("-O0", "-ffp-contract=off"), *map(build.exact, levels)):
        library = build.load("pixelcnn", flags)
        monkeypatch.setattr(pixelcnn, "_twin", lambda library=library: library)
        for net in nets:
            sizes, weights = pack(net.to(dtype), 0, None)
            C, H, W = net.shape
            record = torch.empty(11, H, W, C, 40, dtype=dtype)
            u = torch.rand(11, C, H, W, generator=torch.Generator().manual_seed(0)).to(dtype)
            context = torch.zeros(1, 1, 1, 4 * 20 * sizes.layers, dtype=dtype)
            operands = (weights, context, u, torch.zeros(11, C, H, W, dtype=torch.int64))
            images, _ = pixelcnn._on_cpu(astuple(sizes), *operands, 0, 1.0, 0, record=record)
            found.append((images, record))
    for i, (images, record) in enumerate(found):
        assert torch.equal(images, found[i % 2][0])
        assert torch.equal(record, found[i % 2][1])


def network(kind, shades, levels, *, outputs=0, channels=12, **options):
    """One whose rows are a tile of the GPU's, half of one and a pixel."""
    shape = (shades, 3, 13)
    return kind(shape, outputs or levels, levels=levels, layers=2, channels=channels, **options)


NETWORKS = {
    "gated": (partial(network, Gated, 2, 20, classes=3), 0, {}, torch.float32),
    "gated, larger kernels": (
        partial(network, Gated, 1, 20, first=3, kernel=5),
        0,
        {},
        torch.float64,
    ),
    "plusplus": (partial(network, PlusPlus, 1, 20, channels=11), 0, {"top_k": 5}, torch.float32),
    "mixture": (partial(network, PlusPlus, 2, 256, outputs=8), 2, {}, torch.float32),
    "mixture, temperature": (
        partial(network, PlusPlus, 1, 256, outputs=6),
        2,
        {"temperature": 0.7},
        torch.float64,
    ),
}
"""How to make each, its logistics, what is asked of its draws, and their type."""


def made(name):
    """The network of that name, in its type, and labels for 11 images if it takes some."""
    torch.manual_seed(0)
    make, _, _, dtype = NETWORKS[name]
    net = make().to(dtype)
    if net.label is None:
        return net, None
    net.label.weight.data.normal_()
    return net, torch.arange(11) % 3


@pytest.fixture
def gpu(drive, monkeypatch):
    """Makes a GPU of so many multiprocessors, each with so many bytes of shared memory."""
    driver = drive(Path(__file__).with_name("pixelcnn_blocks.cpp"))

    class Kernels(nvidia.Kernels):
        def launch(self, name, blocks, threads, *arguments, **options):
            given = [driver.parameter_size(name.encode(), i) for i in range(len(arguments) + 1)]
            assert given == [*map(ctypes.sizeof, arguments), -1]
            super().launch(name, blocks, threads, *arguments, **options)

    def put(multiprocessors, shared, *, clusters=True):
        driver.driver_has(multiprocessors, shared, clusters)
        kernels = Kernels(Path("pixelcnn.cu"), torch.device("cuda", 0))
        monkeypatch.setattr(pixelcnn, "_kernels", lambda device: kernels)
        forget()
        return driver

    def forget():
        pixelcnn._team.cache_clear()
        pixelcnn._needs.cache_clear()

    yield put
    forget()


def room(sizes, itemsize, blocks):
    """Bytes of shared memory with which so many BLOCKS are enough to keep a network's weights."""
    pixels = pixelcnn._size(pixelcnn._pixels(sizes))
    return pixels // blocks * itemsize + pixelcnn._NEAR + 2048


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("name", "blocks", "multiprocessors", "images"),
    [
        ("gated", 1, 132, 3),
        ("gated", 2, 132, 3),
        ("gated", 4, 11, 11),
        ("gated, larger kernels", 0, 2, 5),
        ("gated, larger kernels", 4, 132, 2),
        ("plusplus", 1, 1, 3),
        ("plusplus", 2, 132, 2),
        ("mixture", 4, 132, 2),
        ("mixture, temperature", 0, 132, 2),
        ("mixture, temperature", 2, 3, 3),
    ],
)
def test_what_runs_on_a_gpu_draws_the_images_of_a_cpu_thread_by_thread(
    name, blocks, multiprocessors, images, gpu, monkeypatch
):
    """BLOCKS keep the weights of pixels; 0: they have no room."""
    net, labels = made(name)
    _, components, drawing, dtype = NETWORKS[name]
    sizes, weights = pack(net, components, None)
    labels = labels if labels is None else labels[:images]
    context = net.context(labels, None).movedim(1, -1).contiguous().detach()
    u = torch.rand(images, *net.shape, dtype=dtype)
    prefix = torch.randint(net.levels, u[:, :, :2].shape)
    expected = pixelcnn.sample(sizes, weights, context, u, prefix, **drawing)
    assert len(expected[:, :, 2:].unique()) > 3

    monkeypatch.setattr(pixelcnn, "_BLOCK", 96 if blocks < 2 else 32)
    monkeypatch.setattr(pixelcnn, "_NEAR", 2048)
    shared = room(sizes, dtype.itemsize, blocks) if blocks else 4096
    driver = gpu(multiprocessors, shared, clusters=blocks > 1)
    symbols = torch.zeros_like(u, dtype=torch.int64)
    symbols[:, :, :2] = prefix
    given = (2, drawing.get("temperature", 1.0), drawing.get("top_k", 0))
    drawn, failed = pixelcnn._on_gpu(astuple(sizes), weights, context, u, symbols, *given)
    assert torch.equal(drawn, expected)
    assert not failed.any()

    teams = multiprocessors // max(blocks, 1)
    group = min(-(-images // teams), 8)
    launched = f"{max(blocks, 1) * -(-images // group)} x {pixelcnn._BLOCK} in {max(blocks, 1)},"
    assert launched in driver.driver_said().decode().splitlines()[-1]


@pytest.mark.compiled
def test_more_images_than_multiprocessors_are_drawn_by_blocks_of_their_own(gpu):
    sizes = tuple(astuple(pack(Gated((1, 28, 28), 256, layers=7, channels=64), 0, None)[0]))
    driver = gpu(132, 227 << 10)
    few = pixelcnn._team(sizes, 4, torch.device("cpu"), True)
    assert b"pixelcnn_needs32" in driver.driver_said()
    many = pixelcnn._team(sizes, 4, torch.device("cpu"), False)
    assert not driver.driver_said()  # so it may be while a CUDA graph is captured
    assert (few.blocks, few.at_once, many.blocks, many.at_once) == (4, 33, 1, 132)
    assert few.kept
    assert not many.kept
    assert [few.plan(n)[0].images for n in (1, 33, 34, 132)] == [1, 1, 2, 4]
    assert [many.plan(n)[0].images for n in (133, 4096)] == [2, 8]


@pytest.mark.compiled
def test_a_gpu_without_memory_for_the_images_is_told(gpu, monkeypatch):
    def none(tensor, *size):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    sizes, weights = pack(Gated((1, 4, 3), 20, levels=20, layers=2, channels=12), 0, None)
    u, context = torch.rand(3, 1, 4, 3), torch.zeros(1, 1, 1, 96)
    gpu(132, 227 << 10)
    monkeypatch.setattr(torch.Tensor, "new_empty", none)
    operands = (weights, context, u, torch.zeros(3, 1, 4, 3, dtype=torch.int64))
    with pytest.raises(StorageError, match=r"^there is not enough memory to draw images"):
        pixelcnn._on_gpu(astuple(sizes), *operands, 0, 1.0, 0)


# ---- on a GPU ------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("name", NETWORKS)
def test_a_gpu_draws_the_images_of_the_cpu(name):
    net, labels = made(name)
    _, components, drawing, dtype = NETWORKS[name]
    u = torch.rand(11, *net.shape, dtype=dtype)
    told = [{} if labels is None else {"labels": labels[i:]} for i in (0, 4)]
    kernel = Kernel(net, components)
    images = kernel(u, **told[0], **drawing)
    completed = kernel(u[4:], **told[1], **drawing, prefix=images[:7, :, :1])
    kernel = Kernel(net.cuda(), components)
    told = [{key: value.cuda() for key, value in each.items()} for each in told]
    drawn = kernel(u.cuda(), **told[0], **drawing)
    assert torch.equal(drawn.cpu(), images)
    part = kernel(u[4:].cuda(), **told[1], **drawing)
    assert torch.equal(part, drawn[4:])
    again = kernel(u[4:].cuda(), **told[1], **drawing, prefix=drawn[:7, :, :1])
    assert torch.equal(again.cpu(), completed)


@pytest.mark.gpu
@pytest.mark.parametrize("images", [11, 100])
@pytest.mark.parametrize("blocks", [2, 4, 8])
@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_of_a_cluster_of_a_gpu_draw_the_images_of_the_cpu(name, blocks, images, monkeypatch):
    """Of 100 images, those clusters have several each."""
    net, labels = made(name)
    _, components, drawing, dtype = NETWORKS[name]
    labels = labels if labels is None else torch.arange(images) % 3
    u = torch.rand(images, *net.shape, dtype=dtype)
    expected = Kernel(net, components)(u, labels=labels, **drawing)
    monkeypatch.setattr(pixelcnn, "_CLUSTERS", (blocks,))
    pixelcnn._team.cache_clear()
    labels = labels if labels is None else labels.cuda()
    drawn = Kernel(net.cuda(), components)(u.cuda(), labels=labels, **drawing)
    pixelcnn._team.cache_clear()
    assert torch.equal(drawn.cpu(), expected)


def operands_on_gpu():
    """Of the operator: 11 images of the network `gated`."""
    net, labels = made("gated")
    sizes, weights = pack(net.cuda(), 0, None)
    context = net.context(labels.cuda(), None).movedim(1, -1).contiguous().detach()
    u = torch.rand(11, *net.shape).cuda()
    return list(astuple(sizes)), weights, context, u, torch.zeros_like(u).long(), 0, 1.0, 0


@pytest.mark.gpu
def test_pytorch_finds_nothing_wrong_with_the_operator_on_a_gpu():
    torch.library.opcheck(torch.ops.corelab.pixelcnn_sample.default, operands_on_gpu())


@pytest.mark.gpu
@pytest.mark.parametrize("images", [3, 300])
def test_a_cuda_graph_draws_anew_from_new_uniforms(images):
    net, _ = made("gated")
    kernel, labels = Kernel(net.cuda()), torch.arange(images).cuda() % 3
    u = torch.rand(images, *net.shape).cuda()
    kernel(u[:3], labels=labels[:3])  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        drawn = kernel(u, labels=labels)
    for _ in range(2):
        u.copy_(torch.rand(u.shape))
        graph.replay()
        assert torch.equal(drawn, kernel(u, labels=labels))
    net.label.weight.data[1] = torch.nan
    graph.replay()
    assert (drawn[labels == 1] == -1).all()
    assert (drawn[labels != 1] >= 0).all()
    with pytest.raises(DivergedError, match="image 1 cannot be drawn beyond row 0, column 0, cha"):
        kernel(u, labels=labels)


@pytest.mark.gpu
def test_a_gpu_draws_more_images_than_a_grid_is_high_on_any_stream():
    torch.manual_seed(0)
    net = Gated((1, 2, 2), 5, levels=5, layers=1, channels=4, first=3)
    u = torch.rand(70_000, 1, 2, 2)
    images = Kernel(net)(u)
    with torch.cuda.stream(torch.cuda.Stream()):
        drawn = Kernel(net.cuda())(u.cuda())
    torch.cuda.synchronize()
    assert torch.equal(drawn.cpu(), images)
