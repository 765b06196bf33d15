from __future__ import annotations

import json

import pytest
from corelab_report.reproduction import changes, compare

import corelab as core


@pytest.fixture
def run(place):
    """A run that takes no time."""
    options = {"run.sinks": ["jsonl"], "run.name": "lake"}
    return core.train("qlearning", task="FrozenLake-v1", steps=300, options=options)


def test_a_run_is_repeated_bit_for_bit(corelab, run, place):
    lines = corelab("reproduce", "runs/lake").splitlines()
    assert lines[0] == "versions, plugins and hardware are those of then"
    assert lines[1] == "runs/lake-again repeats runs/lake"
    assert lines[2] == f"the weights are bit-identical ({run.record['weights_sha256'][:12]})"
    assert lines[3:] == ["the metrics are the same in every row"]
    again = core.Run("runs/lake-again")
    assert again.record["weights_sha256"] == run.record["weights_sha256"]
    said = corelab("reproduce", "runs/lake", code=2)
    assert said.startswith("corelab: runs/lake-again: exists already;")


def test_what_has_changed_since_then_is_told(run):
    then = json.loads(json.dumps(run.record))
    assert list(changes(then, run.record)) == []
    then |= {"python": "3.9.1", "stopped_by": "time", "git": {"commit": "c0ffee", "changed": False}}
    then["packages"] |= {"numpy": "1.0", "gone": "2.0"}
    then["hardware"] |= {"gpus": ["A GPU"]}
    then["plugins"]["task"]["version"] = "0.0.1"
    then["plugins"]["algorithm"]["sha256"] = "another"
    told = list(changes(then, run.record | {"git": None}))
    numpy = run.record["packages"]["numpy"]
    assert told == [
        f"python was 3.9.1, now it is {run.record['python']}",
        "the code of the algorithm, in corelab-ml 0.1.0, was another one",
        "the task was that of corelab-ml 0.0.1, now it is 0.1.0",
        "gone was 2.0, now it is not installed",
        f"numpy was 1.0, now it is {numpy}",
        "hardware: gpus was ['A GPU'], now it is none",
        "the commit was c0ffee, now it is none",
        "it was stopped by its time limit, which no second run meets at the same step",
    ]


def test_other_weights_are_judged_by_the_scores_of_the_other_seeds(make_seeds, make_run):
    make_seeds("a", [1, 2, 3])
    rows = [{"progress": 250, "time": 0.0, "train/loss": 4.0, "eval/return": 0.5}]

    def again(name, score):
        more = [{"progress": 1000, "time": 9.0, "eval/return": score}]
        return make_run(name, rows + more, weights_sha256="e" * 64)

    run = core.Run("a/seed-1")
    near, far = (compare(run, again(name, score)) for name, score in (("b", 2.5), ("c", 4.0)))
    assert (near["identical"], near["inside"], near["parted"]) == (False, True, 500)
    assert (far["identical"], far["inside"]) == (False, False)
    assert near["seeds"] == [1, 2, 3]
    assert near["scores"] == [2, 2.5]


def test_another_outcome_is_told_with_where_it_parted_and_ends_with_1(corelab, run):
    run.update(weights_sha256="0" * 64)  # as if another machine had trained it
    rows = run.metrics()
    rows[-1]["eval/return"] += 1
    (run.path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    last = rows[-1]["eval/return"]
    said = corelab("reproduce", "runs/lake", code=1).splitlines()
    assert said[2:] == [
        "the weights differ",
        f"the metrics differ from progress {rows[-1]['progress']:,} on",
        f"eval/return was {last:.6g}, now it is {last - 1:.6g}",
        "there is no other seed beside the run, so nobody knows how much is luck",
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "corelab reproduce: the following arguments are required: run; see"),
        (("nowhere",), "nowhere: is not a run directory (it has no run.json)"),
        (("a",), "a: is interrupted; only a run that is done can be compared"),
        (("b",), "b: needs the algorithm 'ppo' of corelab-other 0.1.0, which is not installed"),
    ],
)
def test_bad_input_is_one_sentence(corelab, make_run, words, sentence):
    make_run("a", status="interrupted")
    other = make_run("b")
    other.record["plugins"]["algorithm"]["distribution"] = "corelab-other"
    other.update()
    said = corelab("reproduce", *words, code=2)
    assert said.startswith(f"corelab: {sentence}")
    assert said.count("\n") == 1
