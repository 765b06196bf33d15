"""The verb `corelab kernels`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

import torch

from corelab import ConfigError
from corelab_kernels import build, nvidia
from corelab_kernels.build import NoCompiler

_FOLDER = Path(__file__).parent
_FLAGS = {
    "connection": (),
    "perceptron": build.exact(),
    "pixelcnn": build.exact(),
    "sampling": build.exact(),
}
"""What is compiled for the processor, and with which flags."""
_ON_GPU = ("pixelcnn", "sampling")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"corelab kernels: {message}; see corelab kernels --help")


def kernels(argv: list[str]) -> int:
    """Compile what is compiled ahead of its first use, or say what is in use.

    `build` compiles for this machine's processor and its GPUs, `info` only looks. Whatever is not
    compiled is done by PyTorch, more slowly. The exit code of `build` is 1 if something failed.
    """
    parser = _Parser(prog="corelab kernels", description=kernels.__doc__, allow_abbrev=False)
    parser.add_argument("action", choices=["build", "info"])
    action = parser.parse_args(argv).action

    whole = True
    level = build.instructions() or "those that the compiler takes"
    print(f"processor: instructions {level}, {torch.get_num_threads()} threads")
    for name, flags in _FLAGS.items():
        source = _FOLDER / f"{name}.cpp"
        try:
            if action == "build":
                build.build(source, flags=flags)
            library = build.place(source, flags=flags)
        except NoCompiler as reason:
            whole = False
            print(f"  {reason}; the same is done without it, more slowly")
        else:
            print(f"  {library if library.exists() else f'{name}: compiled at its first use'}")
    if not torch.cuda.is_available():
        print("GPU: PyTorch sees none")
    for index in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(index)
        print("GPU {}: {}, sm_{}{}".format(index, torch.cuda.get_device_name(index), *capability))
        try:
            print(f"  {nvidia.compiler().version}")
            for name in _ON_GPU if action == "build" else ():
                nvidia.load(name, index)
                print(f"  {name}: compiled")
        except NoCompiler as reason:
            whole = False
            print(f"  {reason}; the same is done without it, more slowly")
    return 0 if whole or action == "info" else 1
