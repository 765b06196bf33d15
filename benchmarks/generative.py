"""Generative models beside each other and beside other libraries, for the same CPU seconds.

    python benchmarks/generative.py [table] [peers] [speed] [--seconds 600] [--samples 2000]
                                    [--task fashion-mnist] [--seed 0] [--only vae gan] [--rounds 3]
                                    [--python .peers/bin/python] [--out results.jsonl]
                                    [--pictures docs/algorithms]
    python benchmarks/generative.py --markdown results.jsonl

`table` trains each family with its preset for so many CPU seconds on one core and measures it on
test images: bits per dimension where there is a likelihood, and the quality of so many samples (see
docs/quality.md). `peers` trains the same family in another library at that library's own settings
for as many seconds as corelab took and judges its samples by the same features; where a peer takes
seconds for a sample, there are fewer of both. `speed` times the training of corelab and of the peer
at the same network and batch size: images per CPU second of either, taken in turns, and the ratio
(median, least and greatest of the rounds). corelab is timed in float32, which the peer computes in,
and with the options LOW, for which a processor should have matrix units for bfloat16 (AMX).

Each training is a process of its own with one thread (benchmarks/generators.py), and prints a line
of JSON; tables in Markdown follow. Peers live in an environment of their own, whose Python is named
with --python: `benchmarks/peers.txt` says how to make it. A peer that is missing is named.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corelab_generative.likelihoods import Logistic, bits_per_dim
from corelab_generative.quality import compare
from torch import Tensor

from corelab.experiments import resolve

HERE = Path(__file__).resolve().parent
FIGURES = ("bits_per_dim", "fid", "kid", "precision", "recall", "density", "coverage", "memorised")
QUALITY = (*FIGURES[1:], "two_sample_accuracy", "quality_n")
LOW = {"update.precision": "bfloat16", "update.channels_last": True}


@dataclass(frozen=True)
class Family:
    """A family of corelab and the peer that it is compared with."""

    peer: str
    module: str
    """What the peer's Python must have; "" if the peer is written in generators.py."""
    equal: dict[str, Any] = field(default_factory=dict)
    """Options of corelab for the network and the batches of the peer."""
    model: str = ""
    """The model of corelab that has the peer's network."""
    batch_size: int = 128
    """Of both, where speed is measured."""
    samples: int = 0
    """The most samples that the peer has time for, if that is not as many as wanted."""


FAMILIES = {
    "vae": Family(
        "pythae",
        "pythae",
        {
            "algorithm.latent": 10,
            "algorithm.likelihood": "bernoulli",
            "model.width": 512,
            "model.blocks": 0,
        },
        "mlp",
        200,
    ),
    "gan": Family(
        "dcgan",
        "",
        {"algorithm.latent": 100, "algorithm.penalty": "none", "model.channels": 64},
        "dcgan",
    ),
    "pixelcnn": Family(
        "pixelcnn",
        "",
        {
            "algorithm.likelihood": "categorical",
            "algorithm.patch": 1,
            "model.layers": 7,
            "model.channels": 64,
        },
        "gated",
        16,
    ),
    "diffusion": Family(
        "diffusers",
        "diffusers",
        {
            "model.channels": 32,
            "model.multiples": [1, 2, 2],
            "model.attention": 2,
            "model.blocks": 3,  # 1.9 million numbers; the peer, with 2 down and 3 up, has 1.7
            "model.patch": 1,
        },
        "unet",
        32,
        500,
    ),
}
FURTHER = {"denoising-diffusion-pytorch": ("denoising_diffusion", "denoising_diffusion_pytorch")}
"""Peers of diffusion that only `peers` has."""


