"""TensorBoard: scalars, pictures, videos and hyperparameters in an event file.

Only the `tensorboard` package is used, neither TensorFlow nor torch. Records are written at once
and by the caller's thread, so that TensorBoard sees a row as soon as it exists and a kill of the
process loses none.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corelab import hookimpl

if TYPE_CHECKING:
    from corelab_media import Images, Video

    from corelab import Media, Run

corelab_api = (1, 0)

_event_files: dict[Path, _EventFile] = {}


@hookimpl
def corelab_run_started(run: Run) -> None:
    """Begin an event file that takes back what came after `run.resumed_at`."""
    from tensorboard.compat.proto.event_pb2 import SessionLog
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

    events = _event_files[run.path] = _EventFile(run.path)
    events.write(0, file_version="brain.Event:2")
    # TensorBoard forgets of earlier files whatever is not before the step of a START.
    again = 0 if run.resumed_at is None else run.resumed_at + 1
    events.write(again, session_log=SessionLog(status=SessionLog.START))
    options = {key: run.config[key] for key in ("algorithm", "task", "model", "seed", "steps")}
    begin = SessionStartInfo(start_time_secs=time.time())
    for name, field, option in _flat(options):
        setattr(begin.hparams[name], field, option)
    events.write(0, summary=_hparams(HParamsPluginData(session_start_info=begin)))


@hookimpl
def corelab_run_logged(
    run: Run, progress: int, metrics: Mapping[str, float], media: Mapping[str, Media]
) -> None:
    """Write one event with all of METRICS and MEDIA."""
    from corelab_media import Images, Video
    from tensorboard.compat.proto.summary_pb2 import Summary

    if events := _event_files.get(run.path):
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        values += [
            Summary.Value(tag=name, image=_image(medium))
            for name, medium in media.items()
            if isinstance(medium, Images | Video)
        ]
        events.write(progress, summary=Summary(value=values))


@hookimpl
def corelab_run_ended(run: Run, error: BaseException | None) -> None:
    """Close the event file, marked as a success if it is one.

    TensorBoard believes the first end of a run that it reads, and what ended by an error may go on
    and succeed; so no other end is written.
    """
    from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    if events := _event_files.pop(run.path, None):
        try:
            if error is None:
                end = SessionEndInfo(end_time_secs=time.time(), status=STATUS_SUCCESS)
                events.write(0, summary=_hparams(HParamsPluginData(session_end_info=end)))
        finally:
            events.close()


class _EventFile:
    """A file of events that is whole after every write."""

    def __init__(self, directory: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        # TensorBoard reads a run's files in the order of their names; the last part of the name
        # orders sessions that began in the same second.
        start = "events.out.tfevents."
        part = sum(1 for _ in directory.glob(f"{start}*"))
        path = directory / f"{start}{int(time.time()):010d}.{part:03d}"
        self._records = RecordWriter(path.open("xb"))
        self.close = self._records.close

    def write(self, step: int, **content: Any) -> None:
        """Append an event at STEP."""
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(wall_time=time.time(), step=step, **content)
        self._records.write(event.SerializeToString())
        self._records.flush()


def _image(medium: Images | Video) -> Any:
    """MEDIUM as a `Summary.Image`: a PNG, or an animated GIF, which TensorBoard plays."""
    from corelab_media import Video
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    if isinstance(medium, Video):
        height, width = medium.pixels.shape[1:3]
        encoded = medium.gif
    else:
        grid = medium.grid()
        height, width = grid.shape[:2]
        png = io.BytesIO()
        Image.fromarray(grid).save(png, "PNG", compress_level=1)
        encoded = png.getvalue()
    return Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)


def _hparams(data: Any) -> Any:
    """The summary that tells DATA to the HPARAMS tab, which finds the final metrics by itself."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata

    begins = data.HasField("session_start_info")
    tag = metadata.SESSION_START_INFO_TAG if begins else metadata.SESSION_END_INFO_TAG
    about = metadata.create_summary_metadata(data)
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """Of each of the nested OPTIONS: its dotted name, the protobuf field of its type, its value."""
    for key, option in options.items():
        name = f"{prefix}{key}"
        if isinstance(option, Mapping):
            yield from _flat(option, f"{name}.")
        elif isinstance(option, bool):
            yield name, "bool_value", option
        elif isinstance(option, int | float) and math.isfinite(option):
            yield name, "number_value", option
        else:
            yield name, "string_value", option if isinstance(option, str) else json.dumps(option)
