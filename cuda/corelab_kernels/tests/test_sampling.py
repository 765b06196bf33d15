from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from corelab_kernels import build, nvidia, reference, sampling
from corelab_kernels.build import NoCompiler
from corelab_kernels.sampling import (
    categorical_log_prob,
    logistic_mixture_log_prob,
    sample_categorical,
    sample_logistic_mixture,
)

from corelab import ConfigError, DivergedError

SOURCE = Path(sampling.__file__).with_name("sampling.cpp")
BLOCKS = Path(__file__).with_name("blocks.cpp")
INF = float("inf")


@pytest.fixture
def uncompiled(monkeypatch):
    """No library: as on a machine without a compiler."""

    def load(name, flags=()):
        raise NoCompiler(f"{name}.cpp cannot be compiled: c++ is not installed")

    monkeypatch.setattr(build, "load", load)
    for cached in (sampling._library, sampling._compiled):
        cached.cache_clear()
    yield
    for cached in (sampling._library, sampling._compiled):
        cached.cache_clear()


@pytest.fixture
def way(request):
    """Run with the library or, saying so, without."""
    if request.param == "torch":
        request.getfixturevalue("uncompiled")
        with pytest.warns(UserWarning, match="is not installed; PyTorch draws the same"):
            sample_categorical(torch.zeros(1, 2), 0)
    else:
        request.getfixturevalue("cxx")


each_way = pytest.mark.parametrize("way", ["compiled", "torch"], indirect=True)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mixtures(n, components, seed=0):
    parameters = randn(n, 3, components, seed=seed)
    parameters[:, 2] = 2 * parameters[:, 2] - 3
    return parameters


def symbols(n, levels, seed=0):
    drawn = torch.randint(levels, (n,), generator=torch.Generator().manual_seed(seed))
    drawn[:4] = torch.tensor([0, levels - 1, 0, levels - 1])
    return drawn


def log_mass(parameters, levels):
    """Log-probabilities of LEVELS under the mixtures PARAMETERS, both float64 and by definition."""
    logits, location, log_scale = parameters.unbind(1)
    scale = log_scale.clamp(-7, 7).exp()
    x = (levels.to(parameters) / 127.5 - 1)[:, None]
    # the smaller tail, where nothing cancels, whichever side of the location it is on
    side = torch.where(x < location, 1.0, -1.0).to(x)
    near = torch.sigmoid(side * (x + side / 255 - location) / scale)
    far = torch.sigmoid(side * (x - side / 255 - location) / scale)
    lowest, highest = (levels == 0)[:, None], (levels == 255)[:, None]
    low_edge, high_edge = (lowest & (side > 0)), (highest & (side < 0))
    far = torch.where(low_edge | high_edge, 0.0, far)
    near = torch.where((lowest & (side < 0)) | (highest & (side > 0)), 1.0, near)
    return torch.logsumexp(logits.log_softmax(1) + (near - far).log(), 1)


def chi_square(drawn, p):
    """How far the counts of DRAWN are from N P in standard deviations of that distance."""
    n, seen = len(drawn), np.bincount(drawn.numpy(), minlength=len(p))
    p = p.double().numpy()
    assert not seen[p == 0].any()
    often = n * p > 5
    observed = np.append(seen[often], seen[~often].sum())
    expected = n * np.append(p[often], p[~often].sum())
    keep = expected > 0
    distance = ((observed - expected)[keep] ** 2 / expected[keep]).sum()
    freedom = keep.sum() - 1
    return (distance - freedom) / np.sqrt(2 * freedom)