@dataclass
class Bench:
    """What all trainings share."""

    options: argparse.Namespace
    task: Any
    folder: Path

    def trained(self, library: str, **settings: Any) -> dict[str, Any]:
        """One training in a process of its own."""
        o = self.options
        python = sys.executable
        if library in ("pythae", "diffusers", "denoising_diffusion"):
            python = str(o.python.absolute())
        settings = {
            "seed": o.seed,
            "data": str(self.folder / "data.npz"),
            "out": str(self.folder / "samples.npz"),
            "task": o.task,
            **settings,
        }
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        command = [python, str(HERE / "generators.py"), library, json.dumps(settings)]
        done = subprocess.run(
            command, env={**os.environ, **threads}, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{library} failed:\n{done.stderr}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def missing(self, module: str) -> str:
        """Why a peer that needs MODULE cannot run; "" if it can."""
        if not module:
            return ""
        python, how = self.options.python, f"{HERE / 'peers.txt'} says how to make it"
        if not python.exists():
            return f"there is no {python}; {how}"
        probe = (
            f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        )
        found = subprocess.run([python, "-c", probe]).returncode == 0
        return "" if found else f"{python} has no {module}; {how}"

    def ours(self, family: str) -> list[dict[str, Any]]:
        """A line of `table`, and one of `peers` where the peer's samples are fewer."""
        o = self.options
        found = self.trained(
            "corelab",
            algorithm=family,
            model="",
            options={},
            seconds=o.seconds,
            samples=o.samples,
            fewer=FAMILIES[family].samples,
            picture=str(o.pictures / f"{family}-{o.task}.png") if o.pictures else "",
        )
        fewer = found.pop("fewer", {})
        lines = [{"benchmark": "table", "family": family, "library": "corelab", **found}]
        if fewer:
            judged = {k: v for k, v in fewer.items() if k.removesuffix("_floor") in QUALITY}
            lines.append({**lines[0], "benchmark": "peers", **judged})
        return lines

    def theirs(self, family: str, name: str, library: str, seconds: float) -> dict[str, Any]:
        """A line of `peers`: a training of the peer, its samples measured here."""
        n = min(self.options.samples, FAMILIES[family].samples or self.options.samples)
        found = self.trained(library, seconds=seconds, samples=n)
        out = self.folder / "samples.npz"
        if out.exists():
            with np.load(out) as file:
                samples = torch.from_numpy(file["samples"])
                means = torch.from_numpy(file["means"]) if "means" in file else None
            out.unlink()
            images = iter(samples)

            def draw(labels: Tensor) -> Tensor:
                return torch.stack([next(images) for _ in labels])

            found |= compare(self.task, draw, n, self.options.seed, torch.device("cpu"))
            if means is not None:
                found["bits_per_dim"] = self.bound(means, found["kl_nats"])
        return {"benchmark": "peers", "family": family, "library": name, **found}

    def bound(self, means: Tensor, kl: float) -> float:
        """Bits/dim of test images for an autoencoder that gives only the MEANS of the pixels.

        With the discretised logistic around them whose one scale suits the test images best.
        """
        test = self.task.split("test").images[: len(means)]
        likelihood, generator = Logistic(), torch.Generator()
        x = likelihood.observe(test, generator)

        def nll(log_scale: float) -> float:
            pieces = zip(torch.split(x, 500), torch.split(2 * means - 1, 500), strict=True)
            total = sum(
                likelihood.log_prob(
                    x_B, torch.stack([mean_B, torch.full_like(mean_B, log_scale)], 1)
                )
                .double()
                .sum()
                .item()
                for x_B, mean_B in pieces
            )
            return -total / len(x)

        best = min(nll(log_scale) for log_scale in np.arange(-4, 0, 0.1))
        return float(bits_per_dim(best + kl, self.task.shape))

    def speed(self, family: str) -> dict[str, Any]:
        """A line of `speed`: rounds of both in turns."""
        o, of = self.options, FAMILIES[family]
        equal = of.equal | {"algorithm.batch_size": of.batch_size}
        ours = {"corelab": equal, "corelab, bfloat16": equal | LOW}
        speeds: dict[str, list[float]] = {name: [] for name in (*ours, of.peer)}
        sizes = {}
        for _ in range(o.rounds):
            runs = {
                name: self.trained(
                    "corelab",
                    algorithm=family,
                    model=of.model,
                    options=options,
                    seconds=o.round,
                    samples=0,
                )
                for name, options in ours.items()
            }
            runs[of.peer] = self.trained(
                of.peer, seconds=o.round, samples=0, batch_size=of.batch_size
            )
            for name, found in runs.items():
                speeds[name].append(found["images"] / found["cpu_seconds"])
                sizes[name] = found["parameters"]
        ratios = {
            name: spread([a / b for a, b in zip(speeds[name], speeds[of.peer], strict=True)])
            for name in ours
        }
        return {
            "benchmark": "speed",
            "family": family,
            "peer": of.peer,
            "batch_size": of.batch_size,
            "parameters": sizes,
            "images_per_cpu_second": {name: spread(v) for name, v in speeds.items()},
            "ratio": ratios,
        }


def spread(values: list[float]) -> list[float]:
    """Median, least, greatest."""
    return [round(f(values), 2) for f in (statistics.median, min, max)]


def markdown(lines: list[dict[str, Any]]) -> str:
    """The tables of these lines."""
    runs = [line for line in lines if line["benchmark"] in ("table", "peers")]
    names = [f for f in FIGURES if any(f in line for line in runs)]
    head = ["family", "library", "CPU s", "images", "n", *names, "64 samples, CPU s"]
    rows = [
        [
            *(line["family"], line["library"]),
            *(f"{line['cpu_seconds']:.0f}", f"{line['images']:,}", _n(line)),
            *(f"{line[name]:.3f}" if name in line else "" for name in names),
            f"{line['seconds_for_64']:.2g}",
        ]
        for line in runs
    ]
    for n, floors in {_n(line): line for line in runs if "fid_floor" in line}.items():
        cells = (f"{floors[f'{f}_floor']:.3f}" if f"{f}_floor" in floors else "" for f in names)
        rows.append(["real images", "floor", "", "", n, *cells, ""])
    tables = [_table(head, rows)] if rows else []
    speeds = [line for line in lines if line["benchmark"] == "speed"]
    if speeds:
        head = ["family", "peer", "batch", "parameters", "float32", "bfloat16", "peer", "ratio"]
        rows = [
            [
                *(line["family"], line["peer"], str(line["batch_size"])),
                " / ".join(f"{line['parameters'][n]:,}" for n in ("corelab", line["peer"])),
                *(_range(v) for v in line["images_per_cpu_second"].values()),
                *(_range(v) for v in line["ratio"].values()),
            ]
            for line in speeds
        ]
        tables.append(_table([*head, "ratio, bfloat16"], rows))
    return "\n\n".join(tables)


def _n(line: dict[str, Any]) -> str:
    return f"{line['quality_n']:,.0f}" if "quality_n" in line else ""


def _range(figures: list[float]) -> str:
    median, least, greatest = figures
    return f"{median} ({least} to {greatest})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    kinds = ["table", "peers", "speed"]
    parser.add_argument("what", nargs="*", choices=[[], *kinds], help="all three if none is named")
    parser.add_argument("--seconds", type=float, default=600, help="CPU seconds of a training")
    parser.add_argument("--samples", type=int, default=2000, help="how many to measure")
    parser.add_argument("--task", default="fashion-mnist", help="the data set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--rounds", type=int, default=3, help="of `speed`")
    parser.add_argument("--round", type=float, default=15, help="CPU seconds of each of them")
    python = HERE.parent / ".peers" / "bin" / "python"
    parser.add_argument("--python", type=Path, default=python, help="of the peers")
    parser.add_argument("--out", type=Path, help="append the lines to this file, too")
    text = "write 64 samples of each of corelab's families into this folder"
    parser.add_argument("--pictures", type=Path, help=text)
    parser.add_argument("--markdown", type=Path, help="print the tables of such a file and stop")
    options = parser.parse_args()
    if options.markdown:
        print(markdown([json.loads(line) for line in options.markdown.read_text().splitlines()]))
        return
    torch.set_num_threads(1)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    of_task = resolve("vae", task=options.task)
    task = of_task.plugins.load(of_task.task)(of_task.options.task)
    lines: list[dict[str, Any]] = []
    failed = False

    def tell(line: dict[str, Any]) -> None:
        lines.append(line)
        print(json.dumps(line), flush=True)
        if options.out:
            with options.out.open("a") as file:
                print(json.dumps(line), file=file)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = {part: task.split(part).images.numpy() for part in ("train", "test")}
        np.savez(folder / "data.npz", **images)
        bench = Bench(options, task, folder)
        for family in options.only:
            try:
                measure(bench, family, options.what or kinds, tell)
            except RuntimeError as error:  # the other families may do better, and take long
                print(f"{family}: {error}", file=sys.stderr, flush=True)
                failed = True
    print(markdown(lines))
    sys.exit(failed)


def measure(
    bench: Bench, family: str, what: list[str], tell: Callable[[dict[str, Any]], None]
) -> None:
    """All lines of a family."""
    of = FAMILIES[family]
    peers = {of.peer: (of.peer, of.module), **(FURTHER if family == "diffusion" else {})}
    why = {name: bench.missing(module) for name, (_, module) in peers.items()}
    if "table" in what or "peers" in what:
        ours = bench.ours(family)
        for line in ours:
            tell(line)
    for name, (library, _) in peers.items():
        if "peers" in what and not why[name]:
            tell(bench.theirs(family, name, library, ours[0]["cpu_seconds"]))
        elif what != ["table"] and why[name]:
            print(f"{family}: without {name}: {why[name]}", flush=True)
    if "speed" in what and not why[of.peer]:
        tell(bench.speed(family))


if __name__ == "__main__":
    main()
