"""State on disk: what is loaded is, bit for bit, what was saved, and nothing executes."""

from __future__ import annotations

import json
import pickle
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from corelab import CheckpointError, DivergedError, Saved
from corelab.state import load_tree, save_tree, tensors_sha256


def came_back(tree: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        save_tree(Path(folder, "tree"), tree)
        return load_tree(Path(folder, "tree"))


def bits(value: Any) -> Any:
    """VALUE with its types, as something whose == means the same bits."""
    if isinstance(value, dict):
        return [(bits(k), bits(v)) for k, v in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [bits(v) for v in value]
    if isinstance(value, torch.Tensor):
        flat = value.detach().contiguous().view(-1).view(torch.uint8)
        return torch.Tensor, value.dtype, value.shape, flat.numpy().tobytes()
    if isinstance(value, np.ndarray | np.generic):
        return type(value), value.dtype, value.shape, value.tobytes()
    if isinstance(value, float):
        return float, struct.pack("d", value)
    return type(value), value


# -- trees -------------------------------------------------------------------------------------

NP_TYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64"),
)
TORCH_TYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
]
SHAPES = st.sampled_from([(), (0,), (1,), (3,), (2, 3), (0, 2), (2, 1, 2)])


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Arrays of any bits, NaNs among them."""
    dtype, shape = np.dtype(draw(st.sampled_from(NP_TYPES))), draw(SHAPES)
    size = int(np.prod(shape)) * dtype.itemsize
    array = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)
    return array != 0 if dtype.kind == "b" else array.copy()


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    dtype, shape = draw(st.sampled_from(TORCH_TYPES)), draw(SHAPES)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = torch.tensor(list(draw(st.binary(min_size=size, max_size=size))), dtype=torch.uint8)
    return raw.bool().view(shape) if dtype == torch.bool else raw.view(dtype).view(shape)


SIMPLE = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
)
KEYS = st.text(max_size=3) | st.sampled_from(["$tensor", "$", "a.b", "__metadata__"]) | SIMPLE
LEAVES = (
    SIMPLE
    | st.sampled_from([float("nan"), float("inf"), -float("inf"), -0.0])
    | st.binary(max_size=4)
    | arrays()
    | arrays().filter(lambda a: a.size > 0).map(lambda a: a.reshape(-1)[0])
    | tensors()
)
TREES = st.recursive(
    LEAVES,
    lambda t: (
        st.lists(t, max_size=3)
        | st.lists(t, max_size=3).map(tuple)
        # 0 and False are one key to Python, and so are their likes
        | st.lists(st.tuples(KEYS, t), max_size=3, unique_by=lambda kv: kv[0]).map(dict)
    ),
    max_leaves=8,
)


@given(TREES)
def test_any_tree_comes_back_bit_for_bit(tree: Any) -> None:
    assert bits(came_back(tree)) == bits(tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"a.b": torch.tensor(1.0), "a": {"b": torch.tensor(2.0)}},
        {1: torch.tensor(1.0), "1": torch.tensor(2.0)},
        {"a": {"0": np.ones(1)}, "a.0": np.zeros(1)},
    ],
    ids=["dotted", "number", "nested"],
)
def test_arrays_whose_names_look_alike_are_kept_apart(tree: Any) -> None:
    assert bits(came_back(tree)) == bits(tree)


@pytest.mark.parametrize("mark", ["$tensor", "$tuple", "$items", "$bytes", "$anything"])
def test_names_that_look_like_marks_come_back(mark: str) -> None:
    tree = {"own": {mark: "a"}, "together": {mark: [1], "b": 2}}
    assert bits(came_back(tree)) == bits(tree)


def test_tensors_that_share_memory_come_back() -> None:
    whole = torch.arange(6.0)
    tree = {"whole": whole, "again": whole, "part": whole[2:], "seen": whole.view(2, 3).T}
    assert bits(came_back(tree)) == bits(tree)


def test_the_state_of_an_optimizer_comes_back() -> None:
    net = torch.nn.Linear(3, 2)
    adam = torch.optim.Adam(net.parameters(), betas=(0.8, 0.99))
    net(torch.ones(3)).sum().backward()
    adam.step()
    state = adam.state_dict()
    assert bits(came_back(state)) == bits(state)


@pytest.mark.parametrize("kind", ["PCG64", "MT19937", "Philox", "SFC64"])
def test_a_generator_comes_back_in_the_middle_of_its_stream(kind: str) -> None:
    generator = np.random.Generator(getattr(np.random, kind)(3))
    generator.random(5)
    generator.integers(9, dtype=np.int32)
    back = came_back({"rng": generator})["rng"]
    drawn = [g.integers(2**31, dtype=np.int32, size=5).tolist() for g in (back, generator)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({1, 2}, "set"),
        (1j, "complex"),
        (object(), "object"),
        (np.array([object()]), "ndarray"),
        (np.datetime64("2020-01-01"), "datetime64"),
        (np.str_("a"), "str_"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_what_cannot_be_saved_is_named_with_its_place(value: object, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"replay\.1\.extra is a {kind}, which cannot be saved"):
        came_back({"replay": [0, {"extra": value}]})


@pytest.mark.parametrize(
    "value",
    [
        np.ones(2, np.complex128),
        torch.ones(2, dtype=torch.complex128),
        np.ones(2, np.longdouble),
        np.ones(2, ">f4"),
        {np.int64(3): 1},
        {(0, 1): 0.5, (1, ()): -1.0},
        {b"\0": 1},
    ],
    ids=repr,
)
def test_what_is_unusual_comes_back_or_is_named_with_its_place(value: object) -> None:
    tree, said = {"replay": [0, {"extra": value}]}, ""
    try:
        back = came_back(tree)
    except TypeError as error:
        back, said = tree, str(error)
    assert bits(back) == bits(tree)
    assert "replay.1.extra" in said or not said


# -- nothing executes --------------------------------------------------------------------------


class Trap:
    """Makes the file FILE when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


