"""One training run of one library in a process of its own: what `benchmarks/generative.py` starts.

    PYTHON benchmarks/generators.py LIBRARY SETTINGS

SETTINGS is JSON: `seconds`, the CPU seconds to train for, `seed`, and `samples`, how many images to
draw afterwards (0 for none and no evaluation). For corelab it names `algorithm`, `task`, `model`
and `options`, perhaps in `fewer` another number of samples to measure, and in `picture` a file for
64 of them; for a peer `data`, an .npz file with uint8 images `train` and `test`, `out`, an .npz
file to write `samples` to, and perhaps a `batch_size` that is not its own. The last line is JSON:
`images` trained on, `cpu_seconds` of training alone (without imports, set-up and evaluation),
`parameters`, and what else was measured.

pythae, diffusers and denoising-diffusion-pytorch run with the settings that their authors publish
for pictures of this size; the DCGAN and the gated PixelCNN are written here as textbooks have them.
A library is imported where it is used, so the interpreter needs no more than the one asked for.
"""

from __future__ import annotations

import json
import math
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

STEPS = 50
"""Evaluations of the network for a sample of a diffusion model."""


class Clock:
    """CPU seconds of this process since it was made."""

    def __init__(self) -> None:
        self._began = time.process_time()

    def __call__(self) -> float:
        """How many."""
        return time.process_time() - self._began


def parameters(*nets: nn.Module) -> int:
    return sum(p.numel() for net in nets for p in net.parameters())


# --- corelab ---------------------------------------------------------------------------------


def corelab(s: dict[str, Any]) -> dict[str, Any]:
    """The loop of `corelab train` without its checkpoints and its evaluations.

    The schedules of a run follow its budget of examples, so what one costs is measured first, on a
    run of the same shape that is thrown away.
    """
    from corelab.experiments import resolve

    def build(steps: int) -> tuple[Any, Any]:
        values = {"seed": s["seed"], "device": "cpu", "steps": steps, **s["options"]}
        experiment = resolve(
            s["algorithm"], task=s["task"], model=s["model"] or None, values=values
        )
        context = experiment.context()
        return experiment.build(context), context

    algorithm, context = build(1_000_000_000)
    with context.owning_globals():
        algorithm.step()
        first, clock = algorithm.progress, Clock()
        while clock() < max(1.0, 0.03 * s["seconds"]):
            algorithm.step()
        cost = clock() / (algorithm.progress - first)

    algorithm, context = build(max(1, round(s["seconds"] / cost)))
    with context.owning_globals():
        clock = Clock()
        while algorithm.progress < context.steps:
            algorithm.step()
        found: dict[str, Any] = {"images": algorithm.progress, "cpu_seconds": clock()}
        nets = [v for v in vars(algorithm).values() if isinstance(v, nn.Module)]
        found["parameters"] = parameters(*nets)
        if s["samples"]:
            clock = Clock()
            pictures = algorithm.sample(64)
            found["seconds_for_64"] = clock()
            if s.get("picture"):
                pictures.save(Path(s["picture"]))
            found |= numbers(algorithm.evaluate("test", quality=s["samples"]))
        if 0 < s.get("fewer", 0) < s["samples"]:
            found["fewer"] = numbers(algorithm.evaluate("test", n=100, quality=s["fewer"]))
    return found


