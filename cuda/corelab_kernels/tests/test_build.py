from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
from corelab_kernels import build
from corelab_kernels.build import NoCompiler


def source(folder, number):
    path = folder / "made.cpp"
    path.write_text(f'extern "C" int number() {{ return {number}; }}\n')
    return path


@pytest.mark.compiled
def test_a_library_is_made_once_for_each_content(tmp_path):
    cache = tmp_path / "cache"
    one = build.build(source(tmp_path, 1), cache)
    made = one.stat().st_mtime_ns
    assert build.build(source(tmp_path, 1), cache) == one
    assert one.stat().st_mtime_ns == made
    other = build.build(source(tmp_path, 2), cache)
    assert other != one
    assert [ctypes.CDLL(str(path)).number() for path in (one, other)] == [1, 2]
    assert sorted(cache.iterdir()) == sorted([one, other])  # and nothing half made


@pytest.mark.compiled
def test_a_changed_header_or_flag_makes_another_library(tmp_path):
    path, cache = tmp_path / "made.cpp", tmp_path / "cache"
    path.write_text('#include "header.h"\nextern "C" int number() { return NUMBER + MORE; }\n')
    numbers = []
    for number, more in ((1, 10), (2, 10), (2, 20)):
        (tmp_path / "header.h").write_text(f"#define NUMBER {number}\n")
        numbers.append(ctypes.CDLL(str(build.build(path, cache, (f"-DMORE={more}",)))).number())
    assert numbers == [11, 12, 22]
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize(
    ("machine", "flags", "level"),
    [
        ("x86_64", "fpu sse2 avx2 bmi1 bmi2 f16c fma movbe", "x86-64-v3"),
        ("x86_64", "fpu sse2 avx2 fma", ""),
        (
            "x86_64",
            "avx2 bmi1 bmi2 f16c fma movbe avx512f avx512bw avx512cd avx512dq avx512vl",
            "x86-64-v4",
        ),
        ("aarch64", "avx2 bmi1 bmi2 f16c fma movbe", ""),
    ],
)
def test_the_instructions_are_those_that_the_processor_lists(
    machine, flags, level, tmp_path, monkeypatch
):
    (tmp_path / "cpuinfo").write_text(f"model name\t: some\nflags\t\t: {flags}\nbugs\t\t:\n")
    monkeypatch.setattr(build, "_CPU", tmp_path / "cpuinfo")
    monkeypatch.setattr(build.platform, "machine", lambda: machine)
    assert build.instructions.__wrapped__() == level
    monkeypatch.setattr(build, "_CPU", tmp_path / "none")
    assert build.instructions.__wrapped__() == ""


@pytest.mark.compiled
def test_processes_that_make_it_at_once_all_get_a_whole_one(tmp_path):
    path, cache = source(tmp_path, 7), tmp_path / "cache"
    code = (
        "import ctypes, pathlib, sys; from corelab_kernels.build import build;"
        "print(ctypes.CDLL(str(build(*map(pathlib.Path, sys.argv[1:])))).number())"
    )
    command = [sys.executable, "-c", code, str(path), str(cache)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["7\n", "7\n"]
    assert len(list(cache.iterdir())) == 1


def test_a_missing_compiler_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NoCompiler, match=r"^made.cpp cannot be compiled: no-such-compiler is not"):
        build.build(source(tmp_path, 1), tmp_path)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoCompiler, match=r"c\+\+ or g\+\+ or clang\+\+ is not installed"):
        build.build(source(tmp_path, 1), tmp_path)


@pytest.mark.compiled
def test_a_source_with_a_mistake_is_told_by_the_compilers_words(tmp_path):
    path = tmp_path / "wrong.cpp"
    path.write_text("int x = ;\n")
    with pytest.raises(NoCompiler, match=r"wrong.cpp cannot be compiled by .*: .*error"):
        build.build(path, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.compiled
def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(NoCompiler, match=r"made.cpp cannot be compiled into .*file/cache"):
        build.build(source(tmp_path, 1), blocked / "cache")


def test_a_library_that_cannot_be_loaded_is_told(tmp_path, monkeypatch):
    broken = tmp_path / "broken.so"
    broken.write_text("this is no library")
    monkeypatch.setattr(build, "build", lambda source, flags: broken)
    with pytest.raises(NoCompiler, match=r"broken.so cannot be loaded \("):
        build.load("broken")


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cache_folder() == tmp_path / "corelab" / "kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert build.cache_folder() == Path.home() / ".cache" / "corelab" / "kernels"