# ---- what is drawn -------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("classes", [1, 2, 5, 100, 256, 1000, 70_000])
def test_classes_are_drawn_as_often_as_they_are_likely(way, classes):
    logits = 1.5 * randn(classes, seed=classes)
    logits[1:2] = -INF
    n = 20_000 if classes <= 1000 else 300
    drawn = sample_categorical(logits.expand(n, -1).contiguous(), seed=3)
    p = logits.softmax(0)
    assert p[drawn].all()
    if classes > 2:  # of one or two, only one can be
        every = torch.arange(classes)
        for groups in [every] if n > classes else [every % 30, every * 30 // classes]:
            together = torch.zeros(int(groups.max()) + 1).index_add_(0, groups, p)
            assert abs(chi_square(groups[drawn], together)) < 4.5


@each_way
def test_a_low_temperature_draws_the_likeliest(way):
    logits = randn(1, 10).expand(20_000, -1).contiguous()
    for temperature in (0.5, 2.0):
        drawn = sample_categorical(logits, 1, temperature=temperature)
        assert abs(chi_square(drawn, (logits[0] / temperature).softmax(0))) < 4.5
    assert (sample_categorical(logits, 1, temperature=1e-3) == logits[0].argmax()).all()


@each_way
@pytest.mark.parametrize("components", [1, 5, 33])
def test_levels_are_drawn_as_often_as_they_are_likely(way, components):
    parameters = mixtures(1, components, seed=components)
    drawn = sample_logistic_mixture(parameters.expand(20_000, -1, -1).contiguous(), seed=8)
    p = log_mass(parameters.double().expand(256, -1, -1), torch.arange(256)).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    assert abs(chi_square(drawn, p)) < 4.5


@pytest.mark.compiled
def test_rows_and_seeds_are_independent():
    logits = torch.zeros(20_000, 4)
    one, other = sample_categorical(logits, 1), sample_categorical(logits, 2)
    pairs = [4 * one + other, 4 * one + one.roll(1), 4 * one + sample_categorical(logits, 1 << 40)]
    for pair in pairs:
        assert abs(chi_square(pair, torch.full((16,), 1 / 16))) < 4.5


@each_way
def test_a_batch_may_be_drawn_in_parts(way):
    for draw, given in [
        (sample_categorical, randn(130, 300)),
        (sample_categorical, randn(130, 5)),
        (sample_logistic_mixture, mixtures(130, 5)),
    ]:
        whole = draw(given, 5, first=2**32 - 60)
        for at in (1, 60, 129):
            parts = [
                draw(given[:at], 5, first=2**32 - 60),
                draw(given[at:], 5, first=2**32 - 60 + at),
            ]
            assert torch.equal(torch.cat(parts), whole)
        assert not torch.equal(draw(given, 5), whole)


@pytest.mark.compiled
def test_the_number_of_threads_does_not_matter():
    logits, parameters, threads = randn(700, 300), mixtures(15_000, 5), torch.get_num_threads()
    one = sample_categorical(logits, 1), sample_logistic_mixture(parameters, 1)
    torch.set_num_threads(3)
    try:
        three = sample_categorical(logits, 1), sample_logistic_mixture(parameters, 1)
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, one, three))


@pytest.mark.compiled
@pytest.mark.parametrize("classes", [2, 17, 300, 70_000])
def test_the_library_draws_what_pytorch_does(classes):
    logits = 2 * randn(1000 if classes < 1000 else 50, classes)
    expected = reference.sample_categorical(logits, 1.0, 9, 4)
    # but where a draw falls between two classes, rounding decides
    assert (sample_categorical(logits, 9, first=4) == expected).double().mean() >= 0.998
    parameters = mixtures(1000, 5)
    expected = reference.sample_logistic_mixture(parameters, 9, 4)
    assert (sample_logistic_mixture(parameters, 9, first=4) == expected).double().mean() >= 0.998


# ---- log-probabilities ---------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("classes", [1, 3, 256, 5000])
def test_log_probabilities_of_classes_and_their_slopes_are_the_softmaxs(way, classes):
    logits = (3 * randn(40, classes)).requires_grad_()
    chosen, weights = symbols(40, classes), randn(40)
    exact = logits.detach().double().requires_grad_()
    expected = exact.log_softmax(1).gather(1, chosen[:, None])[:, 0]
    found = categorical_log_prob(logits, chosen)
    assert torch.allclose(found.double(), expected, rtol=1e-6, atol=1e-5)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(logits.grad.double(), exact.grad, rtol=1e-5, atol=1e-6)


