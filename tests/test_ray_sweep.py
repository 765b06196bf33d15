"""Sweeps: what is searched, and many runs by Ray Tune that are each the run they would be alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'corelab-ml[ray]'")

from corelab import ConfigError, RunError, cli, config  # noqa: E402
from corelab.cluster import picture, population  # noqa: E402
from corelab.cluster.guided import Guided  # noqa: E402
from corelab.cluster.search import combinations, draws, parse  # noqa: E402
from corelab.cluster.sweep import Sweep, _scheduler, execute  # noqa: E402
from corelab.experiments import resolve, train  # noqa: E402
from corelab.plugins import Plugins  # noqa: E402
from corelab.runs import Run  # noqa: E402

pytestmark = pytest.mark.xdist_group("ray")

PPO = resolve("ppo")
KNOWN = {option.name: option for option in config.options(type(PPO.options))}


def make(folder: Path, *searches: str, steps: int = 2000, **options: object) -> Sweep:
    """A sweep of tabular Q-learning, which takes a fraction of a second."""
    values = {"run.dir": folder, "run.name": "sweep", "steps": steps, "run.sinks": ["jsonl"]}
    values |= {"run.checkpoint_every": 500}
    experiment = resolve("qlearning", task="FrozenLake-v1", values=values)
    return Sweep.create(experiment, searches, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expression", "low", "high", "kind"),
    [
        ("algorithm.lr=uniform(0.25, 0.5)", 0.25, 0.5, float),
        ("algorithm.lr = loguniform(1e-5,1e-2)", 1e-5, 1e-2, float),
        ("algorithm.gamma=quniform(0.9, 1, 0.05)", 0.9, 1.0, float),
        ("algorithm.batch-size=randint(3, 9)", 3, 8, int),
        ("algorithm.target_kl=uniform(0.01, 0.1)", 0.01, 0.1, float),
    ],
)
def test_what_is_drawn_lies_in_the_range_and_follows_from_the_seed(
    expression: str, low: float, high: float, kind: type
) -> None:
    (search,) = searches = parse([expression], KNOWN)
    values = [chosen[search.name] for chosen in draws(searches, 50, seed=1)]
    assert all(low - 1e-9 <= value <= high + 1e-9 and type(value) is kind for value in values)
    assert values == [chosen[search.name] for chosen in draws(searches, 50, seed=1)]
    assert values != [chosen[search.name] for chosen in draws(searches, 50, seed=2)]
    assert len(set(values)) > 2


def test_a_step_is_kept_to() -> None:
    searches = parse(["algorithm.epochs=quniform(4, 12, 4)"], KNOWN)
    assert {chosen["algorithm.epochs"] for chosen in draws(searches, 30, 0)} == {4, 8, 12}


def test_lists_hold_values_as_the_command_line_reads_them() -> None:
    searches = parse(
        ["model.sizes=choice(64 64, 128)", "algorithm.anneal_lr=grid(true, false)"], KNOWN
    )
    assert [list(chosen.values()) for chosen in combinations(searches)] == [
        [(64, 64), True],
        [(64, 64), False],
        [(128,), True],
        [(128,), False],
    ]


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("algorithm.lr", 'takes an expression like "algorithm.lr=loguniform(1e-5, 1e-2)"'),
        ("algorithm.lr=__import__('os')", "there is no '__import__'"),
        ("algorithm.rate=uniform(0, 1)", "there is no option 'algorithm.rate'"),
        ("algorithm.gama=uniform(0, 1)", "did you mean 'algorithm.gamma'?"),
        ("lr=uniform(0, 1)", "did you mean 'algorithm.lr'?"),
        ("steps=randint(1, 9)", "says how a run is made"),
        ("algorithm.lr=loguni(0, 1)", "did you mean 'loguniform'?"),
        ("algorithm.lr=uniform(1, 0.5)", "lower must be below upper"),
        ("algorithm.lr=uniform(0)", "takes numbers, got (0)"),
        ("algorithm.lr=uniform(0, inf)", "takes numbers, got (0, inf)"),
        ("algorithm.lr=uniform(a, b)", "takes numbers, got (a, b)"),
        ("algorithm.lr=loguniform(0, 1)", "lower must be above 0"),
        ("algorithm.gamma=quniform(0.9, 1, 0.03)", "multiples of the step"),
        ("algorithm.gamma=quniform(0.9, 1, 0)", "multiples of the step"),
        ("algorithm.epochs=uniform(1, 9)", "algorithm.epochs takes int, got 1.5"),
        ("algorithm.epochs=randint(1.5, 9)", "takes whole numbers"),
        ("algorithm.epochs=choice(1, two)", "--algorithm.epochs takes int, got 'two'"),
        ("algorithm.lr=choice(1e-3, 0.001)", "has a value twice"),
        ("algorithm.lr=grid()", "takes values with commas between"),
    ],
)
def test_a_search_that_cannot_be_made_is_told_in_a_sentence(expression: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse([expression], KNOWN)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("searches", "options", "sentence"),
    [
        ([], {}, "say what to search"),
        (["algorithm.lr=uniform(0, 1)"] * 2, {}, "algorithm.lr is searched twice"),
        (["algorithm.lr=uniform(0, 1)"], {"method": "grid"}, "needs a list, grid(…)"),
        (["algorithm.lr=grid(0.1, 0.2)"], {"trials": 3}, "a grid is made in full"),
        (["algorithm.lr=grid(0.1, 0.2)"], {"method": "bayesian"}, "write choice(…)"),
        (["algorithm.lr=uniform(0, 1)"], {"trials": 0}, "--trials is at least 1"),
    ],
)
def test_a_sweep_that_does_not_fit_together_makes_no_folder(
    tmp_path: Path, searches: list[str], options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        make(tmp_path, *searches, **options)
    assert not list(tmp_path.iterdir())


def test_the_trials_of_a_grid_wait_in_its_folder(tmp_path: Path) -> None:
    sweep = make(tmp_path, "algorithm.lr=grid(0.1, 0.5)", "seed=grid(3, 4)")
    assert [list(sweep.values(run).values()) for run in sweep.runs()] == [
        [0.1, 3],
        [0.1, 4],
        [0.5, 3],
        [0.5, 4],
    ]
    assert {run.status for run in sweep.runs()} == {"waiting"}
    assert (sweep.metric, sweep.mode) == ("eval/return", "max")
    assert sweep.runs()[0].record["sources"]["algorithm.lr"] == "sweep.json"
    assert sweep.runs()[0].record["sources"]["steps"] == "python"


def _tell(run: Run, *figures: float, status: str = "done") -> None:
    """Make RUN one that has told these FIGURES."""
    rows = [{"progress": 200 * (i + 1), "eval/return": f} for i, f in enumerate(figures)]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.update(status=status)


def test_a_bayesian_search_goes_on_with_what_it_has_seen(tmp_path: Path) -> None:
    sweep = make(
        tmp_path, "algorithm.lr=uniform(0, 1)", "seed=choice(0, 7)", method="bayesian", trials=9
    )
    chosen = [{"algorithm.lr": x, "seed": s} for x, s in [(0.5, 7), (0.25, 0), (0.75, 7)]]
    first, second, third = sweep.add(iter(chosen))
    _tell(first, 0.1, 0.9, 0.3)
    _tell(second, 0.2)
    _tell(third, 0.4, status="interrupted")
    sweep = Sweep(sweep.path)
    first, second, third = sweep.runs()
    guided = Guided(sweep, [first, second], [third])
    assert [trial.value for trial in guided._ot_study.trials if trial.value] == [0.9, 0.2]
    assert guided.suggest("a") == {"run": str(third.path)}
    suggested = Run(guided.suggest("b")["run"])
    assert suggested.path.name == "trial-0004"
    assert 0 <= sweep.values(suggested)["algorithm.lr"] <= 1
    _tell(third, 0.4, 0.6)
    guided.on_trial_complete("a")
    assert 0.6 in [trial.value for trial in guided._ot_study.trials]


def test_the_picture_shows_the_trials_and_which_option_matters(tmp_path: Path) -> None:
    lr, gamma = "algorithm.lr", "algorithm.gamma"
    searches = (f"{lr}=loguniform(1e-4, 0.1)", f"{gamma}=uniform(0.8, 1)")
    sweep = make(tmp_path, *searches, method="random", trials=20)
    for run in sweep.runs():
        _tell(run, float(np.log10(sweep.values(run)[lr])))
    shares = picture.importance(sweep)
    assert shares[lr] > 0.9
    assert sum(shares.values()) == pytest.approx(1)
    picture.draw(sweep, tmp_path / "sweep.png")
    drawn = np.asarray(Image.open(tmp_path / "sweep.png").convert("RGB")).astype(int)
    best, worst = (253, 231, 37), (68, 1, 84)  # where viridis ends
    near = [abs(drawn - (0.8 * np.array(c) + 0.2 * 255)).max(-1) < 12 for c in (best, worst)]
    height = [np.flatnonzero(found.any(1)).min() for found in near]
    assert height[0] < height[1]  # the best line ends above the worst one
    for run in sweep.runs():
        _tell(run, 1.0)
    assert picture.importance(sweep) == {}


def test_asha_goes_on_with_what_it_has_seen(tmp_path: Path) -> None:
    sweep = make(tmp_path, "algorithm.lr=grid(0.1, 0.2, 0.3)", scheduler="asha")
    for run, figure in zip(sweep.runs(), (0.3, 0.6, 0.9), strict=True):
        _tell(run, figure)
    scheduler = _scheduler(sweep, sweep.runs())
    (bracket,) = scheduler._brackets  # type: ignore[attr-defined]
    rungs = {milestone: sorted(figures.values()) for milestone, figures in bracket._rungs}
    assert rungs[200] == [0.3, 0.6, 0.9]
    assert rungs[600] == []


@pytest.mark.parametrize("seed", range(40))
def test_what_is_explored_lies_near_and_in_the_range(seed: int) -> None:
    searches = parse(
        [
            "algorithm.lr=loguniform(1e-4, 1e-2)",
            "algorithm.gamma=quniform(0.9, 1, 0.05)",
            "algorithm.epochs=randint(1, 9)",
            "algorithm.clip=choice(0.1, 0.2, 0.3)",
        ],
        KNOWN,
    )
    rng = np.random.default_rng(seed)
    lr, gamma, epochs, clip = (
        population.explore(search, value, rng)
        for search, value in zip(searches, (9e-3, 0.95, 2, 0.1), strict=True)
    )
    assert 1e-4 <= lr <= 1e-2
    assert round(gamma / 0.05, 6).is_integer()
    assert 0.9 <= gamma <= 1
    assert type(epochs) is int
    assert 1 <= epochs <= 8
    assert clip in (0.1, 0.2, 0.3)


def test_the_worst_inherit_from_the_best_what_is_written_down(tmp_path: Path) -> None:
    sweep = _population(tmp_path, trials=5)
    for run, figure in zip(sweep.runs(), (3.0, 9.0, 5.0, 1.0, 4.0), strict=True):
        _tell(run, figure, status="done")
        run.update(progress=200)
        run.checkpoints.write(200, lambda folder, f=figure: (folder / "w").write_text(str(f)))
    population.evolve(sweep, 1)
    heir, best = Run(sweep.path / "trial-0004"), Run(sweep.path / "trial-0002")
    assert list(sweep.record["bequests"]["heirs"]) == ["trial-0004"]
    assert (heir.checkpoints.pick() / "w").read_text() == "9.0"
    assert heir.metrics() == best.metrics()
    assert (heir.status, heir.progress) == ("interrupted", 200)
    old, new = sweep.values(best)["algorithm.lr"], sweep.values(heir)["algorithm.lr"]
    assert new != old
    (told,) = heir.record["inherited"]
    assert told == {
        "generation": 1,
        "progress": 200,
        "parent": "trial-0002",
        "values": {"algorithm.lr": new},
    }
    before = heir.path.joinpath("run.json").read_text()
    population.evolve(Sweep(sweep.path), 1)  # as after a kill
    assert heir.path.joinpath("run.json").read_text() == before


def _population(folder: Path, trials: int) -> Sweep:
    values = {"run.dir": folder, "run.name": "sweep", "steps": 4096, "run.sinks": ["jsonl"]}
    values |= {"algorithm.horizon": 64, "run.eval_n": 2, "model.sizes": [8]}
    experiment = resolve("a2c", task="CartPole-v1", values=values)
    search = "algorithm.lr=loguniform(1e-4, 1e-2)"
    return Sweep.create(experiment, [search], trials=trials, scheduler="pbt")


@pytest.mark.slow
def test_a_population_learns_the_same_whether_or_not_it_is_stopped(
    tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = (_population(tmp_path / name, trials=3) for name in ("whole", "broken"))
    execute(whole, jobs=2)
    assert {run.status for run in whole.runs()} == {"done"}
    assert all(run.progress >= 4096 for run in whole.runs())
    assert sum(len(run.record.get("inherited", [])) for run in whole.runs()) == 9
    evolve = population.evolve

    def die(sweep: Sweep, generation: int) -> None:
        evolve(sweep, generation)
        if generation == 4:
            raise RuntimeError("the driver dies")

    monkeypatch.setattr(population, "evolve", die)
    with pytest.raises(RuntimeError, match="the driver dies"):
        execute(broken, jobs=2)
    monkeypatch.setattr(population, "evolve", evolve)
    execute(Sweep(broken.path), jobs=1)
    for one, other in zip(whole.runs(), broken.runs(), strict=True):
        assert one.record["weights_sha256"] == other.record["weights_sha256"]
        assert one.record.get("inherited") == other.record.get("inherited")


@pytest.mark.parametrize(
    ("algorithm", "search", "sentence"),
    [
        ("ppo", "model.sizes=choice(8, 16)", "model.sizes is not one that may change while ppo"),
        ("ppo", "algorithm.horizon=randint(8, 99)", "those are lr, gamma, lam, clip"),
        ("qlearning", "algorithm.lr=uniform(0, 1)", "qlearning has no options that may change"),
        ("ppo", "algorithm.lr=grid(0.1, 0.2)", "begins with random draws, so it takes no grid one"),
    ],
)
def test_a_population_of_what_cannot_change_is_refused(
    algorithm: str, search: str, sentence: str, tmp_path: Path
) -> None:
    experiment = resolve(algorithm, values={"run.dir": tmp_path})
    with pytest.raises(ConfigError, match=sentence):
        Sweep.create(experiment, [search], scheduler="pbt")


def test_the_page_tells_what_may_change() -> None:
    page = (Path(__file__).parent.parent / "docs" / "sweeps.md").read_text()
    plugins = Plugins()
    for offer in plugins.offers:
        if offer.component.kind == "algorithm":
            may = getattr(plugins.load(offer), "adjustable", ())
            row = rf"\|.*`{offer.component.name}`.* \| {', '.join(may)} \|"
            assert bool(re.search(row, page)) == bool(may), offer.component.name


def test_a_trial_equals_the_same_run_alone(tmp_path: Path, cluster: None) -> None:
    sweep = make(tmp_path, "algorithm.lr=grid(0.25, 0.5)", "seed=grid(1)")
    execute(sweep, jobs=2)
    for run in sweep.runs():
        assert run.status == "done"
        alone = train(
            "qlearning",
            task="FrozenLake-v1",
            steps=2000,
            run_dir=tmp_path / "alone",
            options=sweep.values(run),
        )
        assert run.record["weights_sha256"] == alone.record["weights_sha256"]
        told = [{k: v for k, v in row.items() if k != "time"} for row in run.metrics()]
        assert told == [{k: v for k, v in row.items() if k != "time"} for row in alone.metrics()]
    table = sweep.table()
    assert table[0] == ("trial", "status", "progress", "eval/return", "algorithm.lr", "seed")
    assert float(table[1][3]) >= float(table[2][3])
    assert Sweep(sweep.path).record["status"] == "done"


def test_asha_stops_what_does_badly(tmp_path: Path, cluster: None) -> None:
    lr = "algorithm.lr=grid(0.5, 1e-9)"  # the second learns nothing
    sweep = make(tmp_path, lr, steps=4000, scheduler="asha")
    execute(sweep, jobs=1)
    good, bad = sweep.runs()
    assert (good.record["stopped_by"], bad.record["stopped_by"]) == ("done", "scheduler")
    assert good.progress >= 4000 > bad.progress
    assert sweep.table()[2][1] == "stopped"
    assert int(bad.checkpoints.pick().name) == bad.progress


def test_a_metric_that_no_trial_reports_ends_the_sweep(tmp_path: Path, cluster: None) -> None:
    sweep = make(tmp_path, "seed=grid(1, 2, 3)", metric="eval/retrun")
    with pytest.raises(ConfigError, match="no trial reports 'eval/retrun'; they report: eval/"):
        execute(sweep, jobs=1)
    assert sweep.runs()[2].status == "waiting"


def test_more_jobs_than_there_are_cpus_are_refused(tmp_path: Path, cluster: None) -> None:
    sweep = make(tmp_path, "seed=grid(1, 2)")
    with pytest.raises(ConfigError, match="--jobs 99 takes 99 CPUs; the cluster has 4"):
        execute(sweep, jobs=99)


def test_a_trial_that_fails_leaves_the_others_alone(tmp_path: Path, cluster: None) -> None:
    sweep = make(tmp_path, "algorithm.lr=grid(0.5, -1)")
    execute(sweep, jobs=1)
    good, bad = sweep.runs()
    assert (good.status, bad.status) == ("done", "failed")
    assert "algorithm.lr" in bad.record["error"]


@pytest.mark.slow
def test_a_trial_whose_process_is_killed_goes_on(tmp_path: Path, cluster: None) -> None:
    sweep = make(tmp_path, "seed=grid(5)", steps=20_000)
    (run,) = sweep.runs()

    def kill() -> None:
        _wait(lambda: len(list(run.path.glob("checkpoints/*/manifest.json"))) > 1)
        os.kill(Run(run.path).record["sessions"][0]["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    execute(sweep, jobs=1)
    killer.join()
    run = Run(run.path)
    assert run.status == "done"
    assert [session["progress"] > 0 for session in run.record["sessions"]] == [False, True]


def test_a_sweep_whose_trials_all_fail_says_why(tmp_path: Path, cluster: None) -> None:
    sweep = make(tmp_path, "algorithm.lr=grid(-1, -2)")
    with pytest.raises(RunError, match=r"no trial has come to its end; the first: .*algorithm\.lr"):
        execute(sweep, jobs=2)


@pytest.mark.slow
def test_a_sweep_goes_on_after_its_driver_was_killed(
    tmp_path: Path, cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    address = ray.get_runtime_context().gcs_address
    words = ["qlearning", "--task", "FrozenLake-v1", "--search", "seed=grid(1,2,3)", "--jobs", "1"]
    words += ["--steps", "20000", "--run.name", "sweep", "--run.checkpoint-every", "500"]
    words += ["--run.eval-every", "0", "--address", address]
    command = [sys.executable, "-m", "corelab", "sweep", *words]
    folder = tmp_path / "runs" / "sweep"
    driver = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        _wait(lambda: len(list(folder.glob("trial-0002/checkpoints/*/manifest.json"))) > 1)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    first, second, third = Sweep(folder).runs()
    assert (first.status, third.status) == ("done", "waiting")
    assert second.record["status"] == "running"
    before = first.record
    assert cli.main(["resume", str(folder), "--jobs", "1"]) == 0
    assert "trial-0001  done" in capsys.readouterr().out
    assert Run(first.path).record == before
    alone = train(
        "qlearning",
        task="FrozenLake-v1",
        steps=20_000,
        run_dir=tmp_path / "alone",
        options={"seed": 2, "run.eval_every": 0},
    )
    second = Run(second.path)
    assert second.record["sessions"][1]["progress"] > 0
    assert second.record["weights_sha256"] == alone.record["weights_sha256"]
    assert Run(third.path).status == "done"


def _wait(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not there():
        assert time.monotonic() < end
        time.sleep(0.02)
