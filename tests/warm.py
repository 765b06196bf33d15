"""A Python that has imported already, so that a command costs what it does and not its start.

`warm.py serve FOLDER` imports corelab, its plugins and what they need, once, and puts commands in
FOLDER: `corelab`, `pytest`, `python` and `program TEXT`, which is `python -c TEXT`. Each has a fork
of that process do its work, in the folder and the environment of the one who calls it, on their own
standard input, output and error, passes Ctrl-C on, and ends with its exit code; a command that is
killed takes the fork with it. So with FOLDER first on the PATH everything is as ever, but sooner.
`python` does so for `-m corelab` and `-m pytest`; else it is the real one, since those who start it
may ask what it imports.

The server prints a line when it is ready, and ends when its standard input is closed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

MODULES = ("corelab", "pytest")
"""What can be run by its name, or as `python -m NAME`."""
SOCKET = "socket"
MORE = (  # what corelab imports late
    "corelab.doctor corelab.local corelab.seeds corelab.statistics corelab.testing "
    "gymnasium.envs.classic_control gymnasium.envs.toy_text matplotlib.pyplot PIL.Image pytest "
    "sklearn.datasets tensorboard.compat.proto.event_pb2 torch._dynamo torch.utils.tensorboard"
)


def ask(folder: Path, words: list[str]) -> NoReturn:
    """Have WORDS run by the server of FOLDER; end as they end."""
    name, *rest = words
    if name == "python" and not (rest[:1] == ["-m"] and rest[1] in MODULES):
        os.execv(sys.executable, [sys.executable, *rest])
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(str(folder / SOCKET))
        for passed_on in (signal.SIGINT, signal.SIGTERM):
            signal.signal(passed_on, lambda number, _: server.sendall(bytes([number])))
        socket.send_fds(server, [b"!"], [0, 1, 2])
        server.sendall(json.dumps([words, str(Path.cwd()), dict(os.environ)]).encode() + b"\n")
        answer = server.recv(1)
    sys.exit(answer[0] if answer else "the server has gone")


def serve(folder: Path) -> None:
    """Import everything, then do what is asked for until standard input is closed."""
    import gc
    import importlib

    from corelab.errors import PluginError
    from corelab.plugins import Plugins

    before = dict(os.environ)
    found = Plugins()
    for offer in found.offers:
        with suppress(PluginError):  # an environment whose package is not here
            found.load(offer)
    for module in MORE.split():
        importlib.import_module(module)
    imported = {name: value for name, value in os.environ.items() if name not in before}
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / SOCKET))
        listener.listen()
        for name in (*MODULES, "python", "program"):
            command = folder / name
            asking = f'"{sys.executable}" -IS "{__file__}" ask "{folder}"'
            command.write_text(f'#!/bin/sh\nexec {asking} {name} "$@"\n')
            command.chmod(0o755)
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            client, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(client, imported)
            client.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _answer(client: socket.socket, imported: dict[str, str]) -> NoReturn:
    """Do what CLIENT asks for in a process of its own, and tell the exit code.

    IMPORTED are environment variables that the modules set when they were imported.
    """
    _, files, _, _ = socket.recv_fds(client, 1, 3)
    request = client.makefile("rb", buffering=0).readline()  # what follows are signals
    ended, held = os.pipe()  # the child holds the other end
    if (child := os.fork()) == 0:
        client.close()
        os.close(ended)
        for standard, file in enumerate(files):
            os.dup2(file, standard)
            os.close(file)
        words, folder, environment = json.loads(request)
        _run(words, folder, imported | environment)
    for file in (held, *files):
        os.close(file)
    told: list[socket.socket | int] = [ended, client]
    while ended not in select.select(told, [], [])[0]:
        passed_on = client.recv(1)
        os.kill(child, passed_on[0] if passed_on else signal.SIGKILL)
        if not passed_on:
            break
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    with suppress(BrokenPipeError):
        client.sendall(bytes([code if code >= 0 else 128 - code]))
    os._exit(0)


def _run(words: list[str], folder: str, environment: dict[str, str]) -> NoReturn:
    """What `exec WORDS` would do."""
    import atexit
    import traceback

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    try:
        _python(*words)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)  # to free all modules one by one would take ten times as long as the fork


def _python(name: str, *rest: str) -> None:
    """Be the command NAME, with the words after it."""
    import runpy
    import shutil
    import site

    sys.executable = str(shutil.which("python"))  # processes that this one starts are warm, too
    sys.path[:1] = [] if name in MODULES else [""]
    for place in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        if place and place not in sys.path:
            site.addsitedir(place)
    if name == "program":
        sys.argv = ["-c"]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        module, *sys.argv[1:] = rest[1:] if name == "python" else (name, *rest)
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _, role, place, *words = sys.argv
    serve(Path(place)) if role == "serve" else ask(Path(place), words)