def numbers(results: dict[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in results.items() if hasattr(v, "__float__")}


# --- what peers have in common ---------------------------------------------------------------


def batches(data: Any, size: int, signed: bool = True) -> Iterator[Tensor]:
    """Endless minibatches, as a DataLoader gives them to most: floats in memory, shuffled."""
    images = torch.from_numpy(data["train"]) / 255
    loader = DataLoader(
        TensorDataset(2 * images - 1 if signed else images), size, shuffle=True, drop_last=True
    )
    while True:
        for (x,) in loader:
            yield x


def run(step: Callable[[Tensor], None], data: Iterator[Tensor], seconds: float) -> dict[str, Any]:
    """STEP on minibatches until the CPU seconds are over; one more before, to warm up."""
    step(next(data))
    images, clock = 0, Clock()
    while clock() < seconds:
        x = next(data)
        step(x)
        images += len(x)
    return {"images": images, "cpu_seconds": clock()}


def write(s: dict[str, Any], draw: Callable[[int], Tensor], **more: Any) -> dict[str, Any]:
    """SAMPLES images of DRAW, floats from -1 to 1, to the file."""
    if not s["samples"]:
        return {}
    clock, pieces = Clock(), []
    with torch.no_grad():
        while sum(map(len, pieces)) < s["samples"]:
            pieces.append(draw(min(100, s["samples"] - sum(map(len, pieces)))))
    seconds = clock()
    samples = ((torch.cat(pieces).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    np.savez(s["out"], samples=samples.numpy(), **more)
    return {"seconds_for_64": 64 * seconds / len(samples)}


# --- the peers -------------------------------------------------------------------------------


def pythae(s: dict[str, Any]) -> dict[str, Any]:
    """The VAE of pythae with the settings of its README, in its own trainer."""
    import logging

    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    logging.disable()
    data = np.load(s["data"])
    size = 200
    seen = {"images": -size, "clock": Clock()}  # the first step is to warm up

    class Over(Exception):  # noqa: N818
        pass

    class Stop(TrainingCallback):
        def on_train_step_end(self, *_: Any, **__: Any) -> None:
            seen["images"] += size
            if seen["images"] == 0:
                seen["clock"] = Clock()
            elif seen["clock"]() >= s["seconds"]:
                raise Over

    config = BaseTrainerConfig(
        output_dir=s["out"] + ".run",
        num_epochs=1_000_000,
        learning_rate=1e-3,
        per_device_train_batch_size=size,
        seed=s["seed"],
        no_cuda=True,
    )
    model = VAE(VAEConfig(input_dim=data["train"].shape[1:], latent_dim=10))
    images = torch.from_numpy(data["train"]) / 255
    dataset = BaseDataset(images, torch.zeros(len(images)))
    trainer = BaseTrainer(model, dataset, training_config=config, callbacks=[Stop()])
    try:
        trainer.train()
    except Over:
        found = {"images": seen["images"], "cpu_seconds": seen["clock"]()}
    model.eval()
    with torch.no_grad():
        # its loss is a Gaussian's of variance 1; what bits/dim need is the mean and the divergence
        test = torch.from_numpy(data["test"]) / 255
        out = [model({"data": x}) for x in test.split(500)]
        means = torch.cat([o.recon_x.reshape(-1, *test.shape[1:]) for o in out])
        kl = sum(o.reg_loss.item() * len(o.z) for o in out) / len(test)
    found["parameters"] = parameters(model)
    found["kl_nats"] = kl

    def draw(n: int) -> Tensor:
        z = torch.randn(n, 10)
        return 2 * model.decoder(z)["reconstruction"].reshape(n, *test.shape[1:]) - 1

    return found | write(s, draw, means=means.numpy())


def dcgan(s: dict[str, Any]) -> dict[str, Any]:
    """A DCGAN with the settings of Radford, Metz & Chintala 2016 (arXiv:1511.06434)."""
    data = np.load(s["data"])
    c, size = data["train"].shape[1], data["train"].shape[2] // 4
    generator = nn.Sequential(
        *(nn.Linear(100, 128 * size**2), nn.Unflatten(1, (128, size, size))),
        *(nn.BatchNorm2d(128), nn.ReLU(), nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False)),
        *(nn.BatchNorm2d(64), nn.ReLU(), nn.ConvTranspose2d(64, c, 4, 2, 1), nn.Tanh()),
    )
    discriminator = nn.Sequential(
        *(nn.Conv2d(c, 64, 4, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(64, 128, 4, 2, 1, bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(0.2)),
        *(nn.Flatten(), nn.Linear(128 * size**2, 1)),
    )
    for layer in [*generator, *discriminator]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0, 0.02)
    of_g, of_d = (
        torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (generator, discriminator)
    )
    criterion = nn.BCEWithLogitsLoss()

    def step(x: Tensor) -> None:
        ones, zeros = torch.ones(len(x), 1), torch.zeros(len(x), 1)
        fake = generator(torch.randn(len(x), 100))
        of_d.zero_grad()
        loss = criterion(discriminator(x), ones) + criterion(discriminator(fake.detach()), zeros)
        loss.backward()
        of_d.step()
        of_g.zero_grad()
        criterion(discriminator(fake), ones).backward()
        of_g.step()

    found = run(step, batches(data, s.get("batch_size", 128)), s["seconds"])
    found["parameters"] = parameters(generator, discriminator)
    generator.eval()
    return found | write(s, lambda n: generator(torch.randn(n, 100)))


class Gated(nn.Module):
    """A layer of the gated PixelCNN (van den Oord et al. 2016, arXiv:1606.05328, figure 2)."""

    def __init__(self, inputs: int, c: int, kernel: int, first: bool) -> None:
        super().__init__()
        half = kernel // 2
        self.pad, self.first = half, first
        self.vertical = nn.Conv2d(inputs, 2 * c, (half + 1, kernel))
        self.horizontal = nn.Conv2d(inputs, 2 * c, (1, half + (not first)))
        self.down = nn.Conv2d(2 * c, 2 * c, 1)
        self.out = nn.Conv2d(c, c, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Both stacks [N, c, H, W]: V has seen the rows above, H also what is to the left."""
        H, W = v.shape[2:]
        p = self.pad
        above = self.vertical(F.pad(v, (p, p, p + self.first, 0)))[:, :, :H]
        row = self.horizontal(F.pad(h, (p, 0, 0, 0)))[:, :, :, :W] + self.down(above)
        left = self.out(gated(row))
        return gated(above), left if self.first else left + h


def gated(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


class PixelCNN(nn.Module):
    """Gated, one of 256 levels for each pixel; sampled by a whole pass for every pixel."""

    def __init__(self, c: int, layers: int) -> None:
        super().__init__()
        rest = [Gated(c, c, 3, False) for _ in range(layers - 1)]
        self.layers = nn.ModuleList([Gated(1, c, 7, True), *rest])
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(c, c, 1), nn.ReLU(), nn.Conv2d(c, 256, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, 256, H, W]."""
        v = h = x
        for layer in self.layers:
            v, h = layer(v, h)
        logits: Tensor = self.head(h)
        return logits

    def draw(self, n: int, H: int, W: int) -> Tensor:
        """N images, pixel by pixel."""
        x = torch.zeros(n, 1, H, W)
        for i in range(H):
            for j in range(W):
                p = self(x)[:, :, i, j].softmax(1)
                x[:, 0, i, j] = torch.multinomial(p, 1)[:, 0] / 127.5 - 1
        return x


def pixelcnn(s: dict[str, Any]) -> dict[str, Any]:
    """A gated PixelCNN of 7 layers of 64 channels with Adam at 0.001."""
    data = np.load(s["data"])
    net = PixelCNN(s.get("channels", 64), s.get("layers", 7))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def nll(x: Tensor) -> Tensor:
        levels = ((x[:, 0] + 1) * 127.5).round().long()
        return F.cross_entropy(net(x), levels) / math.log(2)

    def step(x: Tensor) -> None:
        optimizer.zero_grad()
        nll(x).backward()
        optimizer.step()

    found = run(step, batches(data, s.get("batch_size", 128)), s["seconds"])
    found["parameters"] = parameters(net)
    if s["samples"]:
        test = torch.from_numpy(data["test"]) / 127.5 - 1
        with torch.no_grad():
            bits = [nll(x).item() * len(x) for x in test.split(100)]
        found["bits_per_dim"] = sum(bits) / len(test)
        # a pass for each pixel: 16 images are all that there is time for
        clock = Clock()
        with torch.no_grad():
            net.draw(16, *test.shape[2:])
        found["seconds_for_64"] = 4 * clock()
    return found


def diffusers(s: dict[str, Any]) -> dict[str, Any]:
    """A UNet2DModel with the settings that the authors' course has for MNIST, and DDIM."""
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

    data = np.load(s["data"])
    c, size = data["train"].shape[1], data["train"].shape[2]
    net = UNet2DModel(
        sample_size=size,
        in_channels=c,
        out_channels=c,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    noising = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def step(x: Tensor) -> None:
        noise, t = torch.randn_like(x), torch.randint(1000, (len(x),))
        predicted = net(noising.add_noise(x, noise, t), t).sample
        optimizer.zero_grad()
        F.mse_loss(predicted, noise).backward()
        optimizer.step()

    found = run(step, batches(data, s.get("batch_size", 128)), s["seconds"])
    found["parameters"] = parameters(net)
    sampler = DDIMScheduler.from_config(noising.config)
    sampler.set_timesteps(STEPS)
    net.eval()

    def draw(n: int) -> Tensor:
        x = torch.randn(n, c, size, size)
        for t in sampler.timesteps:
            x = sampler.step(net(x, t).sample, t, x).prev_sample
        return x

    return found | write(s, draw)


def denoising_diffusion(s: dict[str, Any]) -> dict[str, Any]:
    """denoising-diffusion-pytorch as its README has it, in a loop like that of its trainer."""
    # torchvision, which it imports for reading files, does not work beside a torch without CUDA
    for name in ("torchvision", "torchvision.transforms", "torchvision.utils"):
        sys.modules[name] = types.ModuleType(name)
    vision = sys.modules["torchvision"]
    vision.transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]
    vision.utils = sys.modules["torchvision.utils"]  # type: ignore[attr-defined]
    fid = types.ModuleType("denoising_diffusion_pytorch.fid_evaluation")
    fid.FIDEvaluation = None  # type: ignore[attr-defined]
    sys.modules[fid.__name__] = fid
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    data = np.load(s["data"])
    c, size = data["train"].shape[1], data["train"].shape[2]
    net = Unet(dim=64, dim_mults=(1, 2, 4), channels=c, flash_attn=False)
    model = GaussianDiffusion(net, image_size=size, timesteps=1000, sampling_timesteps=STEPS)
    optimizer = torch.optim.Adam(model.parameters(), 8e-5, (0.9, 0.99))
    average = EMA(model, beta=0.995, update_every=10)

    def step(x: Tensor) -> None:
        for part in x.chunk(2):  # it accumulates two batches
            (model(part) / 2).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update()

    found = run(step, batches(data, s.get("batch_size", 64), signed=False), s["seconds"])
    found["parameters"] = parameters(model)
    average.ema_model.eval()
    return found | write(s, lambda n: 2 * average.ema_model.sample(batch_size=n) - 1)


LIBRARIES = {
    "corelab": corelab,
    "pythae": pythae,
    "dcgan": dcgan,
    "pixelcnn": pixelcnn,
    "diffusers": diffusers,
    "denoising_diffusion": denoising_diffusion,
}


def main() -> None:
    library, settings = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(1)
    torch.manual_seed(settings["seed"])
    print(json.dumps(LIBRARIES[library](settings)))


if __name__ == "__main__":
    main()
