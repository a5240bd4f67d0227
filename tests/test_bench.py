"""The benchmark's tables and JSON are complete and consistent; no test judges a time."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from lsd.lab import bench, bench_products
from lsd.lab.bench_frame import SizeCost, largest_fitting, pace, patterned
from lsd.lab.bench_ops import measure_ops
from lsd.lab.bench_tables import SECTIONS, show
from lsd.lab.timing import Timing, Variant, interleave
from lsd.pipeline.config import load_config
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.frame import Size
from lsd.pipeline.machine import Machine
from lsd.stages.models import engines


def test_variants_take_turns_and_the_first_of_a_burst_does_not_count():
    calls = []
    variants = {
        name: Variant(calls.append, lambda name=name: name, burst=3, discard=1) for name in "ab"
    }

    timings = interleave(variants, rounds=2)

    assert "".join(calls) == "aaabbb" * 2
    assert [len(timing.wall_ms) for timing in timings.values()] == [4, 4]


def test_only_the_run_is_timed_not_its_preparation():
    now = itertools.count(0, 1_000_000)
    wall = []

    def clock():
        wall.append(next(now))
        return wall[-1]

    timing = interleave(
        {"x": Variant(lambda _: clock(), clock, burst=2, discard=0)},
        rounds=1,
        wall_ns=clock,
        cpu_ns=itertools.count(0, 500_000).__next__,
    )["x"]

    assert timing.wall_ms == [2.0, 2.0]  # a tick for the run, one for the end
    assert timing.cpu_ms == [0.5, 0.5]


def test_percentiles_are_values_that_were_measured():
    timing = Timing([float(n) for n in range(1, 201)], [1.0] * 200)

    assert [timing.wall(p) for p in (50, 95, 99)] == [100.0, 190.0, 198.0]
    assert timing.to_json() == {
        "runs": 200,
        "wall_ms": {"p50": 100.0, "p95": 190.0, "p99": 198.0},
        "cpu_ms": 1.0,
    }


def test_largest_size_is_the_one_with_the_most_pixels_within_the_budget():
    costs = [
        SizeCost(Size(*size), Timing([ms] * 10, [ms] * 10))
        for size, ms in (((128, 128), 5.0), ((256, 64), 15.9), ((192, 192), 16.0), ((256, 256), 17))
    ]

    assert largest_fitting(costs, 16.0) == Size(192, 192)
    assert largest_fitting(costs, 4.9) is None


def test_pipeline_runs_below_its_capacity():
    assert pace(frame_ms=10.0, rate_hz=25.0) == 25.0
    for frame_ms in (30.0, 100.0, 5000.0):
        assert pace(frame_ms, 25.0) <= max(1.0, 1000.0 / frame_ms * 0.61)


def test_measured_pipeline_reads_a_pattern_and_writes_nothing():
    config = patterned(load_config("demo"), size=Size(64, 64), engine="torch")

    assert config.stages["capture"].input == "test://moving"
    assert config.stages["output"].outputs == ["null://"]
    assert config.stages["diffusion"].engine == "torch"
    assert config.size == Size(64, 64)
    assert load_config("demo").stages["output"].outputs != ["null://"]


def test_busy_machine_is_named_as_such():
    here = Machine.here()

    assert replace(here, load=0.4).warning() is None
    assert replace(here, load=None).warning() is None
    assert "the load average is 3.2" in replace(here, load=3.2).warning()
    assert here.cores >= 1
    assert {"torch", "numpy"} <= set(here.packages)


def test_every_op_is_timed_as_often_as_the_others():
    timings = measure_ops(Size(64, 64), rounds=1)

    assert {"tensor_to_frame", "texture field", "moment_match", "frame_stats"} <= set(timings)
    assert len({len(timing.wall_ms) for timing in timings.values()}) == 1


@pytest.mark.parametrize("sizes", ["12x12", "100", "32", "128,2048"])
def test_sizes_that_a_pipeline_cannot_have_are_refused(sizes):
    result = CliRunner().invoke(bench.app, ["--sizes", sizes])

    assert result.exit_code == 2
    assert f"--sizes {sizes}: " in result.output


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The JSON and the tables of one quick benchmark of everything."""
    path = tmp_path_factory.mktemp("bench") / "deep" / "bench.json"
    result = CliRunner().invoke(bench.app, ["--quick", "--json", str(path)])
    assert result.exit_code == 0, result.output
    return json.loads(path.read_text()), result.stdout


@pytest.mark.slow
def test_pipeline_s_frames_and_stages_are_all_there(quick):
    run = quick[0]["pipeline"]

    frames = run["frames"]
    lost = sum(frames["dropped"].values()) + frames["failed"] + frames["in_flight"]
    assert frames["captured"] == bench.QUICK.frames == frames["emitted"] + lost
    assert list(run["stages"]) == list(load_config("demo").stages)
    for times in (
        run["latency_ms"],
        run["overhead_ms"],
        *(s["service_ms"] for s in run["stages"].values()),
    ):
        assert 0 <= times["p50"] <= times["p95"] <= times["p99"]


