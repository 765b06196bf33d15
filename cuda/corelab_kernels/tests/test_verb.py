from __future__ import annotations

import shutil

import pytest
import torch
from corelab_kernels import build
from corelab_kernels.verb import kernels

from corelab import ConfigError
from corelab.plugins import Plugins


@pytest.mark.skipif(not shutil.which("c++"), reason="there is no C++ compiler")
def test_it_says_what_is_compiled_and_compiles_ahead(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("corelab_kernels.verb._FLAGS", {"connection": ("-O0",)})
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


def test_it_is_a_verb_and_refuses_other_words():
    assert Plugins().find("verb", "kernels").component.target == "corelab_kernels.verb:kernels"
    with pytest.raises(
        ConfigError, match=r"corelab kernels: .*'buidl'.*; see corelab kernels --he"
    ):
        kernels(["buidl"])