@each_way
@pytest.mark.parametrize("components", [1, 5, 33])
def test_log_probabilities_of_levels_and_their_slopes_are_the_mixtures(way, components):
    parameters = mixtures(2000, components)
    parameters[:, 2].clamp_(min=-4)
    parameters[10, 2], parameters[11, 2] = 8, 7.5  # beyond the widest: no slope
    chosen, weights = symbols(2000, 256), randn(2000)
    exact = parameters.double().requires_grad_()
    parameters.requires_grad_()
    expected = log_mass(exact, chosen)
    found = logistic_mixture_log_prob(parameters, chosen)
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=2e-5)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(parameters.grad.double(), exact.grad, rtol=2e-4, atol=2e-4)
    assert not parameters.grad[10:12, 2].any()


@each_way
def test_an_improbable_level_has_a_finite_logarithm_and_a_slope_towards_it(way):
    parameters = torch.tensor([[[0.0], [0.9], [-7.0]]]).repeat(2, 1, 1).requires_grad_()
    found = logistic_mixture_log_prob(parameters, torch.tensor([3, 252]))
    assert found[0].item() == pytest.approx(-2058, rel=1e-2)
    found.sum().backward()
    assert parameters.grad.isfinite().all()
    assert parameters.grad[0, 1] < -1000 < 1000 < parameters.grad[1, 1]


# ---- operators of PyTorch ------------------------------------------------------------------------


def calls():
    logits, chosen = randn(3, 4, 20), symbols(12, 20).view(3, 4)
    parameters, levels = mixtures(12, 5).view(3, 4, 3, 5), symbols(12, 256).view(3, 4)
    ops = torch.ops.corelab
    sums = ops.categorical_log_prob(logits, chosen)[1]
    return [
        (ops.sample_categorical, (logits, 1.0, 3, 0)),
        (ops.categorical_log_prob, (logits.clone().requires_grad_(), chosen)),
        (ops.categorical_slopes, (randn(3, 4), logits, chosen, sums)),
        (ops.sample_logistic_mixture, (parameters, 3, 0)),
        (ops.logistic_mixture_log_prob, (parameters.clone().requires_grad_(), levels)),
        (ops.logistic_mixture_slopes, (randn(3, 4), parameters, levels)),
    ]


@pytest.mark.compiled
@pytest.mark.parametrize("i", range(6))
def test_pytorch_finds_nothing_wrong_with_the_operators(i):
    operator, arguments = calls()[i]
    torch.library.opcheck(operator.default, arguments)


def loss(logits, parameters):
    drawn, levels = sample_categorical(logits, 1), sample_logistic_mixture(parameters, 1)
    log_p = categorical_log_prob(logits, drawn) + logistic_mixture_log_prob(parameters, levels)
    return log_p.sum()


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_they_are_usable_in_one_compiled_graph(backend):
    plain, compiled = ((randn(6, 9), mixtures(6, 3)) for _ in range(2))
    for each in (*plain, *compiled):
        each.requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of its compiler
        found = torch.compile(loss, backend=backend, fullgraph=True)(*compiled)
        found.backward()
    expected = loss(*plain)
    expected.backward()
    assert torch.allclose(found, expected)
    for a, b in zip(plain, compiled, strict=True):
        assert torch.allclose(a.grad, b.grad)


@pytest.mark.compiled
def test_empty_batches_are_empty():
    assert sample_categorical(torch.zeros(0, 5), 1).shape == (0,)
    assert logistic_mixture_log_prob(torch.zeros(2, 0, 3, 5), torch.zeros(2, 0).long()).shape == (
        2,
        0,
    )