class Learner(Saved):
    saved = ("net", "optimizer", "rng", "baseline", "seen", "progress")

    def __init__(self, seed: int = 0, width: int = 3) -> None:
        torch.manual_seed(seed)
        self.net = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.BatchNorm1d(width))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.1)
        self.rng = np.random.default_rng(seed)
        self.baseline = torch.zeros(3)
        self.seen: dict[int, list[float]] = {}
        self.progress = 0

    def step(self) -> None:
        batch = torch.from_numpy(self.rng.random((4, 2), np.float32))
        loss = self.net(batch).square().mean() + self.baseline.sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.baseline += self.rng.random()
        self.progress += 1
        self.seen[self.progress] = [loss.item()]


@pytest.fixture(autouse=True)
def seeded() -> Any:
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("name", ["weights.safetensors", "state.safetensors", "state.json"])
def test_a_pickle_in_the_place_of_any_file_is_refused_and_not_run(
    name: str, tmp_path: Path
) -> None:
    folder, sprung = tmp_path / "saved", tmp_path / "sprung"
    folder.mkdir()
    Learner().save(folder)
    assert (folder / name).exists()
    (folder / name).write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(CheckpointError, match="is not the state of this Learner"):
        Learner().load(folder)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists(), "the trap is none"


def test_a_generator_of_an_unknown_kind_is_refused_and_not_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    monkeypatch.setattr(np.random, "trap", lambda: called.append(1), raising=False)
    Learner().save(tmp_path)
    file = tmp_path / "state.json"
    assert '"PCG64"' in file.read_text()
    file.write_text(file.read_text().replace('"PCG64"', '"trap"'))
    with pytest.raises(CheckpointError):
        Learner().load(tmp_path)
    assert called == []


# -- the attributes of an algorithm ------------------------------------------------------------


def test_a_learner_that_was_saved_and_loaded_goes_on_bit_for_bit(tmp_path: Path) -> None:
    learner = Learner()
    for _ in range(3):
        learner.step()
    learner.save(tmp_path)
    resumed = Learner(seed=1)
    resumed.step()
    resumed.load(tmp_path)
    for _ in range(3):
        learner.step()
        resumed.step()
    assert bits(resumed.net.state_dict()) == bits(learner.net.state_dict())
    assert bits(resumed.optimizer.state_dict()) == bits(learner.optimizer.state_dict())
    assert bits(resumed.baseline) == bits(learner.baseline)
    assert bits(resumed.seen) == bits(learner.seen)
    assert (resumed.progress, resumed.rng.random()) == (6, learner.rng.random())


def test_the_weights_and_nothing_else_are_in_the_file_of_weights(tmp_path: Path) -> None:
    learner = Learner()
    learner.step()
    learner.save(tmp_path)
    stored = sorted(load_file(tmp_path / "weights.safetensors").items())
    weights = sorted(learner.net.state_dict().items())
    assert bits(stored) == bits([(f"net.{name}", tensor) for name, tensor in weights])
    assert set(load_tree(tmp_path / "state")) == set(Learner.saved) - {"net"}


class Bare(Saved):
    saved = ("net",)

    def __init__(self, net: torch.nn.Module) -> None:
        self.net = net


def test_weights_of_a_data_parallel_wrapper_are_those_of_its_module(tmp_path: Path) -> None:
    wrapped = Bare(torch.nn.DataParallel(torch.nn.Linear(2, 1)))
    wrapped.save(tmp_path)
    plain = Bare(torch.nn.Linear(2, 1))
    plain.load(tmp_path)
    assert torch.equal(plain.net.weight, wrapped.net.module.weight)  # type: ignore[arg-type, union-attr]


