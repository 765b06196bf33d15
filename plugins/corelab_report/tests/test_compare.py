from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest
import torch
from corelab_report.scores import improvement
from scipy.stats import mannwhitneyu, trim_mean

from corelab.state import tensors_sha256


def told(corelab, *words):
    return json.loads(corelab("compare", *words, "--json"))


def test_each_folder_of_seeds_has_its_interquartile_mean_and_interval(corelab, make_seeds):
    make_seeds("a", [1, 2, 3, 4, 50])
    make_seeds("b", [10, 10, 10])
    a, b = told(corelab, "a", "b")["summary"]
    assert (a["group"], a["task"], a["metric"], a["runs"]) == ("a", "CartPole-v1", "return", 5)
    assert a["iqm"] == pytest.approx(trim_mean([1, 2, 3, 4, 50], 0.25)) == 3
    assert a["interval"][0] < 3 < a["interval"][1]
    assert (b["iqm"], b["interval"]) == (10, [10, 10])


def test_the_probability_of_improvement_is_that_of_mann_and_whitney():
    rng = np.random.default_rng(3)
    x, y = rng.normal(1, 1, 12).round(), rng.normal(0, 1, 9).round()  # rounded: with ties
    p, low, high = improvement([x], [y])
    assert p == pytest.approx(mannwhitneyu(x, y).statistic / (12 * 9))
    assert low < p < high
    worse, *_ = improvement([x], [y], "min")
    assert worse == pytest.approx(1 - p)


def test_the_interval_of_the_probability_of_improvement_is_that_of_a_bootstrap():
    rng = np.random.default_rng(4)
    x, y = rng.normal(0.5, 1, 10), rng.normal(0, 1, 10)
    _, low, high = improvement([x], [y])
    drawn = [
        np.greater.outer(rng.choice(x, len(x)), rng.choice(y, len(y))).mean() for _ in range(4000)
    ]
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.03)


def test_tasks_count_alike_in_the_probability_of_improvement():
    p, *_ = improvement([[1.0], [1.0, 1.0, 1.0]], [[0.0], [2.0]])
    assert p == 0.5


def test_less_is_better_where_the_algorithm_says_so(corelab, make_run):
    for name, loss in (("a", 1.0), ("b", 0.5)):
        rows = [{"progress": 10, "time": 1.0, "eval/loss": loss}]
        make_run(name, rows, algorithm="vae", task="digits")
    result = told(corelab, "a", "b")
    assert (result["metric"], result["mode"]) == ("eval/loss", "min")
    assert result["summary"][1]["better"]["probability"] == 1
    result = told(corelab, "a", "b", "--mode", "max")
    assert result["summary"][1]["better"]["probability"] == 0


def test_the_best_value_is_taken_when_it_is_asked_for(corelab, make_run):
    rows = [{"progress": i, "time": i, "eval/return": r} for i, r in ((1, 5.0), (2, 9.0), (3, 7.0))]
    make_run("a", rows)
    assert told(corelab, "a")["summary"][0]["iqm"] == 7
    assert told(corelab, "a", "--at", "best")["summary"][0]["iqm"] == 9


def test_equal_weights_are_named_and_a_folder_tells_whether_its_runs_differ(corelab, make_seeds):
    make_seeds("a", [1, 2])
    make_seeds("b", [1, 2], weights_sha256="f" * 64)
    result = told(corelab, "a", "b")
    assert [row["weights"] for row in result["summary"]] == ["all differ", "ffffffff"]
    assert result["identical"] == [["b/seed-0", "b/seed-1"]]
    assert "bit-identical weights: b/seed-0 = b/seed-1" in corelab("compare", "a", "b")


def test_weights_of_an_unfinished_run_are_those_of_its_checkpoint(corelab, make_run, save_weights):
    rows = [{"progress": 10, "time": 1.0, "eval/return": 1.0}]
    run = make_run("a", rows, status="interrupted", weights_sha256=None)
    file = save_weights(run, 10, {"w": torch.arange(3.0)})
    result = told(corelab, "a")
    assert result["weights"] == {"a": tensors_sha256(file)}
    assert result["unfinished"] == ["a is interrupted, at 10 of 1,000 env steps"]
    file.write_bytes(b"torn")
    assert told(corelab, "a")["weights"] == {"a": ""}


