"""Pictures and videos as files: samples/000050000-eval-samples.png, videos/….gif.

The number is the progress, so that the files of a folder sort in the order they were made; a run
that goes on writes the same names again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from corelab import hookimpl

if TYPE_CHECKING:
    from corelab import Media, Run

corelab_api = (1, 0)


@hookimpl
def corelab_run_logged(run: Run, progress: int, media: Mapping[str, Media]) -> None:
    """Write each medium to a file of its own."""
    from corelab_media import Images

    for name, medium in media.items():
        folder, suffix = ("samples", "png") if isinstance(medium, Images) else ("videos", "gif")
        path = run.path / folder / f"{progress:09d}-{name.replace('/', '-')}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        medium.save(path)
