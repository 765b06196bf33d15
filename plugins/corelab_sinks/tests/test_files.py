from __future__ import annotations

import numpy as np
from corelab_media import Images, Video
from PIL import Image

SINK = "files"
RNG = np.random.default_rng(0)


def test_media_become_files_named_by_progress(sink, run):
    pictures = Images(RNG.integers(0, 256, (9, 8, 8, 1), np.uint8))
    episode = Video(RNG.integers(0, 256, (5, 16, 24, 3), np.uint8), fps=20)
    sink.start(run)
    sink.log(run, 50_000, {}, {"eval/samples": pictures, "eval/episode": episode})
    sink.log(run, 1_000_000, {}, {"eval/samples": pictures})
    sink.end(run)
    assert sorted(str(p.relative_to(run.path)) for p in run.path.rglob("*.*")) == [
        "samples/000050000-eval-samples.png",
        "samples/001000000-eval-samples.png",
        "videos/000050000-eval-episode.gif",
    ]
    with Image.open(run.path / "samples/000050000-eval-samples.png") as png:
        scale = png.width // pictures.grid().shape[1]
        assert np.array_equal(np.asarray(png)[::scale, ::scale], pictures.grid())
    with Image.open(run.path / "videos/000050000-eval-episode.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (5, (24, 16), 50)


def test_resumed_run_writes_the_same_file_again(sink, new_run):
    black, white = (Images(np.full((1, 8, 8, 1), v, np.uint8)) for v in (0, 255))
    sink.log(new_run(), 10, {}, {"eval/samples": black})
    sink.log(new_run(resumed_at=5), 10, {}, {"eval/samples": white})
    (path,) = (new_run().path / "samples").iterdir()
    with Image.open(path) as png:
        assert np.asarray(png).min() == 255


def test_metrics_alone_write_nothing(sink, run):
    sink.log(run, 10, {"train/loss": 1.0})
    assert list(run.path.iterdir()) == []
