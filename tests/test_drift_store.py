"""Where finished runs are kept: whole or not at all, and made anew when something changed."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drift_model import LOOP, small
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsd.lab.drift import anew
from lsd.lab.drift import store as stores
from lsd.lab.drift.controls import CLEAN_HISTORY
from lsd.lab.drift.record import Record
from lsd.lab.drift.store import Store
from lsd.pipeline.errors import SinkError
from lsd.stages.models import weights


def record(run=LOOP):
    random = np.random.default_rng(0)
    values = random.random(100)
    values[3::5] = np.nan
    return Record(
        run,
        series={"r": values, "lap_psnr": random.random(100)},
        sheets={
            1: np.full((16, 48, 3), (200, 30, 90), np.uint8),
            100: np.zeros((16, 48, 3), np.uint8),
        },
        curves={"growth": random.random(50), "noise:rms": random.random(31)},
        counts={"frames": 100, "rejected: not finite": 3},
        seconds=12.5,
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs", small())


def test_a_run_comes_back_as_it_was_kept(store):
    kept = record()

    store.save(kept)
    loaded = store.load(LOOP)

    assert loaded.run == LOOP
    for part in ("series", "curves"):
        assert list(getattr(loaded, part)) == list(getattr(kept, part))
        for name, values in getattr(kept, part).items():
            np.testing.assert_array_equal(getattr(loaded, part)[name], values)
    assert (loaded.counts, loaded.seconds) == (kept.counts, kept.seconds)


def test_sheets_come_back_about_as_they_were_and_right_way_round(store):
    store.save(record())

    sheets = store.load(LOOP).sheets

    assert list(sheets) == [1, 100]
    np.testing.assert_allclose(sheets[1], record().sheets[1], atol=6)  # JPEG, red still red


def test_what_is_not_there_is_none(store):
    assert store.load(LOOP) is None
    assert not store.has(LOOP)
    store.save(record())
    assert store.has(LOOP)


OTHER = {"style": "ink", "steps": 2, "input": "pan", "seed": 8, "frames": 101, "kind": "walk",
         "control": "integrator", "guards": False}  # fmt: skip


@pytest.mark.parametrize("field", OTHER)
def test_every_run_has_a_file_of_its_own(field, store):
    assert store.path(LOOP) != store.path(replace(LOOP, **{field: OTHER[field]}))


def test_a_pan_that_is_begun_anew_otherwise_is_made_anew(store, monkeypatch):
    pan, short = (replace(LOOP, input="pan", frames=frames) for frames in (1_500, 499))
    before = [store.path(run) for run in (pan, short, LOOP)]

    monkeypatch.setattr(anew, "frames_of", lambda run: 600)

    changed = [store.path(run) for run in (pan, short, LOOP)]
    assert [a != b for a, b in zip(before, changed, strict=True)] == [True, False, False]


def test_a_file_can_be_told_by_its_name(store):
    assert store.path(LOOP).name.startswith("stream-brush-1step-loop-seed7-100-")
    assert store.path(LOOP).suffix == ".npz"


@pytest.mark.parametrize(
    "change",
    [
        {"memory": {"guards": False}},
        {"diffusion": {"engine": "openvino"}},
        {"blend": {"amount": 0.5}},
    ],
)
def test_another_pipeline_makes_its_runs_anew(change, store, tmp_path):
    store.save(record())

    assert not Store(tmp_path / "runs", small(**change)).has(LOOP)
    assert Store(tmp_path / "runs", small()).has(LOOP)


def test_the_pipelines_name_does_not_matter(store, tmp_path):
    store.save(record())

    assert Store(tmp_path / "runs", small().model_copy(update={"name": "other"})).has(LOOP)


@pytest.mark.parametrize("name", ["VERSION", "version"])
def test_another_version_of_lab_or_package_makes_its_runs_anew(name, store, tmp_path, monkeypatch):
    store.save(record())

    monkeypatch.setattr(stores, name, 99 if name == "VERSION" else lambda package: "99.0")

    assert not Store(tmp_path / "runs", small()).has(LOOP)


@pytest.fixture
def own_weights(monkeypatch, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("unet.safetensors", "unet-int8.onnx", "blend.safetensors", "text.npz"):
        (folder / name).write_bytes(b"first")
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(folder))
    return folder


@pytest.mark.parametrize(
    ("name", "anew"),
    [("unet.safetensors", True), ("unet-int8.onnx", True), ("blend.safetensors", True),
     ("text.npz", False)],
)  # fmt: skip
def test_other_weights_in_whatever_form_make_their_runs_anew(name, anew, own_weights, tmp_path):
    Store(tmp_path / "runs", small()).save(record())

    (own_weights / name).write_bytes(b"second")

    assert Store(tmp_path / "runs", small()).has(LOOP) is not anew


def test_other_weights_of_the_control_make_its_runs_anew_and_no_others(
    store, tmp_path, monkeypatch
):
    path = tmp_path / "clean.safetensors"
    monkeypatch.setattr(stores, "clean_history_weights", lambda: path)
    clean = replace(LOOP, control=CLEAN_HISTORY)
    path.write_bytes(b"first")
    for run in (LOOP, clean):
        store.save(record(run))

    path.write_bytes(b"second")

    assert store.has(LOOP)
    assert not store.has(clean)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_counts_as_none(store, data):
    path = store.path(LOOP)
    if not path.with_suffix(".whole").exists():
        store.save(record())
        path.with_suffix(".whole").write_bytes(path.read_bytes())
    damaged = bytearray(path.with_suffix(".whole").read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=8)):
        damaged[place] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.none() | st.integers(0, len(damaged)))
    path.write_bytes(damaged[:end])

    loaded = store.load(LOOP)

    # a time stamp may be wrong without harm; whatever is read is what was written
    assert loaded is None or loaded.counts == record().counts


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", b"not a run at all" * 50])
def test_something_else_in_a_files_place_counts_as_none_and_is_written_over(content, store):
    store.path(LOOP).write_bytes(content)
    assert store.load(LOOP) is None

    store.save(record())

    assert store.has(LOOP)


def test_whoever_is_stopped_while_writing_leaves_no_half_a_file(store, monkeypatch):
    def stop(file, **parts):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(stores.np, "savez_compressed", stop)

    with pytest.raises(KeyboardInterrupt):
        store.save(record())

    assert list(store.path(LOOP).parent.iterdir()) == []


def test_a_file_that_is_kept_already_survives_a_failed_second_writing(store, monkeypatch):
    store.save(record())
    monkeypatch.setattr(stores.np, "savez_compressed", lambda file, **parts: file.write(b"half"))
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))

    with pytest.raises(SinkError, match="full"):
        store.save(record())

    assert store.load(LOOP).counts == record().counts


def test_what_a_killed_process_left_is_swept_up_later(store, tmp_path):
    folder = tmp_path / "runs"
    dead, alive = folder / ".run.npz.11.tmp", folder / ".run.npz.12.tmp"
    for path in (dead, alive):
        path.write_bytes(b"half")
    os.utime(dead, (time.time() - 3600,) * 2)

    Store(folder, small())

    assert not dead.exists()
    assert alive.exists()  # somebody may be writing it just now


def test_a_folder_that_cannot_be_is_told_of(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(SinkError, match=r"file/runs: cannot be written: .*another folder with -o"):
        Store(tmp_path / "file" / "runs", small())


def test_a_folder_that_vanishes_is_told_of(store, tmp_path):
    (tmp_path / "runs").rmdir()

    with pytest.raises(SinkError, match=r"npz: cannot be written: No such file"):
        store.save(record())
