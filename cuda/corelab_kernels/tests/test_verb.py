from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from corelab_kernels import build, corelab_components, nvidia
from corelab_kernels.verb import kernels

from corelab import ConfigError


def without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.compiled
def test_it_says_what_is_compiled_and_compiles_ahead(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("corelab_kernels.verb._FLAGS", {"connection": ("-O0",)})
    without_a_gpu(monkeypatch)
    assert kernels(["info"]) == 0
    said = capsys.readouterr().out.splitlines()
    level = build.instructions() or "those that the compiler takes"
    assert said[0] == f"processor: instructions {level}, {torch.get_num_threads()} threads"
    assert said[1] == "  connection: compiled at its first use"
    assert kernels(["build"]) == 0
    (library,) = (tmp_path / "corelab" / "kernels").iterdir()
    built = capsys.readouterr().out
    assert built.splitlines()[1] == f"  {library}"
    assert kernels(["info"]) == 0
    assert capsys.readouterr().out == built


def test_without_a_compiler_it_says_why_and_fails(monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert kernels(["info"]) == 0
    assert kernels(["build"]) == 1
    told = "pixelcnn.cpp cannot be compiled: no-such-compiler is not installed; the same is done"
    assert capsys.readouterr().out.count(told) == 2


def test_it_says_what_gpus_there_are_and_what_is_compiled_for_them(monkeypatch, capsys):
    monkeypatch.setattr("corelab_kernels.verb._FLAGS", {})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9 - 2 * index, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: ["H200", "V100"][index])
    monkeypatch.setattr(nvidia, "compiler", lambda: SimpleNamespace(version="NVRTC 13.0"))

    def load(name, index):
        if index:
            raise build.NoCompiler(f"{name}.cu is for newer GPUs")

    monkeypatch.setattr(nvidia, "load", load)
    assert kernels(["info"]) == 0
    gpus = ["GPU 0: H200, sm_90", "  NVRTC 13.0", "GPU 1: V100, sm_70", "  NVRTC 13.0"]
    assert capsys.readouterr().out.splitlines()[1:] == gpus
    assert kernels(["build"]) == 1
    reason = "  pixelcnn.cu is for newer GPUs; the same is done without it, more slowly"
    compiled = ["  pixelcnn: compiled", "  sampling: compiled"]
    assert capsys.readouterr().out.splitlines()[1:] == [*gpus[:2], *compiled, *gpus[2:], reason]


def test_it_is_a_verb_and_refuses_other_words():
    (component,) = corelab_components()
    assert (component.kind, component.name) == ("verb", "kernels")
    assert component.target == f"{kernels.__module__}:{kernels.__name__}"
    with pytest.raises(
        ConfigError, match=r"corelab kernels: .*'buidl'.*; see corelab kernels --he"
    ):
        kernels(["buidl"])