def test_options_that_differ_are_told_and_no_others(corelab, make_seeds):
    make_seeds("a", [1, 2])
    make_seeds("b", [3, 4], options={"algorithm.lr": 0.5, "model.sizes": [8]})
    differences = told(corelab, "a", "b")["differences"]
    assert differences["algorithm.lr"]["b"] == 0.5
    assert differences["model.sizes"] == {"a": [64, 64], "b": [8]}
    assert len(differences) == 2
    assert re.search(r"^model\.sizes +64 64 +8 *$", corelab("compare", "a", "b"), re.MULTILINE)


def test_a_folder_of_different_experiments_is_taken_apart(corelab, make_seeds, make_run):
    make_seeds("runs/a", [1, 2])
    make_seeds("runs/b", [3, 4], options={"algorithm.lr": 0.5})
    rows = [{"progress": 10, "time": 1.0, "eval/return": 1.0}]
    for seed in (0, 1):
        make_run(f"runs/single-{seed}", rows, seed, options={"algorithm.gamma": 0.5})
    groups = [row["group"] for row in told(corelab, "runs")["summary"]]
    assert groups == ["runs/a", "runs/b", "runs/single-0 and 1 more"]


def test_the_table_is_csv_when_that_is_asked_for(corelab, make_seeds):
    make_seeds("a", [1, 2, 3])
    make_seeds("b", [4, 5, 6])
    rows = list(csv.DictReader(io.StringIO(corelab("compare", "a", "b", "--csv"))))
    assert [(row["group"], float(row["iqm"]), row["better"]) for row in rows] == [
        ("a", 2, ""),
        ("b", 5, "1.0"),
    ]


def test_a_person_reads_a_table(corelab, make_seeds, make_run):
    make_seeds("a", [1, 2, 3])
    make_run("[b]", [{"progress": 1, "time": 1.0, "eval/return": 2.5}])
    told, head, _, a, b, *_ = corelab("compare", "a", "[b]").splitlines()
    assert told == "eval/return, last value; more is better"
    assert re.split(r"\s{2,}", head.rstrip())[3:6] == ["IQM", "95% interval", "P(better), 95%"]
    assert re.split(r"\s{2,}", a)[:6] == ["a", "CartPole-v1", "3", "2", "1 to 3", "-"]
    assert re.split(r"\s{2,}", b)[:5] == ["[b]", "CartPole-v1", "1", "2.5", "one run"]
    assert re.split(r"\s{2,}", b)[5].startswith("0.67, 0.00 to")


def test_a_run_that_was_never_measured_is_left_out_and_told(corelab, make_seeds, make_run, capsys):
    make_seeds("a", [1, 2])
    make_run("a/seed-2", [{"progress": 1, "time": 1.0, "train/loss": 1.0}], 2, status="failed")
    assert told(corelab, "a")["summary"][0]["runs"] == 2
    from corelab.cli import main

    main(["compare", "a"])
    said = capsys.readouterr()
    assert said.err == "corelab: a/seed-2: left out, since it has no eval/return yet\n"
    assert "a/seed-2 is failed, at 1 of 1,000 env steps" in said.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "corelab compare: the following arguments are required: run; see"),
        (("nowhere",), "nowhere: is not a run directory (it has no run.json)"),
        (("a", "--metric", "eval/retrun"), "--mode: say whether more of eval/retrun is better"),
        (
            ("a", "--metric", "eval/retrun", "--mode", "max"),
            "a: no run has a metric 'eval/retrun'; did you mean 'eval/return'?",
        ),
        (("a", "v"), "--metric: say which one to compare; the algorithms say ppo: max eval/return"),
        (("a", "--json", "--csv"), "corelab compare: --json and --csv are two forms of the same"),
        (("w",), "w: no run has a metric 'eval/return'; it has: none"),
        (("a", "--mode", "most"), "corelab compare: argument --mode: invalid choice: 'most'"),
    ],
)
def test_bad_input_is_one_sentence(corelab, make_seeds, make_run, words, sentence):
    make_seeds("a", [1])
    make_run("v", [{"progress": 1, "time": 1.0, "eval/loss": 1.0}], algorithm="vae", task="digits")
    make_run("w", status="created")
    said = corelab("compare", *words, code=2)
    assert said.startswith(f"corelab: {sentence}")
    assert said.count("\n") == 1


def test_an_algorithm_that_is_not_installed_needs_to_be_told_a_metric(corelab, make_run):
    run = make_run("a", [{"progress": 1, "time": 1.0, "eval/x": 1.0}])
    run.record["algorithm"] = "elsewhere"
    run.update()
    said = corelab("compare", "a", code=2)
    assert "the algorithms say elsewhere: unknown" in said
    assert told(corelab, "a", "--metric", "eval/x", "--mode", "max")["summary"][0]["iqm"] == 1
