from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from corelab_kernels import nvidia
from corelab_kernels.build import NoCompiler

FOLDER = Path(nvidia.__file__).parent
SAMPLING = FOLDER / "sampling.cu"


def compilers():
    """All of those that there are."""
    found = []
    for path in nvidia._nvrtc():
        try:
            found.append(nvidia.Nvrtc(path))
            break
        except OSError:
            continue
    return found + [nvidia.Nvcc(path) for path in filter(None, [shutil.which("nvcc")])]


@pytest.fixture(params=["NVRTC", "nvcc"])
def compiler(request, monkeypatch):
    found = [each for each in compilers() if each.version.startswith(request.param)]
    if not found:
        pytest.skip(f"there is no {request.param}")
    monkeypatch.setattr(nvidia, "compiler", lambda: found[0])
    return found[0]


each_source = pytest.mark.parametrize(
    "name", ["sampling.cu", pytest.param("pixelcnn.cu", marks=pytest.mark.slow)]
)


@each_source
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_sources_compile_for_each_gpu_and_spill_no_register(name, capability, tmp_path, capsys):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("there is no nvcc")
    target = [f"--gpu-architecture=sm_{capability}", "--cubin", "-Xptxas", "-v"]
    command = [nvcc, *nvidia._FLAGS, *target, "-o", tmp_path / "made", FOLDER / name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    functions = re.findall(
        r"Function properties for (\w+)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads(?:\s+.*Used (\d+) registers(?:.*?(\d+) bytes smem)?)?",
        done.stderr,
    )
    kernels = [function for function in functions if function[4]]
    with capsys.disabled():
        for kernel, stack, stores, loads, registers, shared in kernels:
            print(
                f"\nsm_{capability} {kernel}: {registers} registers, {stack} bytes of stack, "
                f"{stores} + {loads} spilled, {shared or 0} of shared memory",
                end="",
            )
    assert len(kernels) == {"sampling.cu": 6, "pixelcnn.cu": 4}[name]
    assert not [function[0] for function in functions if function[2:4] != ("0", "0")]


def test_both_compilers_make_code_for_a_gpu_and_keep_it(compiler, tmp_path):
    made = nvidia.compiled(SAMPLING, 90, tmp_path)
    assert made.read_bytes().startswith(b"\x7fELF")
    first = made.stat().st_mtime_ns
    assert nvidia.compiled(SAMPLING, 90, tmp_path) == made
    assert made.stat().st_mtime_ns == first
    assert list(tmp_path.iterdir()) == [made]


@each_source
def test_a_gpu_that_is_newer_than_the_compiler_gets_ptx(name, compiler, tmp_path):
    made = nvidia.compiled(FOLDER / name, 999, tmp_path)
    newest = max(compiler.capabilities)
    assert made.name.startswith(f"{name.split('.')[0]}-compute_{newest}-")
    assert f".target sm_{newest}" in made.read_text().rstrip("\0")


def test_a_mistake_is_told_by_the_compilers_words(compiler, tmp_path):
    source = tmp_path / "wrong.cu"
    source.write_text("__global__ void f() { int x = ; }\n")
    with pytest.raises(
        NoCompiler, match=r"^wrong.cu cannot be compiled by .*: .*error: expected an"
    ):
        nvidia.compiled(source, 90, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told(compiler, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        NoCompiler, match=r"cannot be compiled into .*file/cache \(Not a directory\)"
    ):
        nvidia.compiled(SAMPLING, 90, tmp_path / "file" / "cache")


def test_a_machine_without_a_compiler_is_told(monkeypatch):
    monkeypatch.setattr(nvidia, "_nvrtc", lambda: iter(["no-such-library.so"]))
    monkeypatch.setenv("PATH", "")
    nvidia.compiler.cache_clear()
    with pytest.raises(NoCompiler, match="neither NVRTC nor nvcc is installed"):
        nvidia.compiler()


def test_nvrtc_is_looked_for_beside_pytorch_and_then_by_name(tmp_path, monkeypatch):
    folder = tmp_path / "nvidia" / "cu13" / "lib"
    folder.mkdir(parents=True)
    for name in ("libnvrtc.so.13", "libnvrtc.alt.so.13", "libnvrtc-builtins.so.13.0"):
        (folder / name).write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    beside = [str(folder / "libnvrtc.so.13")]
    assert list(nvidia._nvrtc()) == [*beside, "libnvrtc.so.13", "libnvrtc.so.12"]


def test_a_gpu_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(NoCompiler, match=r"GPUs of compute capability 8.0 .*; Tesla T4 has 7.5"):
        nvidia.Kernels(SAMPLING, torch.device("cuda", 0))


def test_a_driver_that_refuses_is_told(monkeypatch):
    def refuse(source, device):
        raise RuntimeError("cuModuleLoadData: device kernel image is invalid")

    monkeypatch.setattr(nvidia, "Kernels", refuse)
    with pytest.raises(NoCompiler, match=r"^sampling.cu cannot be loaded on GPU 0 \(cuModuleLoadD"):
        nvidia.load("sampling", 0)


def test_a_gpu_that_the_compiler_has_forgotten_is_told(monkeypatch, tmp_path):
    class Future:
        version, capabilities = "NVRTC 99.0", [200]

    monkeypatch.setattr(nvidia, "compiler", Future)
    with pytest.raises(NoCompiler, match=r"cannot be compiled by NVRTC 99.0 for sm_80$"):
        nvidia.compiled(SAMPLING, 80, tmp_path)
