from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from corelab_datasets.interface import Split
from corelab_report import usage
from corelab_report.disaggregation import disaggregate

import corelab as core


class Judge:
    """An algorithm whose loss on an image is its first pixel."""

    best = "min eval/loss"

    def __init__(self, task):
        self.task = task

    def evaluate(self, split="test", n=None, seed=0):
        self.sample(64)
        images = self.task.split(split).images[:n]
        return {"loss": images[:, 0, 0, 0].float().mean().item()}

    def sample(self, n):
        raise AssertionError("samples take time")


def data(levels, labels):
    images = torch.tensor(levels, dtype=torch.uint8)[:, None, None, None]
    part = Split(images, torch.tensor(labels))
    return SimpleNamespace(classes=("cat", "dog"), shape=(1, 1, 1), split=lambda name: part)


def test_each_class_has_the_mean_of_its_own_examples_and_the_worst_is_named():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    levels = rng.integers(0, 20, 400) + 50 * labels
    judge = Judge(data(levels.tolist(), labels.tolist()))
    task = judge.task
    table = disaggregate(judge, 1000)
    assert (table.attribute, table.metric, table.worst.group) == ("class", "loss", "dog")
    for c, row in enumerate(table.rows):
        of_class = levels[labels == c]
        assert row.n == len(of_class)
        assert row.value == pytest.approx(of_class.mean())
        # as wide as that of the mean of so many independent examples
        error = of_class.std() / np.sqrt(len(of_class))
        low, high = row.interval
        assert 0.5 * 4.5 * error < high - low < 2 * 4.5 * error
    assert table.everybody.value == pytest.approx(levels.mean())
    assert judge.task is task


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for seed in range(200):
        levels = np.random.default_rng(seed).integers(0, 21, 60)
        table = disaggregate(Judge(data(levels.tolist(), [0, 1] * 30)), 30)
        held += sum(row.interval[0] <= 10 <= row.interval[1] for row in table.rows)
    assert 0.91 < held / 400 < 0.98


def test_a_class_takes_no_more_examples_than_asked_for():
    judge = Judge(data(list(range(100)), [0] * 50 + [1] * 50))
    cat, dog = disaggregate(judge, 10).rows
    assert (cat.n, dog.n) == (10, 10)
    assert (cat.value, dog.value) == pytest.approx((4.5, 54.5))


def test_a_figure_of_all_samples_together_is_not_taken_apart():
    judge = Judge(data([1, 2], [0, 1]))
    judge.best = "min eval/fid"
    assert (
        disaggregate(judge) == "fid is a figure of all samples together, not a mean over examples."
    )


class Player:
    """An algorithm that plays."""

    best = "max eval/return"

    def __init__(self, found):
        self.task, self.found = SimpleNamespace(make=None), found

    def evaluate(self, split="test", n=None, seed=0):
        return self.found(n, seed)


@pytest.mark.parametrize("name", ["{}_win", "win_rate_{}"])
def test_opponents_are_told_apart_with_the_intervals_of_shares(name):
    shares = {name.format("random"): 0.9, name.format("expert"): 0.2}
    table = disaggregate(Player(lambda n, seed: {"return": 1.0, **shares}), 100)
    assert (table.attribute, table.worst.group) == ("opponent", "expert")
    assert table.worst.interval == pytest.approx((0.1334, 0.2888), abs=1e-4)  # Wilson 1927
    assert table.everybody.value == pytest.approx(0.55)


