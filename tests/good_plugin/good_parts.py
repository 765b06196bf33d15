"""What the good plugin consists of: stochastic gradient descent with momentum on a line."""

from dataclasses import dataclass

import numpy as np
import torch

from corelab import Saved


class Numbers:
    @dataclass(frozen=True)
    class Config:
        n: int = 64
        """How many points."""

    def __init__(self, config):
        rng = np.random.default_rng(0)
        self.x = torch.from_numpy(rng.random((config.n, 1), np.float32))
        self.y = 2 * self.x + 1 + 0.1 * torch.from_numpy(rng.random((config.n, 1), np.float32))

    def points(self, indices):
        return self.x[indices], self.y[indices], {"weights": None}


class Line(torch.nn.Module):
    @dataclass(frozen=True)
    class Config:
        bias: bool = True
        """Whether it may miss the origin."""

    def __init__(self, config, inputs):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, 1, config.bias)
        for weights in self.parameters():
            torch.nn.init.zeros_(weights)

    def forward(self, x):
        return self.layer(x)


class Fit(Saved):
    @dataclass(frozen=True)
    class Config:
        lr: float = 0.1
        """The length of a step."""

    unit = "examples"
    default_task, default_model, default_steps = "numbers", "line", 1_000
    best = "min eval/loss"
    highlights = ("train/loss",)
    presets = {}
    saved = ("net", "optimizer", "progress", "process")
    sharded = ()

    def __init__(self, config, task, model, context):
        self.task, self.context = task, context
        self.net = model(1)
        self.optimizer = torch.optim.SGD(self.net.parameters(), config.lr, momentum=0.9)
        self.seed = context.seed_for("points", shared=True)
        self.process = 0
        self.progress = 0
        self.losses = []

    def step(self):
        rng = np.random.default_rng((self.seed, self.progress))
        x, y, _ = self.task.points(self.context.shard(rng.integers(0, 64, 8)))
        loss = ((self.net(x.to(self.context.device)) - y.to(self.context.device)) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.context.average(p.grad for p in self.net.parameters())
        self.optimizer.step()
        self.progress += len(x) * self.context.world
        return {"loss": loss.item()}

    def evaluate(self, split="test", n=None, seed=0):
        x, y, _ = self.task.points(torch.arange(n or 64))
        with torch.no_grad():
            loss = ((self.net(x.to(self.context.device)) - y.to(self.context.device)) ** 2).mean()
        return {"loss": loss.item()}