@pytest.mark.slow
def test_every_engine_that_is_here_is_compared_with_the_product_of_the_same_run(quick):
    network = quick[0]["network"]

    speeds = {(s["name"], s["threads"]): s for s in network["speeds"]}
    timed = {name for name, _ in speeds if not name.startswith("product")}
    missing = {name for name in network["missing"] if not name.startswith("product")}
    assert timed | missing == {e.name for e in engines.known()}
    assert ("product int8", 1) in speeds
    assert not timed & set(network["missing"])
    for (name, threads), speed in speeds.items():
        is_product = name.startswith("product")
        precision = bench_products.precision_of(name)
        product = speed if is_product else speeds[f"product {precision}", threads]
        flop = 2e-9 * network["matrix_side"] ** 3 if is_product else network["gflop"]
        assert speed["gflops"] == pytest.approx(flop / speed["wall_ms"]["p50"] * 1e3, rel=0.05)
        assert speed["share"] == pytest.approx(speed["gflops"] / product["gflops"], rel=0.05)
        assert speed["cpu_ms"] > 0


def test_each_engine_is_held_to_its_own_precision():
    found = {engine: bench_products.precision_of(engine) for engine in engines.NAMES}
    assert found == {
        "openvino-bf16": "bfloat16", "openvino-int8": "int8",
        "openvino": "float32", "onnxruntime": "float32", "torch": "float32",
    }  # fmt: skip


def test_products_without_openvino_are_torchs_in_float32_alone(monkeypatch):
    def broken():
        raise ImportError("libtbb.so is missing")

    monkeypatch.setattr(bench_products, "import_openvino", broken)

    assert tuple(bench_products.product("float32", 16, 1)().shape) == (16, 16)
    with pytest.raises(ConfigError, match=r"does not load \(libtbb.so is missing\)"):
        bench_products.product("int8", 16, 1)


def test_product_in_int8_is_that_of_rounded_matrices():
    exact, rounded = (
        next(iter(bench_products.product(precision, 256, 1)().values()))
        for precision in ("float32", "int8")
    )
    error = np.abs(rounded - exact).mean() / np.abs(exact).mean()
    assert 0.001 < error < 0.05


@pytest.mark.slow
def test_sweep_has_every_size_and_names_one_that_fits_or_none(quick):
    result = quick[0]

    assert [cost["size"] for cost in result["sizes"]] == [str(size) for size in bench.QUICK.sizes]
    p99 = {cost["size"]: cost["wall_ms"]["p99"] for cost in result["sizes"]}
    assert set(result["fits"]) == {"16", "40"}
    for budget_ms, size in result["fits"].items():
        fits = [name for name, ms in p99.items() if ms <= float(budget_ms)]
        assert (size in fits) if fits else (size is None)


@pytest.mark.slow
def test_tables_show_what_the_json_holds(quick):
    result, text = quick

    assert result["machine"]["cpu"] in text
    assert f"python {result['machine']['python']}" in text
    for name in (*result["pipeline"]["stages"], *result["ops"], "own overhead", "latency"):
        assert name in text
    for speed in result["network"]["speeds"]:
        assert f"{speed['gflops']:.1f}" in text
    for cost in result["sizes"]:
        assert f"{cost['wall_ms']['p99']:.2f}" in text
    assert result["config"]["engine"] in text


def test_every_section_can_be_shown_where_values_are_missing():
    nothing = {"p50": None, "p95": None, "p99": None}
    result = {
        "machine": {"cpu": "a", "system": "b", "python": "3", "packages": {}, "load": None},
        "warning": "busy",
        "config": {"name": "n", "size": "64x64", "engine": "torch"},
        "pipeline": {
            "rate_hz": 25.0,
            "frames": {"captured": 0, "dropped": {}, "failed": 0},
            "stages": {"diffusion": {"service_ms": nothing, "wait_ms": nothing}},
            "latency_ms": nothing,
            "overhead_ms": nothing,
        },
        "network": {
            "size": "64x64",
            "gflop": 1.0,
            "matrix_side": 8,
            "speeds": [],
            "missing": {"onnxruntime": "not installed; pip install onnxruntime"},
        },
        "sizes": [],
        "fits": {"16": None},
        "ops": {},
        "seconds": 1.0,
    }
    console = Console(record=True, width=120)

    for section in SECTIONS:
        show(section, result, console)

    text = console.export_text()
    assert "warning: busy" in text
    assert "onnxruntime: not installed" in text
    assert "fits 16 ms: none of these" in text