# ---- what makes no sense -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: sample_categorical(torch.zeros(2, 3).double(), 1),
            "logits are torch.float64; they",
        ),
        (
            lambda: sample_categorical(torch.zeros(()), 1),
            r"logits are \[\]; they must be \[..., V\]",
        ),
        (lambda: sample_categorical(torch.zeros(2, 0), 1), r"logits are \[2, 0\]; they must be"),
        (lambda: sample_categorical(torch.zeros(3, 2).t(), 1), "logits are not contiguous; say"),
        (
            lambda: sample_categorical(torch.zeros(3, 2, device="meta"), 1),
            "logits are on meta; they",
        ),
        (
            lambda: sample_categorical(torch.eye(2).to_sparse(), 1),
            "layout torch.sparse_coo; it must",
        ),
        (lambda: sample_categorical(torch.zeros(2, 3), -1), "seed is -1; it must be from 0 to 2"),
        (lambda: sample_categorical(torch.zeros(2, 3), 0, first=-2), "first row is -2; it must be"),
        (
            lambda: sample_categorical(torch.zeros(2, 3), 0, temperature=0),
            "temperature is 0; it must be positive",
        ),
        (
            lambda: sample_logistic_mixture(torch.zeros(2, 4, 5), 1),
            r"parameters are \[2, 4, 5\]; they must be \[..., 3, K\]",
        ),
        (
            lambda: categorical_log_prob(torch.zeros(2, 3), torch.tensor([0, 3])),
            "there is a symbol 3; they must be from 0 to 2",
        ),
        (
            lambda: logistic_mixture_log_prob(torch.zeros(1, 3, 5), torch.tensor([-1])),
            "there is a symbol -1; they must be from 0 to 255",
        ),
        (
            lambda: categorical_log_prob(torch.zeros(2, 3), torch.zeros(3).int()),
            r"torch.int32 \[3\] on cpu; they must be torch.int64 \[2\] on cpu",
        ),
        (
            lambda: categorical_log_prob(torch.zeros(2, 3), torch.zeros(4).long()[::2]),
            "symbols are not contiguous",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_named(call, sentence):
    with pytest.raises(ConfigError, match=sentence):
        call()


@each_way
@pytest.mark.parametrize("wrong", [torch.nan, INF])
@pytest.mark.parametrize("classes", [5, 300])
def test_nothing_is_drawn_from_what_is_no_number(way, wrong, classes):
    logits, parameters = randn(6, classes), mixtures(6, classes)
    logits[4, classes - 2] = parameters[4, 0, classes - 2] = wrong
    with pytest.raises(DivergedError, match="the logits of a row are NaN or infinite"):
        sample_categorical(logits, 1)
    with pytest.raises(DivergedError, match="the parameters of a row are NaN or infinite"):
        sample_logistic_mixture(parameters, 1)
    with pytest.raises(DivergedError, match="the logits of a row"):
        sample_categorical(torch.full((1, classes), -INF), 1)


@each_way
def test_a_log_probability_from_what_is_no_number_is_none(way):
    logits, parameters = randn(2, 5), mixtures(2, 5)
    logits[1, 3] = parameters[1, 1, 2] = torch.nan
    for found in (
        categorical_log_prob(logits, torch.tensor([0, 0])),
        logistic_mixture_log_prob(parameters, torch.tensor([0, 9])),
    ):
        assert found.isnan().tolist() == [False, True]


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("log_prob", "shape"), [(categorical_log_prob, (3, 5)), (logistic_mixture_log_prob, (3, 3, 5))]
)
def test_a_second_derivative_is_refused(log_prob, shape):
    x = randn(*shape).requires_grad_()
    found = log_prob(x, torch.tensor([0, 1, 2])).sum()
    (slope,) = torch.autograd.grad(found, x, create_graph=True)
    with pytest.raises(ConfigError, match="have no second derivatives"):
        slope.square().sum().backward()


