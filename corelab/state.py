"""State on disk: nested values as JSON, their arrays as safetensors. Nothing executes on load."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from corelab.errors import CheckpointError, DivergedError

_DTYPES = {
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
}
"""What safetensors can hold."""
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def save_tree(path: Path, tree: Any) -> None:
    """Write TREE to PATH.json, and its arrays, if it has any, to PATH.safetensors.

    A tree is built of dicts, lists, tuples, str, int, float, bool, None, bytes, torch tensors,
    NumPy arrays and scalars, and NumPy generators. TypeError, which names the place, for the rest.
    """
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_encode(tree, "", tensors))  # indented, it would take the slow encoder
    path.with_suffix(".json").write_text(text)
    if tensors:
        # by way of bytes, so that a full disk is an OSError
        path.with_suffix(".safetensors").write_bytes(save(tensors))


def load_tree(path: Path) -> Any:
    """What `save_tree` wrote to PATH, on the CPU. CheckpointError if it is something else."""
    try:
        text = json.loads(path.with_suffix(".json").read_text())
        return _decode(text, load_tensors(path.with_suffix(".safetensors")))
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(f"{path}: does not hold a saved state ({error})") from error


def load_tensors(file: Path) -> dict[str, torch.Tensor]:
    """The tensors in a safetensors FILE, none if it is not there. ValueError if it is damaged."""
    if not file.exists():
        return {}
    try:
        # cloned into memory that torch aligns: in which order sums are taken can depend on it
        return {name: tensor.clone() for name, tensor in load_file(file).items()}
    except SafetensorError as error:
        raise ValueError(f"{file.name}: {error}") from error


def _encode(value: Any, at: str, tensors: dict[str, torch.Tensor]) -> Any:
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, list):
        return [_encode(v, f"{at}.{i}", tensors) for i, v in enumerate(value)]
    if isinstance(value, tuple):
        return {"$tuple": [_encode(v, f"{at}.{i}", tensors) for i, v in enumerate(value)]}
    if isinstance(value, Mapping):
        if all(type(k) is str and not k.startswith("$") for k in value):
            return {k: _encode(v, f"{at}.{k}", tensors) for k, v in value.items()}
        pairs = [(_encode(k, at, tensors), f"{at}.{k}", v) for k, v in value.items()]
        return {"$items": [[key, _encode(v, below, tensors)] for key, below, v in pairs]}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return _encode_tensor(value, at, tensors)
    if isinstance(value, np.random.Generator):
        return {"$generator": _encode(value.bit_generator.state, at, tensors)}
    raise _unsaveable(value, at)


def _encode_tensor(value: Any, at: str, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    kind = "$tensor"
    tensor = value
    if not isinstance(value, torch.Tensor):
        kind = "$array" if isinstance(value, np.ndarray) else "$scalar"
        try:
            tensor = torch.from_numpy(np.array(value, order="C"))
        except (TypeError, ValueError) as error:
            raise _unsaveable(value, at) from error
    if tensor.dtype not in _DTYPES or tensor.layout is not torch.strided:
        raise _unsaveable(value, at)
    name = at.lstrip(".")
    while name in tensors or name == "__metadata__":  # {"a.b": …} beside {"a": {"b": …}}
        name += "'"
    tensors[name] = _copy(tensor)
    return {kind: name}


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """TENSOR on the CPU, in memory of its own: safetensors refuses tensors that share it."""
    return tensor.detach().cpu().contiguous().clone()


def _unsaveable(value: Any, at: str) -> TypeError:
    return TypeError(
        f"{at.lstrip('.') or 'the state'} is a {type(value).__name__}, which cannot be saved: "
        "save tensors, arrays, numbers, text, and lists and dicts of these"
    )


def _decode(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    match list(value.items()):
        case [("$tuple", items)]:
            return tuple(_decode(v, tensors) for v in items)
        case [("$items", items)]:
            return {_decode(k, tensors): _decode(v, tensors) for k, v in items}
        case [("$bytes", text)]:
            return base64.b64decode(text)
        case [("$tensor", key)]:
            return tensors[key]
        case [("$scalar", key)]:
            return tensors[key].numpy()[()]
        case [("$array", key)]:
            return tensors[key].numpy()
        case [("$generator", state)]:
            state = _decode(state, tensors)
            if state["bit_generator"] not in _BIT_GENERATORS:
                raise ValueError(f"there is no bit generator {state['bit_generator']!r}")
            bits = getattr(np.random, state["bit_generator"])()
            bits.state = state
            return np.random.Generator(bits)
    return {k: _decode(v, tensors) for k, v in value.items()}


def tensors_sha256(file: Path) -> str:
    """SHA-256 over names, types, shapes and values of the tensors in a safetensors FILE.

    Unlike the file's own hash it does not depend on the order or alignment they are stored in.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(load_tensors(file).items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Saved:
    """Gives an algorithm `save` and `load` from a list of its attributes.

    An attribute with `state_dict` and `load_state_dict` is saved through them, any other by its
    value. The parameters and buffers of modules go to `weights.safetensors`, the rest to `state`.
    """

    saved: ClassVar[tuple[str, ...]]
    """The names of the attributes that make up the state."""

    def save(self, directory: Path) -> None:
        """Write the state into DIRECTORY. `DivergedError` if a weight is not finite."""
        weights, rest = {}, {}
        for name in self.saved:
            value = getattr(self, name)
            if isinstance(value, torch.nn.Module):
                module = _unwrapped(value)
                for key, parameter in module.named_parameters():
                    if not parameter.isfinite().all():
                        raise DivergedError(f"the weights {name}.{key} are no longer finite")
                for key, tensor in module.state_dict().items():
                    weights[f"{name}.{key}"] = _copy(tensor)
            else:
                rest[name] = value.state_dict() if hasattr(value, "state_dict") else value
        if weights:
            (directory / "weights.safetensors").write_bytes(save(weights))
        save_tree(directory / "state", rest)

    def load(self, directory: Path) -> None:
        """Become what was saved in DIRECTORY. `CheckpointError` if it holds something else."""
        try:
            rest = load_tree(directory / "state")
            weights = load_tensors(directory / "weights.safetensors")
            for name in self.saved:
                value = getattr(self, name)
                if isinstance(value, torch.nn.Module):
                    prefix = f"{name}."
                    _unwrapped(value).load_state_dict(
                        {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}
                    )
                elif hasattr(value, "load_state_dict"):
                    value.load_state_dict(rest[name])
                elif isinstance(value, torch.Tensor):
                    setattr(self, name, rest[name].to(value.device))
                else:
                    setattr(self, name, rest[name])
        except (CheckpointError, KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"{directory}: this is not the state of this {type(self).__name__} ({reason})"
            ) from error


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """MODULE without what makes it data-parallel."""
    if isinstance(module, torch.nn.parallel.DistributedDataParallel | torch.nn.DataParallel):
        return module.module  # type: ignore[no-any-return]
    return module
