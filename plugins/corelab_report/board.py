"""The verb `corelab tensorboard`."""

from __future__ import annotations

import errno
import logging
import socket
import time
import warnings
from pathlib import Path

from corelab import ConfigError, RunError
from corelab_report.words import Parser


def tensorboard(argv: list[str]) -> int:
    """Open TensorBoard on runs, or on all of a folder, until Ctrl-C.

    It prints the address to open in a browser.
    """
    parser = Parser("tensorboard", tensorboard.__doc__)
    which = "directories of runs, or folders of them (default: runs)"
    parser.add_argument("run", type=Path, nargs="*", default=[Path("runs")], help=which)
    parser.add_argument("--port", type=int, default=6006, help="0 for any that is free")
    parser.add_argument("--host", default="localhost", help="which addresses it answers at")
    args = parser.parse_args(argv)
    for path in args.run:
        if not any(path.rglob("events.out.tfevents.*")):
            raise RunError(
                f"{path}: there is nothing for TensorBoard in it; the sink `tensorboard` writes it"
            )

    print(f"{serve(args.run, args.host, args.port)} (Ctrl-C ends it)", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return 0


def serve(paths: list[Path], host: str, port: int) -> str:
    """Have a thread of this process show the runs at PATHS; the address to open.

    ConfigError if that cannot be done at this HOST and PORT.
    """
    if not 0 <= port < 2**16:
        raise ConfigError(f"--port is {port}; it must be between 0 and {2**16 - 1}")
    where = ["--logdir", str(paths[0])]
    if len(paths) > 1:
        if wrong := [path for path in paths if set(",:") & set(str(path.absolute()))]:
            raise ConfigError(f"{wrong[0]}: the names of several runs can have no comma or colon")
        where = ["--logdir_spec", ",".join(f"{path}:{path.absolute()}" for path in paths)]
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sentence = f"port {port} is in use; take another one, or --port 0"
            raise ConfigError(sentence) from error
        raise ConfigError(f"{host}: cannot be served at ({error.strerror or error})") from error

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what TensorBoard imports is nothing that its users mend
        from tensorboard import default, program
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    board = program.TensorBoard(default.get_plugins())
    board.configure(["", *where, "--host", host, "--port", str(port), "--load_fast", "false"])
    try:
        return str(board.launch())
    except program.TensorBoardServerException as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"TensorBoard cannot be started: {said}") from error
