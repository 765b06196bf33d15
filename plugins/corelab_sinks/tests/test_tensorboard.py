from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from corelab_media import Images, Video
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.list_session_groups import Handler

SINK = "tensorboard"
RNG = np.random.default_rng(0)
STATUSES = list(api_pb2.Status.values())


def read(run):
    return EventAccumulator(str(run.path), size_guidance={"images": 0, "scalars": 0}).Reload()


def scalars(run, tag):
    return [(e.step, e.value) for e in read(run).Scalars(tag)]


def sessions(folder):
    """The lines of the HPARAMS tab, by run, as TensorBoard's own backend makes them."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(folder))
    context = Context(SimpleNamespace(data_provider=provider))
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=STATUSES, slice_size=100, start_index=0
    )
    found = Handler(RequestContext(), context, "", request).run().session_groups
    return {group.sessions[0].name: (group.hparams, group.sessions[0]) for group in found}


def test_scalars_come_back(sink, run):
    sink.start(run)
    for progress in range(100, 2100, 100):
        sink.log(run, progress, {"train/loss": 1 / progress, "train/return": progress / 4})
    sink.log(run, 2**40, {"eval/return": -1.5})
    sink.end(run)
    expected = range(100, 2100, 100)
    assert scalars(run, "train/return") == [(p, p / 4) for p in expected]
    assert scalars(run, "train/loss") == [(p, float(np.float32(1 / p))) for p in expected]
    assert scalars(run, "eval/return") == [(2**40, -1.5)]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_a_lossless_grid(sink, run, channels):
    pictures = Images(RNG.integers(0, 256, (7, 6, 9, channels), np.uint8))
    sink.start(run)
    sink.log(run, 10, {}, {"eval/samples": pictures})
    sink.end(run)
    (event,) = read(run).Images("eval/samples")
    png = Image.open(io.BytesIO(event.encoded_image_string))
    assert (event.step, png.format) == (10, "PNG")
    assert (event.height, event.width) == pictures.grid().shape[:2]
    assert np.array_equal(np.asarray(png), pictures.grid())


def test_video_is_an_animated_gif(sink, run):
    shades = np.array([0, 80, 160, 240], np.uint8)
    video = Video(np.broadcast_to(shades[:, None, None, None], (4, 10, 12, 3)).copy(), fps=10)
    sink.start(run)
    sink.log(run, 10, {"eval/return": 1.0}, {"eval/episode": video})
    sink.end(run)
    (event,) = read(run).Images("eval/episode")
    gif = Image.open(io.BytesIO(event.encoded_image_string))
    assert (gif.format, gif.n_frames, gif.size) == ("GIF", 4, (12, 10))
    assert (event.width, event.height) == (12, 10)
    assert scalars(run, "eval/return") == [(10, 1.0)]


def test_rows_are_on_disk_before_the_run_ends(sink, run):
    sink.start(run)
    sink.log(run, 10, {"train/loss": 0.5})
    assert scalars(run, "train/loss") == [(10, 0.5)]
    sink.end(run)


def test_hparams_tab_compares_runs(sink, new_run):
    slow, fast = new_run("slow"), new_run("fast")
    fast.config["algorithm"] |= {"lr": 1e-2, "clip": 0.5, "anneal": False, "bound": float("inf")}
    for run, score in ((slow, 100.0), (fast, 500.0)):
        sink.start(run)
        sink.log(run, 10, {"eval/return": score / 2})
        sink.log(run, 20, {"eval/return": score})
        sink.end(run)
    found = sessions(slow.path.parent)
    assert set(found) == {"slow", "fast"}
    (hparams, session), (other, _) = found["slow"], found["fast"]
    assert {k: getattr(v, v.WhichOneof("kind")) for k, v in hparams.items()} == {
        "algorithm.name": "ppo",
        "algorithm.lr": 3e-4,
        "algorithm.anneal": True,
        "algorithm.clip": "null",
        "task.name": "CartPole-v1",
        "task.id": "CartPole-v1",
        "model.name": "mlp",
        "model.hidden": "[64, 64]",
        "seed": 7.0,
        "steps": 60_000.0,
    }
    assert other["algorithm.lr"].number_value == 1e-2
    assert other["algorithm.anneal"].bool_value is False
    assert other["algorithm.bound"].string_value == "Infinity"
    assert session.status == api_pb2.STATUS_SUCCESS
    finals = {name: s.metric_values for name, (_, s) in found.items()}
    assert [(m.name.tag, m.value, m.training_step) for m in finals["slow"]] == [
        ("eval/return", 100.0, 20)
    ]
    assert [m.value for m in finals["fast"]] == [500.0]


def test_resumed_run_takes_back_what_happens_again(sink, new_run):
    run = new_run()
    pictures = Images(RNG.integers(0, 256, (1, 6, 6, 3), np.uint8))
    sink.start(run)
    for progress in (10, 20, 30, 40):
        sink.log(run, progress, {"train/loss": 1.0, "old/only": 1.0}, {"eval/samples": pictures})
    sink.end(run, KeyboardInterrupt())

    again = new_run(resumed_at=20)
    sink.start(again)
    assert scalars(run, "train/loss") == [(10, 1.0), (20, 1.0)]  # before anything new was logged
    sink.log(again, 30, {"train/loss": 2.0}, {"eval/samples": pictures})
    sink.end(again)
    assert scalars(run, "train/loss") == [(10, 1.0), (20, 1.0), (30, 2.0)]
    assert scalars(run, "old/only") == [(10, 1.0), (20, 1.0)]
    assert [e.step for e in read(run).Images("eval/samples")] == [10, 20, 30]
    assert [s.status for _, s in sessions(run.path.parent).values()] == [api_pb2.STATUS_SUCCESS]


def test_run_killed_within_a_record_can_be_resumed(sink, new_run):
    run = new_run()
    sink.start(run)
    sink.log(run, 10, {"train/loss": 1.0})
    sink.log(run, 20, {"train/loss": 1.0})
    sink.end(run, KeyboardInterrupt())
    (file,) = run.path.iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    again = new_run(resumed_at=10)
    sink.start(again)
    sink.log(again, 20, {"train/loss": 2.0})
    sink.end(again)
    assert scalars(run, "train/loss") == [(10, 1.0), (20, 2.0)]


def test_many_sessions_in_one_second_are_read_in_order(sink, new_run, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    for session in range(12):
        run = new_run(resumed_at=0)
        sink.start(run)
        sink.log(run, 10, {"train/loss": float(session)})
        sink.end(run, KeyboardInterrupt())
    assert scalars(run, "train/loss") == [(10, 11.0)]


def test_failed_run_is_not_a_success(sink, run):
    sink.start(run)
    sink.log(run, 10, {"train/loss": 1.0})
    sink.end(run, ValueError("no"))
    ((_, session),) = sessions(run.path.parent).values()
    assert session.status == api_pb2.STATUS_UNKNOWN
    assert scalars(run, "train/loss") == [(10, 1.0)]


def test_two_runs_do_not_mix(sink, new_run):
    one, two = new_run("one"), new_run("two")
    sink.start(one)
    sink.start(two)
    sink.log(one, 1, {"train/loss": 1.0})
    sink.log(two, 1, {"train/loss": 2.0})
    sink.end(one)
    sink.log(two, 2, {"train/loss": 3.0})
    sink.end(two)
    assert scalars(one, "train/loss") == [(1, 1.0)]
    assert scalars(two, "train/loss") == [(1, 2.0), (2, 3.0)]
