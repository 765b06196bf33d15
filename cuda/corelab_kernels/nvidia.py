"""Compile CUDA sources of this package for the GPU that is here, and launch what is in them.

There is nothing to install and nothing to link. The compiler is NVRTC, which comes with the CUDA
builds of PyTorch, or else nvcc; what it makes is kept in the user's cache, and loaded and launched
through the driver. So one source serves all versions of PyTorch and Python.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_char, c_char_p, c_int, c_size_t, c_uint, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch

from corelab import CorelabError
from corelab_kernels.build import NoCompiler, cache_folder, contents, run

_OLDEST = 80
"""The compute capability of the oldest GPUs that the kernels are for, times ten."""
_FLAGS = ("--std=c++17", "--fmad=false")
_STATIC_SHARED = 48 * 1024
"""Bytes of shared memory that a block has without asking."""

# Numbers that attributes have in the driver: of a function, of a launch and of a GPU
_MAX_DYNAMIC_SHARED = 8
_CLUSTER_DIMENSION = 4
_MULTIPROCESSORS, _MOST_SHARED, _CLUSTERS = 16, 97, 120


class LaunchError(CorelabError):
    """The driver does not start a kernel, for want of memory, say."""


class _Attribute(ctypes.Structure):
    """`CUlaunchAttribute`, for a cluster: how many blocks it has."""

    _fields_ = [
        ("id", c_int),
        ("pad", c_int),
        ("x", c_uint),
        ("y", c_uint),
        ("z", c_uint),
        ("rest", c_char * 52),
    ]


class _Launch(ctypes.Structure):
    """`CUlaunchConfig`."""

    _fields_ = [
        ("blocks", c_uint * 3),
        ("threads", c_uint * 3),
        ("shared", c_uint),
        ("stream", c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("count", c_uint),
    ]


class Compiler(ABC):
    """What makes machine code of CUDA sources."""

    version: str
    capabilities: list[int]
    """Of the GPUs that it knows, times ten, such as 90."""

    @abstractmethod
    def compile(self, source: Path, target: str) -> bytes:
        """Machine code for the TARGET sm_90, say, or PTX for compute_90."""


class Nvcc(Compiler):
    """The compiler of the CUDA toolkit, which needs a C++ compiler besides."""

    def __init__(self, path: str) -> None:
        self._path = path
        said = run(Path("CUDA"), [path, "--version"])
        self.version = f"nvcc {said.strip().splitlines()[-1]}"
        listed = run(Path("CUDA"), [path, "--list-gpu-arch"])
        self.capabilities = [int(n) for n in re.findall(r"compute_(\d+)$", listed, re.MULTILINE)]

    def compile(self, source: Path, target: str) -> bytes:
        """What the file holds that nvcc makes."""
        kind = "--cubin" if target.startswith("sm_") else "--ptx"
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "made"
            flags = [*_FLAGS, kind, f"--gpu-architecture={target}", f"--output-file={made}"]
            run(source, [self._path, *flags, str(source)])
            return made.read_bytes()


class Nvrtc(Compiler):
    """The compiler that is a library."""

    def __init__(self, path: str) -> None:
        for part in Path(path).parent.glob("libnvrtc-builtins.so.*"):
            ctypes.CDLL(str(part))  # it asks for it by name alone
        self._library = ctypes.CDLL(path)
        self._library.nvrtcGetErrorString.restype = c_char_p
        major, minor, count = c_int(), c_int(), c_int()
        self._library.nvrtcVersion(byref(major), byref(minor))
        self.version = f"NVRTC {major.value}.{minor.value}"
        self._library.nvrtcGetNumSupportedArchs(byref(count))
        capabilities = (c_int * count.value)()
        self._library.nvrtcGetSupportedArchs(capabilities)
        self.capabilities = list(capabilities)

    def compile(self, source: Path, target: str) -> bytes:
        """The program, or `NoCompiler` with the first error of its log."""
        program, library = c_void_p(), self._library
        text, name = source.read_bytes(), source.name.encode()
        words = (*_FLAGS, f"--gpu-architecture={target}", f"--include-path={source.parent}")
        flags = (c_char_p * len(words))(*(word.encode() for word in words))
        try:
            code = library.nvrtcCreateProgram(byref(program), text, name, 0, None, None)
            code = code or library.nvrtcCompileProgram(program, len(flags), flags)
            if not code:
                code, made = self._get("CUBIN" if target.startswith("sm_") else "PTX", program)
            if code:
                log = self._get("ProgramLog", program)[1].decode()
                lines = [line for line in log.splitlines() if "error" in line]
                why = lines[0] if lines else library.nvrtcGetErrorString(code).decode()
                raise NoCompiler(f"{source.name} cannot be compiled by {self.version}: {why}")
            return made
        finally:
            library.nvrtcDestroyProgram(byref(program))

    def _get(self, what: str, program: c_void_p) -> tuple[int, bytes]:
        size = c_size_t()
        code: int = getattr(self._library, f"nvrtcGet{what}Size")(program, byref(size))
        content = ctypes.create_string_buffer(size.value)
        code = code or getattr(self._library, f"nvrtcGet{what}")(program, content)
        return code, content.raw


class Kernels:
    """The kernels of one source on one GPU."""

    def __init__(self, source: Path, device: torch.device) -> None:
        major, minor = torch.cuda.get_device_capability(device)
        if 10 * major + minor < _OLDEST:
            raise NoCompiler(
                f"{source.name} is for GPUs of compute capability 8.0 and newer ones; "
                f"{torch.cuda.get_device_name(device)} has {major}.{minor}"
            )
        image = compiled(source, 10 * major + minor)
        self._source, self._device = source, device
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._functions: dict[str, c_void_p] = {}
        self._shared: dict[str, int] = {}
        self._context, self._module = c_void_p(), c_void_p()
        number = c_int()
        with torch.cuda.device(device):
            self._call("cuInit", c_uint(0))
            self._call("cuDeviceGet", byref(number), c_int(device.index))
            # PyTorch's own
            self._call("cuDevicePrimaryCtxRetain", byref(self._context), number)
            self._call("cuCtxSetCurrent", self._context)
            self._call("cuModuleLoadData", byref(self._module), image.read_bytes())
            self.multiprocessors = self._attribute(_MULTIPROCESSORS, number)
            self.most_shared = self._attribute(_MOST_SHARED, number)
            """Bytes of shared memory that a block can have."""
            self.has_clusters = bool(self._attribute(_CLUSTERS, number))

    def launch(
        self,
        name: str,
        blocks: int,
        threads: int,
        *arguments: Any,
        shared: int = 0,
        cluster: int = 1,
    ) -> None:
        """Start kernel NAME with BLOCKS blocks of so many THREADS, on PyTorch's current stream.

        ARGUMENTS are ctypes values, one for each parameter. SHARED is how many bytes of dynamic
        shared memory a block has, CLUSTER how many blocks are a cluster. `LaunchError`, in a
        sentence, if the driver refuses.
        """
        pointers = (c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        with self._starting(name, shared) as function:
            launch = _launch(blocks, threads, shared, cluster)
            launch.stream = torch.cuda.current_stream().cuda_stream
            self._call("cuLaunchKernelEx", byref(launch), function, pointers, None)

    def clusters(self, name: str, threads: int, *, shared: int, cluster: int) -> int:
        """How many clusters of so many blocks, for a `launch` of them, the GPU has room for.

        0 if the driver refuses to tell.
        """
        count = c_int()
        try:
            with self._starting(name, shared) as function:
                launch = _launch(cluster, threads, shared, cluster)
                self._call("cuOccupancyMaxActiveClusters", byref(count), function, byref(launch))
        except LaunchError:
            return 0
        return count.value

    @contextmanager
    def _starting(self, name: str, shared: int) -> Iterator[c_void_p]:
        """The kernel NAME, which may have so much SHARED memory, where PyTorch's GPU is this one.

        What the driver refuses meanwhile is a `LaunchError`.
        """
        try:
            with torch.cuda.device(self._device):
                self._call("cuCtxSetCurrent", self._context)  # autograd has threads of its own
                yield self._function(name, shared)
        except RuntimeError as error:
            raise LaunchError(
                f"{name} of {self._source.name} cannot be started on GPU {self._device.index} "
                f"({error})"
            ) from error

    def _function(self, name: str, shared: int) -> c_void_p:
        if name not in self._functions:
            function = c_void_p()
            self._call("cuModuleGetFunction", byref(function), self._module, name.encode())
            self._functions[name], self._shared[name] = function, _STATIC_SHARED
        if shared > self._shared[name]:
            attribute = c_int(_MAX_DYNAMIC_SHARED)
            self._call("cuFuncSetAttribute", self._functions[name], attribute, c_int(shared))
            self._shared[name] = shared
        return self._functions[name]

    def _attribute(self, which: int, device: c_int) -> int:
        value = c_int()
        self._call("cuDeviceGetAttribute", byref(value), c_int(which), device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code:
            text = c_char_p()
            self._driver.cuGetErrorString(code, byref(text))
            raise RuntimeError(f"{name}: {(text.value or b'unknown error').decode()}")


def _launch(blocks: int, threads: int, shared: int, cluster: int) -> _Launch:
    size = ((c_uint * 3)(blocks, 1, 1), (c_uint * 3)(threads, 1, 1), shared, None)
    if cluster == 1:
        return _Launch(*size)
    return _Launch(*size, ctypes.pointer(_Attribute(_CLUSTER_DIMENSION, 0, cluster, 1, 1)), 1)


@cache
def load(name: str, index: int) -> Kernels:
    """The kernels of NAME.cu on GPU INDEX. `NoCompiler`, in a sentence, if they cannot be made."""
    try:
        return Kernels(Path(__file__).with_name(f"{name}.cu"), torch.device("cuda", index))
    except (OSError, RuntimeError) as error:  # such as a driver that is older than the compiler
        raise NoCompiler(f"{name}.cu cannot be loaded on GPU {index} ({error})") from error


def compiled(source: Path, capability: int, folder: Path | None = None) -> Path:
    """The file with what is made of SOURCE for GPUs of CAPABILITY, in FOLDER (default: the cache).

    Machine code, or for a GPU that the compiler does not know PTX of the newest one before it that
    it does, which the driver translates.
    """
    by = compiler()
    newest = max((known for known in by.capabilities if known <= capability), default=0)
    if not newest:
        raise NoCompiler(f"{source.name} cannot be compiled by {by.version} for sm_{capability}")
    target = f"sm_{newest}" if newest == capability else f"compute_{newest}"
    content = [*contents(source), " ".join(_FLAGS).encode(), by.version.encode()]
    key = hashlib.sha256(b"\0".join(content)).hexdigest()[:16]
    image = (folder or cache_folder()) / f"{source.stem}-{target}-{key}"
    if not image.exists():
        try:
            image.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=image.parent) as beside:
                made = Path(beside) / image.name
                made.write_bytes(by.compile(source, target))
                made.replace(image)
        except OSError as error:
            raise NoCompiler(
                f"{source.name} cannot be compiled into {image.parent} ({error.strerror or error})"
            ) from error
    return image


@cache
def compiler() -> Compiler:
    """NVRTC, or else nvcc. `NoCompiler`, in a sentence, if there is neither."""
    for path in _nvrtc():
        try:
            return Nvrtc(path)
        except OSError:  # for another kind of machine
            continue
    nvcc = shutil.which("nvcc")
    if nvcc:
        return Nvcc(nvcc)
    raise NoCompiler("CUDA sources cannot be compiled: neither NVRTC nor nvcc is installed")


def _nvrtc() -> Iterator[str]:
    for folder in sys.path:
        for found in sorted(Path(folder).glob("nvidia/*/lib/libnvrtc.so.*")):
            yield str(found)
    yield from ("libnvrtc.so.13", "libnvrtc.so.12")  # wherever the system keeps its libraries
