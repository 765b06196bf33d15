"""Bad input is one sentence on standard error and exit code 2, and nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import corelab
from corelab.cli import main
from corelab.runs import Run

Command = Callable[..., "subprocess.CompletedProcess[str]"]

SENTENCES = {
    "train pppo": "no algorithm 'pppo': did you mean 'ppo'?",
    "train ppo --task CartPol-v1": "CartPole-v1",
    "train vae --task digit": "no task 'digit': did you mean 'digits'?",
    "train vae --model con": "no model 'con': did you mean 'conv'?",
    "train ppo --algorithm.gama 1": "no option --algorithm.gama; did you mean '--algorithm.gamma'?",
    "train ppo --algorithm.gamma high": "--algorithm.gamma takes float, got 'high'",
    "train ppo --steps many": "--steps takes int, got 'many'",
    "train ppo --task digits": "needs one of the kind 'environment': for example CartPole-v1, "
    "Acrobot-v1, Pendulum-v1",
    "train vae --task CartPole-v1": "needs one of the kind 'dataset': for example digits, "
    "fashion-mnist, ",
    "train vae --model actor-critic/mlp": "needs one of the kind 'autoencoder': for example ",
    "train vae --task images": "--task.folder",
    "train vae --task images --task.folder nowhere": "nowhere",
    "train vae --task digits --config nowhere.toml": "nowhere.toml: cannot be read",
    "train ppo --device cuda:99": "--device cuda:99: there is no such device here",
    "resume .": "is not a run directory (it has no run.json)",
    "eval nowhere": "nowhere: is not a run directory",
    "sample nowhere -o x.png": "nowhere: is not a run directory",
    "runs nowhere": "nowhere: is not a directory",
    "show algorithm pppo": "did you mean 'ppo'?",
    "trian ppo": "did you mean 'train'?",
    "eval": "the following arguments are required: run",
}


@pytest.mark.parametrize("words", SENTENCES)
def test_it_is_one_sentence_and_exit_code_2(
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    said = capsys.readouterr()
    assert SENTENCES[words] in said.err
    assert said.err.startswith("corelab: ")
    assert said.err.count("\n") == 1, "it is not one line"
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    options = {"run.sinks": ["jsonl"], "run.checkpoint_every": 1_000}
    return corelab.train("vae", task="digits", steps=3_000, run_dir=folder, options=options).path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    copy = tmp_path / "run"
    subprocess.run(["cp", "-r", str(trained), str(copy)], check=True)
    return copy


def edit(run: Path, **facts: object) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | facts))


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("verb", ["resume {}", "eval {}", "sample {} -o x.png"])
def test_a_run_of_a_newer_corelab_is_refused(verb: str, run: Path, corelab: Command) -> None:
    edit(run, format=99, corelab="9.0")
    said = sentence(corelab(*verb.format(run).split()))
    assert "was made by corelab 9.0" in said
    assert "pip install -U corelab-ml" in said


def test_a_run_that_another_process_writes_is_refused(run: Path, corelab: Command) -> None:
    with Run(run).lock():
        assert f"being written by another process (pid {os.getpid()}" in sentence(
            corelab("resume", run)
        )


def test_a_missing_plugin_is_named_with_the_pip_line(run: Path, corelab: Command) -> None:
    plugins = json.loads((run / "run.json").read_text())["plugins"]
    plugins["algorithm"] |= {"distribution": "corelab-nice", "version": "2.1"}
    edit(run, plugins=plugins)
    said = sentence(corelab("resume", run))
    assert "needs the algorithm 'vae' of corelab-nice 2.1" in said
    assert "pip install corelab-nice==2.1" in said


@pytest.mark.parametrize("damage", ["truncate", "tamper", "delete"])
def test_a_damaged_checkpoint_is_named_and_a_whole_one_is_offered(
    damage: str, run: Path, corelab: Command
) -> None:
    newest = Run(run).checkpoints.all()[-1]
    weights = newest / "algorithm" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    if damage == "delete":
        weights.unlink()
    elif damage == "truncate":
        weights.write_bytes(data[: len(data) // 2])
    else:
        data[-1] ^= 1
        weights.write_bytes(data)
    said = sentence(corelab("eval", run))
    assert f"{newest}: the checkpoint is damaged" in said
    other = said.rstrip().split("use one of ")[1].split(", ")[0]
    assert corelab("eval", run, "--checkpoint", other, "-n", 10).returncode == 0


def test_a_run_without_any_whole_checkpoint_cannot_be_resumed(run: Path, corelab: Command) -> None:
    for checkpoint in Run(run).checkpoints.all():
        (checkpoint / "manifest.json").unlink()
    done = corelab("resume", run)
    assert done.returncode == 2
    assert "no checkpoint is whole" in done.stderr.splitlines()[-1]


def test_nan_stops_the_run_with_the_step_and_keeps_the_last_good_checkpoint(
    corelab: Command, tmp_path: Path
) -> None:
    options = ["--run.checkpoint-every", "128", "--run.name", "nan", "--algorithm.lr", "1e30"]
    done = corelab("train", "vae", "--task", "digits", *options)
    said = sentence(done)
    assert "after " in said
    assert "examples" in said
    run = Run(tmp_path / "runs" / "nan")
    assert run.status == "failed"
    kept, passed = run.checkpoints.newest_whole()
    assert passed == []
    assert str(kept and kept.name) in said or "there was no checkpoint yet" in said


def test_an_unwritable_folder_is_named(corelab: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = corelab("train", "vae", "--run.dir", tmp_path / "file" / "runs")
    assert "cannot be made" in sentence(done)
    assert "cannot be made" in sentence(corelab("train", "vae", "--run.dir", "file"))


def test_a_full_disk_ends_the_run_and_leaves_every_earlier_checkpoint(
    tmp_path: Path, warm: dict[str, str]
) -> None:
    """The limit on the size of files stands in for the disk: writing past it fails likewise."""
    train = ["train", "vae", "--task", "digits", "--steps", "3000", "--run.name", "full"]
    words = [*train, "--run.sinks", "jsonl", "--run.checkpoint-every", "1000"]
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from corelab.checkpoints import Checkpoints\n"
        "from corelab.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "write = Checkpoints.write\n"
        "def fill_the_disk(self, progress, fill, best=False):\n"
        "    if len(self.all()) == 2:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n"
        "    return write(self, progress, fill, best)\n"
        "Checkpoints.write = fill_the_disk\n"
        f"sys.exit(main({words!r}))\n"
    )
    done = subprocess.run(
        ["program", code],
        cwd=tmp_path,
        env={**os.environ, **warm},
        capture_output=True,
        text=True,
        check=False,
    )
    run = Run(tmp_path / "runs" / "full")
    assert done.returncode == 2, done.stderr
    assert "the checkpoint cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    checkpoints = run.checkpoints.all()
    assert len(checkpoints) == 2
    assert [run.checkpoints.fault(c) for c in checkpoints] == ["", ""]
    assert f"whole is runs/full/checkpoints/{checkpoints[-1].name}" in done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert run.resume().status == "done"


def test_a_mistake_in_an_algorithm_is_exit_code_1_and_its_traceback_is_in_the_log(
    corelab: Command, stepping: Callable[[str, str], None], tmp_path: Path
) -> None:
    stepping("bad", "return {'x': 1 / 0}")
    done = corelab("train", "bad", "--run.name", "bad")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert done.stderr.count("\n") == 1
    assert 'File "' in (tmp_path / "runs" / "bad" / "log.txt").read_text()
    assert Run(tmp_path / "runs" / "bad").status == "failed"


@pytest.mark.parametrize(
    ("algorithm", "sentence"),
    [
        ("ppo", "became nan after"),
        ("a2c", "became inf after"),
        ("sac --task Pendulum-v1", "the policy's actions are no longer finite after"),
    ],
)
def test_what_diverges_is_one_sentence_without_the_warnings_of_libraries(
    algorithm: str, sentence: str, corelab: Command
) -> None:
    done = corelab("train", *algorithm.split(), "--algorithm.lr", "1e30", "--run.sinks", "jsonl")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Warning" not in done.stderr
