"""What is asked of the CUDA driver and of NVRTC, by libraries that stand in for them."""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int32, c_int64, c_void_p
from pathlib import Path

import numpy as np
import pytest
import torch
from corelab_kernels import build, nvidia
from corelab_kernels.build import NoCompiler

PROGRAM = """
#include "DRIVER"
// An element for each thread: SCALE times where it is, from FIRST on.
__global__ void place(double* out, int first, float scale, long long all) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < all) out[i] = scale * (first + i);
}
namespace {
std::vector<Function> kernels() { return {function("place", place)}; }
}
"""


@pytest.fixture
def driver(drive, tmp_path):
    header = Path(__file__).with_name("driver.h")
    (tmp_path / "program.cpp").write_text(PROGRAM.replace("DRIVER", str(header)))
    return drive(tmp_path / "program.cpp")


def said(driver):
    """What the driver was asked since the last time."""
    return driver.driver_said().decode().splitlines()


def launch(kernels, blocks=3, threads=32, **options):
    """What PLACE makes of it."""
    out = np.zeros(70)
    numbers = c_int32(-5), c_float(0.5), c_int64(len(out))
    kernels.launch("place", blocks, threads, c_void_p(out.ctypes.data), *numbers, **options)
    return out


def test_a_module_is_loaded_once_for_each_gpu(driver):
    first = nvidia.load("place", 0)
    assert said(driver) == [
        "cuInit 0",
        "cuDeviceGet 0",
        "cuDevicePrimaryCtxRetain 0",
        "cuCtxSetCurrent 0",
        "cuModuleLoadData \x7fELF",
        "cuDeviceGetAttribute 16 0",
        "cuDeviceGetAttribute 97 0",
        "cuDeviceGetAttribute 120 0",
    ]
    assert (first.multiprocessors, first.most_shared, first.has_clusters) == (132, 227 << 10, True)
    assert nvidia.load("place", 0) is first
    assert said(driver) == []
    assert nvidia.load("place", 1) is not first
    assert said(driver)[1:4] == ["cuDeviceGet 1", "cuDevicePrimaryCtxRetain 1", "cuCtxSetCurrent 1"]


def test_a_launch_is_on_the_current_stream_of_its_gpu(driver):
    kernels = [nvidia.load("place", index) for index in (0, 1)]
    expected = 0.5 * (np.arange(70) - 5)
    for index in (1, 0):
        said(driver)
        assert np.array_equal(launch(kernels[index]), expected)
        done = [
            f"cuCtxSetCurrent {index}",
            f"cuLaunchKernelEx place 3 x 32 in 1, 0 bytes, stream {0x7E00_0000_0000 + index}",
        ]
        assert said(driver) == [done[0], "cuModuleGetFunction place", done[1]]
        launch(kernels[index])
        assert said(driver) == done
    assert np.array_equal(launch(kernels[0], blocks=2)[64:], np.zeros(6))


def test_more_shared_memory_than_a_block_has_is_asked_for_once(driver):
    kernels = nvidia.load("place", 0)
    for _ in range(2):
        launch(kernels, shared=100 << 10)
    asked = said(driver)
    assert asked.count("cuFuncSetAttribute 8 102400") == 1
    assert asked[-1].startswith("cuLaunchKernelEx place 3 x 32 in 1, 102400 bytes")
    launch(kernels, shared=101 << 10)
    launch(kernels, shared=100 << 10)
    assert [line for line in said(driver) if "Attribute" in line] == ["cuFuncSetAttribute 8 103424"]
    nvidia.load.cache_clear()
    launch(nvidia.load("place", 0), shared=48 << 10)
    assert not [line for line in said(driver) if line.startswith("cuFuncSetAttribute")]


def test_blocks_are_launched_in_clusters_of_which_the_driver_knows_how_many_fit(driver):
    kernels = nvidia.load("place", 1)
    assert np.array_equal(launch(kernels, blocks=4, cluster=2), 0.5 * (np.arange(70) - 5))
    assert kernels.clusters("place", 32, shared=100 << 10, cluster=4) == 33
    assert [line for line in said(driver) if "x 32" in line or "Clusters" in line] == [
        f"cuLaunchKernelEx place 4 x 32 in 2, 0 bytes, stream {0x7E00_0000_0001}",
        "cuOccupancyMaxActiveClusters place 4, 102400 bytes",
    ]


def test_a_launch_that_is_refused_is_told_in_a_sentence(driver):
    kernels = nvidia.load("place", 1)
    begins = r"^place of place.cu cannot be started on GPU 1 \("
    refused = rf"{begins}cuLaunchKernelEx: invalid argument\)$"
    for wrong in ({"blocks": 0}, {"blocks": 3, "cluster": 2}, {"blocks": 16, "cluster": 16}):
        with pytest.raises(nvidia.LaunchError, match=refused):
            launch(kernels, **wrong)
    with pytest.raises(nvidia.LaunchError, match=rf"{begins}cuFuncSetAttribute: invalid argument"):
        launch(nvidia.Kernels(Path("place.cu"), torch.device("cuda", 1)), shared=1 << 20)
    for code, words in ((2, "out of memory"), (-1, "unknown error")):
        driver.driver_refuses(b"cuLaunchKernelEx", code)
        with pytest.raises(nvidia.LaunchError, match=rf"{begins}cuLaunchKernelEx: {words}\)$"):
            launch(kernels)
    driver.driver_refuses(b"cuOccupancyMaxActiveClusters", 2)
    assert kernels.clusters("place", 32, shared=0, cluster=2) == 0
    driver.driver_has(80, 163 << 10, 0)
    with pytest.raises(nvidia.LaunchError, match=rf"{begins}cuLaunchKernelEx: cluster misconfig"):
        launch(kernels, blocks=4, cluster=2)
    with pytest.raises(nvidia.LaunchError, match=r"^other of place.cu .*: named symbol not found"):
        kernels.launch("other", 1, 32)


