from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest
import torch
from corelab_kernels import build, nvidia


class Device:
    """PyTorch's current GPU, as `torch.cuda.device` sets it."""

    current = 0

    def __init__(self, device):
        self._wanted = device.index or 0

    def __enter__(self):
        self._before, Device.current = Device.current, self._wanted

    def __exit__(self, *_):
        Device.current = self._before


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    """Where the libraries are that stand in for others: each is compiled once."""
    return tmp_path_factory.mktemp("libraries")


@pytest.fixture
def drive(cxx, monkeypatch, libraries):
    """Makes the driver of driver.h, with the kernels of a program, stand in for that of a GPU."""

    def put(program):
        image = build.build(program, libraries, ("-O0", "-ffp-contract=off", "-pthread"))
        driver, open_ = ctypes.CDLL(str(image)), ctypes.CDLL
        driver.driver_said.restype = ctypes.c_char_p
        driver.driver_resets()
        monkeypatch.setattr(
            ctypes, "CDLL", lambda name: driver if name == "libcuda.so.1" else open_(name)
        )
        monkeypatch.setattr(nvidia, "compiled", lambda source, capability: image)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        monkeypatch.setattr(torch.cuda, "device", Device)
        monkeypatch.setattr(
            torch.cuda,
            "current_stream",
            lambda: SimpleNamespace(cuda_stream=0x7E00_0000_0000 + Device.current),
        )
        return driver

    nvidia.load.cache_clear()
    yield put
    nvidia.load.cache_clear()