def test_it_is_said_once_that_there_is_no_compiler(uncompiled):
    assert "cannot be compiled: c++ is not installed" in sampling.missing()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for seed in range(3):
            sample_categorical(torch.zeros(2, 3), seed)
    assert [str(warning.message) for warning in said] == [
        "sampling.cpp cannot be compiled: c++ is not installed; PyTorch draws the same "
        "distributions instead, more slowly"
    ]


# ---- the same bits, and no others' memory --------------------------------------------------------


def everything(device="cpu", rows=37):
    """What all the operators give, for ROWS rows of logits of each width."""
    found = []
    for classes in (1, 3, 33, 256, 1000, 70_000):
        logits = (2 * randn(rows, classes)).to(device)
        chosen, weights = symbols(rows, classes).to(device), randn(rows).to(device)
        log_p, sums = torch.ops.corelab.categorical_log_prob(logits, chosen)
        slopes = torch.ops.corelab.categorical_slopes(weights, logits, chosen, sums)
        found += [sample_categorical(logits, 7, first=2**33), log_p, sums, slopes]
    for components in (1, 5, 33):
        parameters = mixtures(101, components).to(device)
        chosen, weights = symbols(101, 256).to(device), randn(101).to(device)
        found += [
            sample_logistic_mixture(parameters, 7, first=2**33),
            logistic_mixture_log_prob(parameters, chosen),
            torch.ops.corelab.logistic_mixture_slopes(weights, parameters, chosen),
        ]
    return [each.cpu() for each in found]


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("flags", ["-O0", "-O3", "x86-64-v3", "x86-64-v4"])
def test_every_build_of_the_library_gives_the_same_bits(flags, tmp_path, monkeypatch):
    here = everything()
    if flags.startswith("-"):
        built = build.build(SOURCE, tmp_path, (*build.exact(""), flags))
    elif flags > build.instructions():
        pytest.skip(f"this processor does not know {flags}")
    else:
        built = build.build(SOURCE, tmp_path, build.exact(flags))
    library = ctypes.CDLL(str(built))
    monkeypatch.setattr(sampling, "_library", lambda: library)
    sampling._compiled.cache_clear()
    try:
        assert all(map(torch.equal, everything(), here))
    finally:
        sampling._compiled.cache_clear()


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize(
    ("sanitizer", "name"),
    [
        ("address,undefined", "sampling_main.cpp"),
        ("thread", "sampling_main.cpp"),
        ("thread", "blocks.cpp"),
    ],
)
def test_sanitizers_find_nothing(sanitizer, name, tmp_path):
    done = sanitized(Path(__file__).with_name(name).read_text(), sanitizer, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("barrier", [1, 2, 3, 4, 5])
def test_a_sanitizer_would_find_that_a_barrier_is_missing(barrier, tmp_path):
    kernels = SOURCE.with_suffix(".cu").read_text().split("__syncthreads();")
    rest = "__syncthreads();".join(kernels[barrier:])
    broken = "__syncthreads();".join(kernels[:barrier]) + rest
    done = sanitized(
        BLOCKS.read_text().replace('#include "../sampling.cu"', broken), "thread", tmp_path
    )
    assert done.returncode != 0
    assert "data race" in done.stderr


def sanitized(text, sanitizer, folder):
    """What the program TEXT says, built with SANITIZER."""
    text = text.replace('"../', f'"{SOURCE.parent}/')
    for name in ("sampling.h", "tests/driver.h"):
        text = text.replace(f'"{Path(name).name}"', f'"{SOURCE.parent}/{name}"')
    (folder / "program.cpp").write_text(text)
    flags = ["-std=c++20", "-O1", "-g", "-pthread", "-ffp-contract=off", "-DPROGRAM"]
    compiler = build.compiler(folder)
    checks = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    command = [compiler, *flags, *checks, "-o", folder / "program", folder / "program.cpp"]
    subprocess.run(command, check=True)
    return subprocess.run([folder / "program"], capture_output=True, text=True, check=False)


@pytest.mark.compiled
def test_what_runs_on_a_gpu_gives_the_same_bits_on_a_cpu_thread_by_thread(drive, monkeypatch):
    here, driver = everything(rows=10), drive(BLOCKS)
    kernels = nvidia.load("sampling", 0)

    def launch(name, blocks, *arguments):
        sizes = [driver.parameter_size(name.encode(), i) for i in range(len(arguments) + 1)]
        assert sizes == [*map(ctypes.sizeof, arguments), -1]
        kernels.launch(name, blocks, sampling._THREADS, *arguments)

    monkeypatch.setattr(sampling, "_compiled", lambda device: launch)
    assert all(map(torch.equal, everything(rows=10), here))


# ---- on a GPU ------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_a_gpu_gives_the_bits_of_the_cpu():
    assert all(map(torch.equal, everything("cuda"), everything()))


@pytest.mark.gpu
def test_a_gpu_has_more_rows_than_a_grid_is_high_on_any_stream():
    logits, parameters = randn(600_000, 5), mixtures(20_000_000, 1)
    with torch.cuda.stream(torch.cuda.Stream()):
        drawn = sample_categorical(logits.cuda(), 3)
        levels = sample_logistic_mixture(parameters.cuda(), 3)
    torch.cuda.synchronize()
    assert torch.equal(drawn.cpu(), sample_categorical(logits, 3))
    assert torch.equal(levels.cpu(), sample_logistic_mixture(parameters, 3))


@pytest.mark.gpu
@pytest.mark.parametrize("i", range(6))
def test_pytorch_finds_nothing_wrong_with_the_operators_on_a_gpu(i):
    operator, arguments = calls()[i]
    there = [
        each.detach().cuda().requires_grad_(each.requires_grad) if torch.is_tensor(each) else each
        for each in arguments
    ]
    torch.library.opcheck(operator.default, there)


@pytest.mark.gpu
def test_a_batch_may_be_divided_among_gpus():
    last = f"cuda:{torch.cuda.device_count() - 1}"  # the same one, if there is no other
    for draw, given in [
        (sample_categorical, randn(130, 300)),
        (sample_logistic_mixture, mixtures(130, 5)),
    ]:
        parts = draw(given[:70].to("cuda:0"), 5), draw(given[70:].to(last), 5, first=70)
        assert torch.equal(torch.cat([part.cpu() for part in parts]), draw(given, 5))


@pytest.mark.gpu
def test_a_cuda_graph_draws_anew_from_new_logits():
    logits = randn(64, 256).cuda()
    sample_categorical(logits, 1)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        drawn = sample_categorical(logits, 1)
    for seed in (1, 2):
        logits.copy_(randn(64, 256, seed=seed))
        graph.replay()
        assert torch.equal(drawn, sample_categorical(logits, 1))
    logits[3] = torch.nan
    graph.replay()
    assert drawn[3] == -1
    assert (drawn >= 0).sum() == 63


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
@pytest.mark.parametrize(
    "run",
    [
        "from test_sampling import everything; everything('cuda')",
        "from test_pixelcnn_source import *\n"
        "for pixelcnn._CLUSTERS in (1,), (2,):\n"
        "    pixelcnn._team.cache_clear()\n"
        "    for name in NETWORKS: test_a_gpu_draws_the_images_of_the_cpu(name)",
    ],
    ids=["sampling", "pixelcnn"],
)
def test_compute_sanitizer_finds_nothing(tool, run):
    if not shutil.which("compute-sanitizer"):
        pytest.skip("there is no compute-sanitizer")
    code = f"import sys; sys.path[:0] = {sys.path!r}; {run}"
    command = [
        "compute-sanitizer",
        "--tool",
        tool,
        "--error-exitcode",
        "1",
        sys.executable,
        "-c",
        code,
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "ERROR SUMMARY: 0 errors" in done.stdout or "0 hazards" in done.stdout