@pytest.mark.parametrize(
    "name",
    [
        "cuInit",
        "cuDeviceGet",
        "cuDevicePrimaryCtxRetain",
        "cuCtxSetCurrent",
        "cuModuleLoadData",
        "cuDeviceGetAttribute",
    ],
)
def test_a_driver_that_does_not_load_is_told_and_asked_again(driver, name):
    driver.driver_refuses(name.encode(), 2)
    sentence = rf"^place.cu cannot be loaded on GPU 0 \({name}: out of memory\)$"
    with pytest.raises(NoCompiler, match=sentence):
        nvidia.load("place", 0)
    driver.driver_refuses(b"", 0)
    assert launch(nvidia.load("place", 0)).any()


def test_a_machine_without_a_driver_is_told(driver, monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(NoCompiler, match=r"on GPU 0 \(libcuda.so.1: cannot open shared object f"):
        nvidia.load("place", 0)


# ---- NVRTC ---------------------------------------------------------------------------------------

NVRTC = """
#include <string>
struct Program { std::string source, name, log, made; };
static std::string said, refused;
static int code, programs;
static int told(const char* name) { return refused == name ? code : 0; }
extern "C" {
const char* said_() { return said.c_str(); }
int programs_() { return programs; }
void refuse_(const char* name, int with) { refused = name, code = with; }
int nvrtcVersion(int* major, int* minor) { return *major = 13, *minor = 0, 0; }
int nvrtcGetNumSupportedArchs(int* n) { return *n = 3, 0; }
int nvrtcGetSupportedArchs(int* n) { return n[0] = 75, n[1] = 80, n[2] = 90, 0; }
const char* nvrtcGetErrorString(int) { return "NVRTC_ERROR_INTERNAL_ERROR"; }
int nvrtcCreateProgram(Program** made, const char* source, const char* name, int headers,
                       const char* const* texts, const char* const* names) {
    if (int code = told("create")) return code;
    if (headers || texts || names) return 3;
    ++programs;
    *made = new Program{source, name, "", ""};
    return 0;
}
int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
    said = program->name;
    for (int i = 0; i < count; ++i) said += std::string(" ") + options[i];
    program->made = program->source.substr(0, 4) + std::string("\\0end", 4);
    if (program->source.find("mistake") != std::string::npos)
        program->log = "made.cu(1): warning: mind\\nmade.cu(2): error: a mistake\\n2 errors\\n";
    return program->log.empty() ? told("compile") : 6;
}
int nvrtcGetProgramLogSize(Program* program, size_t* n) {
    if (!program) return 4;
    return *n = program->log.size() + 1, 0;
}
int nvrtcGetProgramLog(Program* program, char* log) {
    if (!program) return 4;
    return program->log.copy(log, program->log.size()), 0;
}
int nvrtcGetCUBINSize(Program* program, size_t* n) { return *n = 8, 0; }
int nvrtcGetCUBIN(Program* program, char* made) {
    program->made.copy(made, 8);
    return told("cubin");
}
int nvrtcGetPTXSize(Program* program, size_t* n) { return *n = 4, 0; }
int nvrtcGetPTX(Program*, char* made) { return std::string("PTX").copy(made, 4), 0; }
int nvrtcDestroyProgram(Program** program) {
    if (!*program) return 4;
    --programs;
    delete *program;
    return *program = nullptr, 0;
}
}
"""


@pytest.fixture
def nvrtc(cxx, tmp_path, monkeypatch, libraries):
    """The library, whose compiler is the only one."""
    (tmp_path / "nvrtc.cpp").write_text(NVRTC)
    path = build.build(tmp_path / "nvrtc.cpp", libraries)
    compiler = nvidia.Nvrtc(str(path))
    monkeypatch.setattr(nvidia, "compiler", lambda: compiler)
    library = ctypes.CDLL(str(path))
    library.said_.restype = ctypes.c_char_p
    library.refuse_(b"", 0)
    return library


def made(folder, text="text of a kernel"):
    (folder / "made.cu").write_text(text)
    return folder / "made.cu"


@pytest.mark.parametrize(
    ("capability", "target", "content"),
    [(90, "sm_90", b"text\0end"), (80, "sm_80", b"text\0end"), (103, "compute_90", b"PTX\0")],
)
def test_nvrtc_makes_machine_code_or_ptx_with_the_folder_of_the_source(
    nvrtc, capability, target, content, tmp_path
):
    image = nvidia.compiled(made(tmp_path), capability, tmp_path / "cache")
    assert image.read_bytes() == content
    assert nvrtc.said_().decode() == (
        f"made.cu --std=c++17 --fmad=false --gpu-architecture={target} --include-path={tmp_path}"
    )
    assert nvrtc.programs_() == 0


@pytest.mark.parametrize(
    ("text", "refused", "why"),
    [
        ("a mistake", b"", r"made.cu\(2\): error: a mistake"),
        ("text", b"create", "NVRTC_ERROR_INTERNAL_ERROR"),
        ("text", b"compile", "NVRTC_ERROR_INTERNAL_ERROR"),
        ("text", b"cubin", "NVRTC_ERROR_INTERNAL_ERROR"),
    ],
)
def test_what_nvrtc_does_not_make_is_told_and_not_kept(nvrtc, text, refused, why, tmp_path):
    nvrtc.refuse_(refused, 11)
    with pytest.raises(NoCompiler, match=rf"^made.cu cannot be compiled by NVRTC 13.0: {why}$"):
        nvidia.compiled(made(tmp_path, text), 90, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert nvrtc.programs_() == 0
