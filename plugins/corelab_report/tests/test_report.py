from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from corelab_report import curves
from corelab_report.curves import Curve, decimate, together
from corelab_report.repeating import command
from scipy.stats import trim_mean

from corelab.experiments import resolve


class Texts(HTMLParser):
    """The cells of the tables of a page, row by row, and its data."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.data, self._in = [], "", ""
        self.feed(Path(page).read_text())
        self.data = json.loads(self.data)

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in = "cell"
        elif ("id", "data") in attributes:
            self._in = "data"

    def handle_endtag(self, tag):
        if tag in ("td", "th", "script"):
            self._in = ""

    def handle_data(self, text):
        if self._in == "cell":
            self.rows[-1][-1] += text
        elif self._in == "data":
            self.data += text


def chart(page, title):
    (found,) = [one for one in page.data["charts"] if one["title"] == title]
    return found


def test_a_curve_over_seeds_is_their_interquartile_mean_within_its_interval(corelab, make_seeds):
    scores = [1.0, 2.0, 3.0, 4.0, 50.0]
    make_seeds("a", scores)
    assert corelab("report", "a", "-o", "report.html") == "report.html\n"
    (series,) = chart(Texts("report.html"), "eval/return")["series"]
    assert series["x"] == [250, 500, 1000]
    assert series["y"] == [0.75, 1.5, trim_mean(scores, 0.25)]
    low, y, high = (np.array(series[end]) for end in ("low", "y", "high"))
    assert (low < y).all()
    assert (y < high).all()
    assert [run["y"][-1] for run in series["runs"]] == scores


def test_the_tables_have_the_figures_of_the_runs(corelab, make_seeds):
    make_seeds("a", [1, 2, 3])
    make_seeds("b", [4, 5, 6], options={"algorithm.lr": 0.5})
    corelab("report", "a", "b", "-o", "report.html")
    rows = {row[0]: row[1:] for row in Texts("report.html").rows}
    assert rows["a"] == ["CartPole-v1", "3", "2", "1 to 3", "-", "all differ"]
    assert rows["b"][3:5] == ["4 to 6", "1.00, 1.00 to 1.00"]
    assert rows["algorithm.lr"][1] == "0.5"
    assert rows["a/seed-0"][:4] == ["done", "1,000 of 1,000 env steps", "2.0", "500"]


def test_profiles_are_shares_of_runs(corelab, make_seeds):
    make_seeds("a", [1, 2, 3, 4])
    corelab("report", "a", "-o", "report.html")
    (series,) = chart(Texts("report.html"), "share of runs with eval/return > τ, CartPole-v1")[
        "series"
    ]
    shares = dict(zip(series["x"], series["y"], strict=True))
    assert {y for x, y in shares.items() if x < 1} == {1}
    assert {y for x, y in shares.items() if 2.1 < x < 2.9} == {0.5}
    assert {y for x, y in shares.items() if x > 4} == {0}


def test_decimation_keeps_the_extremes_of_every_column():
    rng = np.random.default_rng(0)
    x, y = np.arange(10_000.0), rng.normal(size=10_000)
    kept = decimate(Curve(x, y), (0, 9_999), 50)
    assert len(kept.x) <= 2 * 50 + 2
    assert (np.diff(kept.x) > 0).all()
    assert (kept.x[0], kept.x[-1]) == (0, 9_999)
    columns = [(kept.x >= 9_999 * c / 50) & (kept.x < 9_999 * (c + 1) / 50) for c in range(50)]
    whole = [(x >= 9_999 * c / 50) & (x < 9_999 * (c + 1) / 50) for c in range(50)]
    for of_kept, of_all in zip(columns, whole, strict=True):
        assert (kept.y[of_kept].min(), kept.y[of_kept].max()) == (y[of_all].min(), y[of_all].max())


def test_a_short_curve_stays_as_it_is():
    curve = Curve(np.arange(5.0), np.arange(5.0))
    assert decimate(curve, (0, 4), 50) is curve


def test_runs_that_log_at_other_times_are_brought_together_on_straight_lines():
    one, other = (
        Curve(np.array([0.0, 10]), np.array([0.0, 10])),
        Curve(np.array([0.0, 5, 8]), np.array([4.0, 4, 4])),
    )
    x, y, low, high = together([one, other])
    assert x.tolist() == [0, 5, 8]
    assert y.tolist() == [2, 4.5, 6]
    assert (low.tolist(), high.tolist()) == ([0, 4, 4], [4, 5, 8])


def test_the_pace_is_that_of_training_and_leaves_gaps_between_sessions_out(make_run):
    rows = [
        {"progress": 100, "time": 1.0, "train/loss": 1.0},
        {"progress": 200, "time": 2.0, "train/loss": 1.0},
        {"progress": 200, "time": 4.0, "eval/return": 1.0},
        {"progress": 300, "time": 6.0, "train/loss": 1.0},
        {"progress": 400, "time": 900.0, "train/loss": 1.0},
        {"progress": 500, "time": 900.5, "train/loss": 1.0},
    ]
    run = make_run("a", rows)
    run.record["sessions"] = [{"began": 0.0}, {"began": 899.0}]
    pace = curves.of_run(run)[curves.PACE]
    assert (pace.x.tolist(), pace.y.tolist()) == ([200, 300, 500], [100, 25, 200])


def test_pictures_are_embedded_by_progress_and_weights_by_checkpoint(
    corelab, make_run, picture, save_weights
):
    run = make_run("a", [{"progress": 500, "time": 1.0, "train/loss": 1.0}])
    for progress in range(0, 2000, 100):
        picture(run.path / "samples" / f"{progress:09d}-eval-samples.png", progress // 10)
    picture(run.path / "samples" / "interpolation.png", 7)
    (run.path / "samples" / "proof.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (run.path / "samples" / "notes.txt").write_text("no picture")
    for progress, scale in ((250, 1.0), (500, 3.0)):
        tensors = {"net.weight": scale * torch.linspace(-1, 1, 80), "net.bias": torch.ones(2)}
        save_weights(run, progress, tensors)
    corelab("report", "a", "-o", "report.html")
    data = Texts("report.html").data
    shown = {gallery["name"]: gallery["frames"] for gallery in data["galleries"]}
    assert shown.keys() == {"eval-samples", "interpolation", "proof"}
    at = [frame["at"] for frame in shown["eval-samples"]]
    assert (len(at), at[0], at[-1]) == (12, "0 env steps", "1,900 env steps")
    assert shown["proof"][0]["src"].startswith("data:image/svg+xml;base64,")
    assert "8 pictures are left out" in Path("report.html").read_text()
    early, late = data["weights"][0]["checkpoints"]
    (tensor,) = late["tensors"]  # two numbers make no histogram
    assert (tensor["name"], tensor["shape"], tensor["span"]) == ("net.weight", [80], [-3, 3])
    assert tensor["counts"] == [2] * 40
    assert sum(early["tensors"][0]["counts"][:13]) == 0


def look(progress, *norms):
    layers = [[f"layer {i}", norm, norm / 1000] for i, norm in enumerate(norms, 1)]
    return json.dumps({"progress": progress, "layers": layers}) + "\n"


def test_gradients_of_what_happened_again_are_those_of_the_second_time(corelab, make_run):
    run = make_run("a", [{"progress": 500, "time": 1.0, "train/loss": 1.0}])
    first = [look(100, 1, 2), look(200, 3, 4), look(300, 5, 6)]
    again = [look(250, 7, 8), look(400, *range(70))]
    (run.path / "gradients.jsonl").write_text("".join([*first, *again]) + '{"progress": 5')
    corelab("report", "a", "-o", "report.html")
    (of_run,) = Texts("report.html").data["gradients"]
    assert [one["progress"] for one in of_run["looks"]] == [100, 200, 250, 400]
    assert of_run["looks"][2]["layers"] == [["layer 1", 7, 0.007], ["layer 2", 8, 0.008]]
    assert [name for name, _, _ in of_run["looks"][3]["layers"]] == [
        f"layer {i}" for i in range(1, 71, 3)
    ]


@pytest.mark.parametrize(
    ("algorithm", "task", "words"),
    [
        ("ppo", "CartPole-v1", "--algorithm.lr 1e-3 --model.sizes 8 8 --task.video"),
        ("ppo", "CartPole-v1", "--run.target 'eval/return >= 475' --algorithm.no-anneal-lr"),
        ("vae", "digits", "--model conv --run.eval-n None --update.clip 1"),
        ("qlearning", "FrozenLake-v1", "--run.sinks jsonl progress --seed 7"),
    ],
)
def test_the_command_gives_the_same_options_again(place, algorithm, task, words):
    import shlex

    from corelab import Run

    typed = shlex.split(words)
    model = [typed.pop(i) for i in (0, 0)][1] if typed[0] == "--model" else None
    asked = resolve(algorithm, task=task, model=model, argv=typed)
    run = Run.create(asked)
    corelab, train, name, *again = shlex.split(command(run))
    assert (corelab, train, name) == ("corelab", "train", algorithm)
    parts = {}
    for flag in ("--task", "--model"):
        if flag in again:
            i = again.index(flag)
            parts[flag[2:]] = again.pop(i + 1)
            again.remove(flag)
    assert resolve(name, **parts, argv=again).config() == asked.config()


def test_runs_that_have_logged_nothing_are_left_out(corelab, make_seeds, make_run, capsys):
    make_seeds("a", [1, 2])
    make_run("a/seed-2", seed=2, status="failed")
    corelab("report", "a", "-o", "report.html")
    assert len(chart(Texts("report.html"), "train/loss")["series"][0]["runs"]) == 2


def test_runs_without_a_metric_in_common_have_a_report_without_scores(corelab, make_run):
    make_run("a", [{"progress": 1, "time": 1.0, "eval/return": 1.0}])
    make_run("v", [{"progress": 1, "time": 1.0, "eval/loss": 1.0}], algorithm="vae", task="digits")
    corelab("report", "a", "v", "-o", "report.html")
    text = Path("report.html").read_text()
    assert "Scores are not compared: --metric: say which one" in text
    assert [one["title"] for one in Texts("report.html").data["charts"]] == [
        "eval/return",
        "eval/loss",
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("a",), "corelab report: the following arguments are required: -o/--output"),
        (("a", "-o", "report.png"), "report.png: a report is a page; name it report.html"),
        (("a", "-o", "no/report.html"), "no/report.html: cannot be written (No such file"),
        (("w", "-o", "r.html"), "corelab report: none of the runs has logged anything"),
        (("x", "-o", "r.html"), "x: is not a run directory (it has no run.json)"),
        (("a", "-o", "r.html", "--metric", "eval/x", "--mode", "max"), "a: no run has a metric"),
    ],
)
def test_bad_input_is_one_sentence(corelab, make_seeds, make_run, words, sentence):
    make_seeds("a", [1])
    make_run("w", status="created")
    said = corelab("report", *words, code=2).splitlines()
    assert said[-1].startswith(f"corelab: {sentence}")
    assert len(said) == 1 + ("left out" in said[0])


def test_the_page_works_in_a_browser(corelab, make_seeds, make_run, picture, save_weights, browser):
    make_seeds("a<b>&", [1, 2, 3])
    make_seeds("b", [4, 5, 6])
    rows = [
        {"progress": 500, "time": 0.5, "train/spike": 1e6},
        {"progress": 1000, "time": 1.0, "eval/return": 1.5, "train/spike": 10.0},
    ]
    run = make_run("c", rows)
    for progress in (0, 500, 1000):
        picture(run.path / "samples" / f"{progress:09d}-eval-samples.png", progress // 5)
    for progress, scale in ((250, 1.0), (500, 3.0)):
        save_weights(run, progress, {"w": scale * torch.linspace(-1, 1, 80)})
    (run.path / "gradients.jsonl").write_text(look(250, 0.01, 1.0) + look(500, 0.1, 0.1))
    corelab("report", "a<b>&", "b", "c", "-o", "report.html", "--title", "</script><b>x")

    browser.open(Path("report.html"))
    assert browser.ask("document.title") == "</script><b>x"
    browser.until("document.querySelectorAll('.chart path.series').length >= 3")

    # what is drawn is what was measured, as text, too
    curve = "document.querySelector('.chart[data-chart=\"0\"]')"
    browser.ask(f"{curve}.querySelector('details').open = true")
    browser.until(f"{curve}.querySelector('table')")
    assert browser.ask(f"{curve}.querySelector('figcaption').textContent") == "eval/return"
    cells = browser.ask(f"[...{curve}.querySelectorAll('tbody tr')].map(r => r.innerText)")
    assert [re.split(r"\t", row)[0] for row in cells] == ["a<b>&", "b", "c"]
    for series, cell in zip(
        chart(Texts("report.html"), "eval/return")["series"], cells, strict=True
    ):
        figures = [series[name][-1] for name in ("y", "low", "high") if name in series]
        last = re.findall(r"[\d.]+", cell.split("\t")[-1].partition(" at ")[0])
        assert [float(text) for text in last] == pytest.approx(figures, rel=1e-4)
    assert cells[2].endswith("\t1.5 at 1,000")

    # the legend, by keyboard
    lines = f"{curve}.querySelectorAll('path.series').length"
    browser.ask("document.querySelectorAll('#legend button')[1].focus()")
    before = browser.ask(lines)
    browser.press("Enter")
    assert browser.ask("document.activeElement.getAttribute('aria-pressed')") == "false"
    assert browser.ask(lines) == before - 1
    browser.press(" ")
    assert browser.ask(lines) == before
    browser.ask("document.querySelector('#legend input').click()")
    assert browser.ask(f"{curve}.querySelectorAll('path').length") == before + 2 + 6

    # a chart, by keyboard
    browser.ask(f"{curve}.querySelector('svg').focus()")
    browser.press("ArrowLeft")
    readout = browser.ask(f"{curve}.querySelector('.readout').textContent")
    ends = [cell.split("\t")[-1] for cell in cells]
    assert readout == f"a<b>& {ends[0]}; b {ends[1]}; c {ends[2]}"

    # the slider, by keyboard
    source = "document.querySelector('.gallery img').src"
    last = browser.ask(source)
    browser.ask("document.querySelector('.gallery input').focus()")
    browser.press("ArrowLeft")
    assert (
        browser.ask("document.querySelector('.gallery output').textContent") == "c, 500 env steps"
    )
    assert browser.ask(source) != last
    level = "(() => { const i = document.querySelector('.gallery img');"
    level += "const c = document.createElement('canvas').getContext('2d'); c.drawImage(i, 0, 0);"
    level += "return c.getImageData(0, 0, 1, 1).data[0]; })()"
    browser.until(f"document.querySelector('.gallery img').complete && {level} === 100")
    browser.ask("document.querySelector('#histograms input').focus()")
    browser.press("ArrowLeft")
    assert "checkpoint at 250" in browser.ask("document.querySelector('#histograms').innerText")
    browser.ask("document.querySelector('#norms input').focus()")
    browser.press("ArrowLeft")
    told = browser.ask("document.querySelector('#norms').innerText")
    assert "updates at 250" in told
    assert re.findall(r"layer (\d)\s+([\d.]+)\s+([\d.e-]+)", told) == [
        ("1", "0.01", "1e-5"),
        ("2", "1", "0.001"),
    ]
    width = "document.querySelectorAll('.norm')[{}].getBoundingClientRect().width"
    assert browser.ask(f"{width.format(0)} / {width.format(1)}") == pytest.approx(
        0.3 / 2.3, abs=0.05
    )

    # one great value does not press the others flat
    spike = (
        "[...document.querySelectorAll('.chart')].find(c => c.innerText.startsWith('train/spike'))"
    )
    browser.ask(f"{spike}.scrollIntoView()")
    browser.until(f"{spike}.querySelector('path.series')")
    marks = browser.ask(f"[...{spike}.querySelectorAll('text')].map(text => text.textContent)")
    assert marks[:3] == ["10", "1,000", "100k"]
    assert marks[-1] == "logarithmic"

    # on a phone, in the dark
    browser.send(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    browser.open(Path("report.html"), width=360, height=740)
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert browser.ask("document.documentElement.scrollWidth") <= 360
    assert browser.complaints() == []


@pytest.mark.slow
def test_a_page_of_a_hundred_runs_and_a_million_values_works(corelab, make_run, browser):
    rng = np.random.default_rng(0)
    names = [f"train/metric_{i}" for i in range(10)]
    for g in range(20):
        for seed in range(5):
            y = rng.normal(size=(1000, 10)).cumsum(0).tolist()
            rows = [
                {"progress": i + 1, "time": float(i), **dict(zip(names, row, strict=True))}
                for i, row in enumerate(y)
            ]
            rows[-1]["eval/return"] = float(g)
            make_run(f"{g}/seed-{seed}", rows, seed, options={"algorithm.lr": 0.1 / (g + 1)})
    corelab("report", *range(20), "-o", "report.html")
    assert Path("report.html").stat().st_size < 10 * 2**20
    browser.open(Path("report.html"))
    browser.until("document.querySelectorAll('.chart path.series').length >= 20")
    browser.until("document.documentElement.dataset.shown")
    assert browser.complaints() == []