def test_an_averaged_network_comes_back_with_the_count_of_its_averages(tmp_path: Path) -> None:
    """`AveragedModel` keeps its network in `module`, too, and is no data-parallel wrapper."""

    def average() -> torch.optim.swa_utils.AveragedModel:
        return torch.optim.swa_utils.AveragedModel(torch.nn.Linear(2, 1))

    saved, loaded = Bare(average()), Bare(average())
    saved.net.update_parameters(torch.nn.Linear(2, 1))  # type: ignore[operator]
    saved.save(tmp_path)
    loaded.load(tmp_path)
    assert bits(loaded.net.state_dict()) == bits(saved.net.state_dict())


def test_tied_weights_come_back_tied(tmp_path: Path) -> None:
    def tied() -> Bare:
        first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        second.weight = first.weight
        return Bare(torch.nn.Sequential(first, second))

    saved, loaded = tied(), tied()
    saved.save(tmp_path)
    loaded.load(tmp_path)
    assert bits(loaded.net.state_dict()) == bits(saved.net.state_dict())
    assert loaded.net[0].weight is loaded.net[1].weight  # type: ignore[index]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, tmp_path: Path) -> None:
    learner = Learner()
    with torch.no_grad():
        learner.net[0].weight[1, 1] = value  # type: ignore[index]
    with pytest.raises(DivergedError, match=r"net\.0\.weight"):
        learner.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_mask_of_minus_infinities_is_no_divergence(tmp_path: Path) -> None:
    def masked(value: float) -> Bare:
        net = torch.nn.Linear(2, 2)
        net.register_buffer("mask", torch.full((2, 2), value).triu(1))
        return Bare(net)

    masked(-float("inf")).save(tmp_path)
    loaded = masked(0.0)
    loaded.load(tmp_path)
    assert loaded.net.mask[0, 1] == -float("inf")  # type: ignore[index]


class Other(Saved):
    saved = ("net", "surprise")

    def __init__(self) -> None:
        self.net, self.surprise = Learner().net, 0


@pytest.mark.parametrize(
    "stranger",
    [Learner(width=4), Other(), Bare(torch.nn.Linear(2, 3)), Bare(torch.nn.Flatten())],
    ids=["another shape", "another attribute", "another network", "no weights"],
)
def test_the_state_of_another_algorithm_is_refused(stranger: Saved, tmp_path: Path) -> None:
    Learner().save(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        stranger.load(tmp_path)
    said = str(caught.value)
    assert f"{tmp_path}: this is not the state of this {type(stranger).__name__} (" in said
    assert "\n" not in said


def test_a_folder_without_a_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="this is not the state of this Learner"):
        Learner().load(tmp_path)


def test_an_attribute_that_cannot_be_saved_is_named(tmp_path: Path) -> None:
    learner = Learner()
    learner.seen = {3: [{"odd"}]}  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"seen\.3\.0 is a set"):
        learner.save(tmp_path)


# -- the hash of weights -----------------------------------------------------------------------


def hashed(folder: Path, **tensors: torch.Tensor) -> str:
    save_tree(folder / "tree", tensors)
    return tensors_sha256(folder / "tree.safetensors")


def test_the_hash_of_weights_depends_on_all_that_matters_and_on_no_order(tmp_path: Path) -> None:
    a, b = torch.arange(4.0), torch.ones(2, 2)
    first = hashed(tmp_path, a=a, b=b)
    assert hashed(tmp_path, b=b, a=a) == first
    nudged = a.clone()
    nudged[3] = torch.nextafter(a[3], a[3] + 1)
    others = [
        *(hashed(tmp_path, a=nudged, b=b), hashed(tmp_path, a=b, b=a)),
        *(hashed(tmp_path, a=a.view(2, 2), b=b), hashed(tmp_path, a=a.view(torch.int32), b=b)),
        *(hashed(tmp_path, c=a, b=b), hashed(tmp_path, a=a), hashed(tmp_path, a=a, b=b, c=b[:0])),
    ]
    assert len({first, *others}) == 8


def test_the_files_are_text_that_names_the_arrays_and_arrays(tmp_path: Path) -> None:
    save_tree(tmp_path / "tree", {"step": 3, "adam": [torch.ones(2)]})
    text = json.loads((tmp_path / "tree.json").read_text())
    assert text["step"] == 3
    (stored,) = load_file(tmp_path / "tree.safetensors").values()
    assert torch.equal(stored, torch.ones(2))
    save_tree(tmp_path / "plain", {"step": 3})
    assert not (tmp_path / "plain.safetensors").exists()