def test_of_beginnings_the_worst_tenth_is_told_and_the_worst_seed_named():
    table = disaggregate(Player(lambda n, seed: {"return": float((seed + 7) % 40)}), 40)
    assert (table.attribute, table.everybody.value) == ("beginning", 19.5)
    assert (table.worst.group, table.worst.value) == ("worst tenth", 1.5)
    assert "that of seed 33, with a return of 0" in table.method


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A VAE that has seen a few digits."""
    place = tmp_path_factory.mktemp("runs")
    options = {
        "run.name": "vae",
        "run.dir": place,
        "run.sinks": ["jsonl", "usage"],
        "run.eval_n": 50,
    }
    return core.train("vae", task="digits", steps=600, options=options)


def test_the_card_has_the_figures_of_the_run_and_leaves_the_rest_to_its_author(
    corelab, trained, place
):
    assert corelab("card", trained.path, "-n", "20", "-o", "card.md") == "card.md\n"
    text = (place / "card.md").read_text()
    assert text.startswith("# Model card: vae on digits\n")
    headings = re.findall("^## (.*)$", text, re.MULTILINE)
    assert headings[:3] == ["Model details", "Intended use", "Factors"]
    assert headings[-2:] == ["Ethical considerations", "Caveats and recommendations"]
    assert trained.record["weights_sha256"] in text
    assert text.count("*To be written by the author:*") == 5
    last = [row for row in trained.metrics() if "eval/loss" in row][-1]
    assert f"| eval/loss | {last['eval/loss']:.6g} |" in text
    assert "Test split: " in text
    table = re.findall(r"(?m)^\| (\d|all)( \*\*\(worst\)\*\*)? \| (\d+) \| (\S+) \|", text)
    assert [row[0] for row in table] == ["all", *"0123456789"]
    worst = max(table[1:], key=lambda row: float(row[3]))
    assert [row[0] for row in table if row[1]] == [worst[0]]
    assert f"The worst class is **{worst[0]}**" in text
    assert re.search(r"\| Processor \| [\d.]+ s \|", text)
    assert re.search(r"\| Memory \| [\d,]+ MiB at most \|", text)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "corelab card: the following arguments are required: run; see"),
        (("runs",), "runs: a card is of one run; name one in this folder, such as runs/a"),
        (("nowhere",), "nowhere: is not a run directory (it has no run.json)"),
        (("runs/a",), "runs/a/checkpoints: there is no checkpoint yet"),
        (("runs/a", "-n", "1"), "corelab card: -n is 1; it must be at least 2, for an interval"),
        (("runs/a", "-n", "x"), "corelab card: argument -n: invalid int value: 'x'"),
    ],
)
def test_bad_input_is_one_sentence(corelab, make_run, words, sentence):
    make_run("runs/a")
    said = corelab("card", *words, code=2)
    assert said.startswith(f"corelab: {sentence}")
    assert said.count("\n") == 1


# -- what a run takes ---------------------------------------------------------------------------


@pytest.fixture
def zone(tmp_path, monkeypatch):
    """Set the counter of a processor package, in microjoules."""
    folder = tmp_path / "powercap" / "intel-rapl:0"
    (folder / "intel-rapl:0:0").mkdir(parents=True)
    (folder / "max_energy_range_uj").write_text("1000000000")
    monkeypatch.setattr(usage, "POWERCAP", tmp_path / "powercap")
    return lambda microjoules: (folder / "energy_uj").write_text(str(microjoules))


def test_energy_is_counted_past_the_end_of_the_counter(zone):
    zone(900_000_000)
    energy = usage.Energy()
    zone(950_000_000)
    assert energy.joules() == 50
    zone(150_000_000)
    assert energy.joules() == 250


def test_energy_that_cannot_be_read_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(usage, "POWERCAP", tmp_path / "nothing")
    assert usage.Energy().joules() is None


def test_sessions_are_added_up_and_one_that_left_no_line_makes_the_sum_unknown(make_run, zone):
    run = make_run("a")
    for session, joules in ((0, 3), (0, 10), (1, 5)):
        row = {"session": session, "cpu_seconds": joules, "memory_bytes": 100 * joules}
        with (run.path / usage.FILE).open("a") as file:
            file.write(json.dumps(row | {"energy_joules": joules}) + "\n")
    run.record["sessions"] = [{}, {}]
    assert usage.total(run) == {"cpu_seconds": 15, "energy_joules": 15, "memory_bytes": 1000}
    run.record["sessions"] = [{}, {}, {}]
    assert usage.total(run) == {}


def test_a_run_that_is_trained_leaves_lines_of_what_it_took(trained):
    rows = usage.read(trained)
    assert rows[-1]["progress"] == trained.progress
    assert rows[-1]["memory_bytes"] > 50 * 2**20
    assert 0 < usage.total(trained)["cpu_seconds"] < 600
