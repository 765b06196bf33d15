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
from safetensors.torch import load_file, save

from corelab.errors import CheckpointError, DivergedError


def save_tree(path: Path, tree: Any) -> None:
    """Write TREE to PATH.json, and its arrays, if it has any, to PATH.safetensors.

    A tree is built of dicts (keys of any simple type), lists, tuples, str, int, float, bool, None,
    bytes, torch tensors, NumPy arrays and scalars, and NumPy generators. TypeError for the rest.
    """
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_encode(tree, "", tensors), indent=1)
    path.with_suffix(".json").write_text(text)
    if tensors:
        # by way of bytes, so that a full disk is an OSError
        path.with_suffix(".safetensors").write_bytes(save(tensors))


def load_tree(path: Path) -> Any:
    """What `save_tree` wrote to PATH, tensors on the CPU."""
    text = json.loads(path.with_suffix(".json").read_text())
    file = path.with_suffix(".safetensors")
    tensors = load_file(file) if file.exists() else {}
    # cloned into memory that torch aligns: in which order sums are taken can depend on it
    return _decode(text, {name: tensor.clone() for name, tensor in tensors.items()})


def _encode(value: Any, at: str, tensors: dict[str, torch.Tensor]) -> Any:
    if value is None or (
        isinstance(value, str | bool | int | float) and not isinstance(value, np.generic)
    ):
        return value
    if isinstance(value, list):
        return [_encode(v, f"{at}.{i}", tensors) for i, v in enumerate(value)]
    if isinstance(value, tuple):
        return {"$tuple": [_encode(v, f"{at}.{i}", tensors) for i, v in enumerate(value)]}
    if isinstance(value, Mapping):
        if all(isinstance(k, str) and not k.startswith("$") for k in value):
            return {k: _encode(v, f"{at}.{k}", tensors) for k, v in value.items()}
        return {"$items": [[k, _encode(v, f"{at}.{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, torch.Tensor):
        # cloned, because safetensors refuses tensors that share memory
        tensors[at] = value.detach().cpu().contiguous().clone()
        return {"$tensor": at}
    if isinstance(value, np.generic):
        tensors[at] = torch.from_numpy(np.array(value))
        return {"$scalar": at}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        tensors[at] = torch.from_numpy(np.array(value, order="C"))
        return {"$array": at}
    if isinstance(value, np.random.Generator):
        state = value.bit_generator.state
        return {"$generator": _encode(state, at, tensors)}
    raise TypeError(
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
            return {k: _decode(v, tensors) for k, v in items}
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
            bits = getattr(np.random, state["bit_generator"])()
            bits.state = state
            return np.random.Generator(bits)
    return {k: _decode(v, tensors) for k, v in value.items()}


def tensors_sha256(file: Path) -> str:
    """SHA-256 over names, types, shapes and values of the tensors in a safetensors FILE.

    Unlike the file's own hash it does not depend on the order or alignment they are stored in.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(file).items()):
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
                module = getattr(value, "module", value)  # a data-parallel wrapper's own module
                for key, tensor in module.state_dict().items():
                    if tensor.is_floating_point() and not tensor.isfinite().all():
                        raise DivergedError(
                            f"the weights {name}.{key} are no longer finite numbers"
                        )
                    weights[f"{name}.{key}"] = tensor.detach().cpu().contiguous().clone()
            else:
                rest[name] = value.state_dict() if hasattr(value, "state_dict") else value
        if weights:
            (directory / "weights.safetensors").write_bytes(save(weights))
        save_tree(directory / "state", rest)

    def load(self, directory: Path) -> None:
        """Become what was saved in DIRECTORY. `CheckpointError` if it holds something else."""
        file = directory / "weights.safetensors"
        weights = load_file(file) if file.exists() else {}
        rest = load_tree(directory / "state")
        try:
            for name in self.saved:
                value = getattr(self, name)
                if isinstance(value, torch.nn.Module):
                    module = getattr(value, "module", value)
                    prefix = f"{name}."
                    module.load_state_dict(
                        {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}
                    )
                elif hasattr(value, "load_state_dict"):
                    value.load_state_dict(rest[name])
                elif isinstance(value, torch.Tensor):
                    setattr(self, name, rest[name].to(value.device))
                else:
                    setattr(self, name, rest[name])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"{directory}: this is not the state of this {type(self).__name__} ({reason})"
            ) from error
