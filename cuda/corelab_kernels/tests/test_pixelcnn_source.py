"""pixelcnn.h as other compilers, sanitizers and GPUs see it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import astuple
from pathlib import Path

import pytest
import torch
from corelab_kernels import build, pixelcnn
from corelab_nets.gated import Gated
from corelab_nets.kernel import Kernel, pack
from corelab_nets.plusplus import PlusPlus

needs_compiler = pytest.mark.skipif(not shutil.which("c++"), reason="there is no C++ compiler")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def program(folder, *flags):
    """The program that compares teams, compiled with FLAGS."""
    made = folder / "teams"
    source = str(Path(__file__).with_name("pixelcnn_teams.cpp"))
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
@needs_compiler
def test_a_team_of_several_draws_the_same_without_a_race(tmp_path):
    made = program(tmp_path, "-O1", "-fsanitize=thread")
    done = run(made)
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr[-2000:]
    raced = [run(made, str(left_out)) for left_out in (0, 3, 12, 13, 20)]
    assert all("WARNING: ThreadSanitizer: data race" in done.stderr for done in raced)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("level", ["", "x86-64-v3"])
def test_nothing_is_touched_that_is_not_its_own(level, tmp_path):
    if level and not build.instructions():
        pytest.skip("this is no x86-64")
    march = (f"-march={level}",) if level else ()
    sanitizers = "-fsanitize=address,undefined"
    done = run(program(tmp_path, "-O1", sanitizers, "-fno-sanitize-recover=all", *march))
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr[-2000:]


@pytest.mark.slow
@needs_compiler
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


@needs_gpu
@pytest.mark.parametrize("kind", [Gated, PlusPlus])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gpu_draws_the_images_of_the_cpu(kind, dtype):
    torch.manual_seed(0)
    net = kind((2, 9, 8), 40, levels=40, layers=3, channels=20, classes=3).to(dtype)
    u = torch.rand(11, 2, 9, 8, dtype=dtype)
    labels = torch.arange(11) % 3
    for options in ({}, {"temperature": 0.7, "top_k": 5}):
        images = Kernel(net)(u, labels=labels, **options)
        kernel = Kernel(net.cuda())
        drawn = kernel(u.cuda(), labels=labels.cuda(), **options)
        assert torch.equal(drawn.cpu(), images)
        parts = [
            kernel(u[i : i + 3].cuda(), labels=labels[i : i + 3].cuda(), **options) for i in (0, 3)
        ]
        assert torch.equal(torch.cat(parts), drawn[:6])
        net.cpu()
