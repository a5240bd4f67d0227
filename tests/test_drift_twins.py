"""Twin streams: what a shock to the history, or a small perturbation, becomes."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from drift_model import LOOP, SIZE, Half, Model, restyle, small, stream

from lsd.lab.drift import metrics, trends, twins
from lsd.lab.drift.inputs import open_input
from lsd.lab.drift.shocks import SHOCKS, shocks
from lsd.lab.drift.twins import PERTURBATION, lyapunov, recovery

INK = replace(LOOP, style="ink", input="static")
BARE = replace(INK, guards=False)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Settle for 4 frames, follow for 6, perturb for 8."""
    for name, count in (("SETTLE", 4), ("FOLLOWED", 6), ("GROWTHS", 8)):
        monkeypatch.setattr(twins, name, count)


def run_of(kind, base=INK):
    frames = twins.SETTLE + (twins.FOLLOWED if kind == "recovery" else twins.GROWTHS)
    return replace(base, frames=frames, kind=kind)


def model_with(gain):
    """Return a model whose next picture holds `gain` times the last one's error; no guards."""
    blend = type(
        "Gain", (Half,), {"process": lambda self, frame, previous=None: mixed(frame, previous)}
    )

    def mixed(frame, previous):
        if previous is None or frame.motion is None:
            return frame
        return replace(frame, data=frame.data + gain * previous.data)

    model = Model(lambda frame, **seen: torch.full((1, 3, *frame.shape[1:3]), 0.1))
    model._blend = blend
    return model


def followed(shock=None):
    """Return a stream's picture before the shock, as shocked, and the six after it."""
    with stream(run_of("recovery")) as opened:
        y = [opened.step().y for _ in range(4)][-1]
        if shock is not None:
            y = shock(y)
            opened.disturb(y)
        return [y, *(opened.step().y for _ in range(6))]


@pytest.fixture(scope="module")
def recovered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twins, "SETTLE", 4)
        patch.setattr(twins, "FOLLOWED", 6)
        return recovery(small(), run_of("recovery"), Model().registry)


def test_every_shock_has_its_curves(recovered):
    names = {
        f"{shock}{end}"
        for shock in SHOCKS
        for end in ("", ":rms", ":carried", ":kept", ":spectrum")
    }

    assert set(recovered.curves) == names
    assert {curve.shape for curve in recovered.curves.values()} == {(7,)}
    assert recovered.counts["frames"] == 10 * len(SHOCKS)
    assert recovered.series == {}


def test_a_curve_is_the_distance_from_a_twin_that_was_not_shocked(recovered):
    other = open_input("cuts", SIZE).pixels(300) / np.float32(255)
    twin = followed()

    for name in ("noise", "red", "scene"):
        shocked = followed(shocks(other)[name])
        rms = [np.sqrt(np.mean((y - z) ** 2)) for y, z in zip(shocked, twin, strict=True)]
        np.testing.assert_allclose(recovered.curves[f"{name}:rms"], rms, rtol=1e-4)
        np.testing.assert_allclose(recovered.curves[name], np.divide(rms, rms[0]), rtol=1e-4)
        spectrum = [metrics.spectrum_distance(y, z) for y, z in zip(shocked, twin, strict=True)]
        np.testing.assert_allclose(recovered.curves[f"{name}:spectrum"], spectrum, rtol=1e-3)


def test_a_shock_that_is_not_finite_has_a_distance_but_no_ratio(recovered):
    assert np.isnan(recovered.curves["nan"]).all()
    assert recovered.curves["nan:rms"].shape == (7,)


def test_what_guards_rejected_is_added_up_over_the_shocks():
    def afraid_of_plain_pasts(history, **seen):
        picture = restyle(history=history, **seen)
        is_plain = history is not None and int(history[..., :2].amax()) == 0
        return picture * float("nan") if is_plain else picture

    record = recovery(small(), run_of("recovery"), Model(afraid_of_plain_pasts).registry)

    # black and NaN, each until the third broken picture cuts the stream off from its past
    assert record.counts["rejected: not finite"] == 2 * 3


@pytest.mark.parametrize("gain", [0.3, 0.8])
def test_a_curve_falls_as_the_loops_gain_says(gain):
    record = recovery(small(), run_of("recovery", BARE), model_with(gain).registry)

    for name in ("cast", "black", "scene"):
        np.testing.assert_allclose(record.curves[name], gain ** np.arange(7), rtol=1e-3)
    carried = record.curves["cast:carried"]
    assert np.isnan(carried[:2]).all(), "the shock is no answer of the loop"
    np.testing.assert_allclose(carried[2:], gain, rtol=1e-3)


@pytest.mark.parametrize("gain", [0.3, 0.9])
def test_what_stays_is_found_along_the_motion_of_many_frames(gain):
    """An error that the loop carries along looks the same twelve frames on."""
    random = np.random.default_rng(5)
    wide = cv2.GaussianBlur(random.random((64, 160, 3), np.float32), (0, 0), 2) - 0.5
    motion = np.zeros((64, 64, 2), np.float32)
    motion[..., 0] = 1
    errors = [gain**k * wide[:, k : k + 64] for k in range(31)]
    found = twins._kept(errors, [motion] * 31, 1)
    assert np.isnan(found[: trends.KEPT + 1]).all()
    assert found[-1] > 0.75, "less what has come into view since"
    assert twins._kept(errors, [None] * 31, 1)[-1] < 0.3
    still = [wide[:, :64]] * 31
    assert twins._kept(still, [motion] * 31, 1)[-1] == pytest.approx(1), "or where it was"


def test_textures_are_compared_by_their_means_over_blocks(monkeypatch):
    """A picture with a checkerboard of 0.5 on top in the shocked twin is .25 away in the mean."""
    checks = np.indices((SIZE.height, SIZE.width)).sum(0)[..., None] % 2 * np.float32(0.5)
    plain = twins._Made(np.zeros((SIZE.height, SIZE.width, 3), np.float32), None)
    checked = plain._replace(y=plain.y + checks)

    def follow(config, run, registry, tell, shock):
        return [checked if shock else plain] * (1 + twins.FOLLOWED), {}

    monkeypatch.setattr(twins, "_follow", follow)
    of = {
        style: recovery(small(), replace(run_of("recovery"), style=style)).curves["red:rms"]
        for style in ("brush", "ink")
    }
    np.testing.assert_allclose(of["brush"], 0.25, rtol=1e-5)
    np.testing.assert_allclose(of["ink"], 0.5 / np.sqrt(2), rtol=1e-5)


@pytest.mark.parametrize("gain", [0.5, 0.9, 1.1])
def test_the_growth_of_a_perturbation_is_the_loops_gain(gain):
    record = lyapunov(small(), run_of("lyapunov", BARE), model_with(gain).registry)

    np.testing.assert_allclose(record.curves["growth"], np.log(gain), atol=1e-3)
    assert record.counts["frames"] == 12
    assert (record.series, set(record.curves)) == ({}, {"growth"})


def test_a_perturbation_is_scaled_back_to_eight_grey_levels_after_every_frame(monkeypatch):
    sizes, pictures = [], []
    step, disturb = twins.Stream.step, twins.Stream.disturb

    def watched(self, picture):
        sizes.append(np.sqrt(np.mean((picture - pictures[-2 if len(sizes) else -1]) ** 2)))
        disturb(self, picture)

    def kept(self):
        shown = step(self)
        pictures.append(shown.y)
        return shown

    monkeypatch.setattr(twins.Stream, "disturb", watched)
    monkeypatch.setattr(twins.Stream, "step", kept)
    lyapunov(small(), run_of("lyapunov"), Model().registry)

    # each against the calm twin's last picture: they step in turns, the calm one first
    np.testing.assert_allclose(sizes, [PERTURBATION] * 8, rtol=1e-4)


def test_a_perturbation_that_vanishes_is_made_anew_and_stays_finite():
    record = lyapunov(small(), run_of("lyapunov", BARE), model_with(0.0).registry)

    assert np.isfinite(record.curves["growth"]).all()
    assert record.curves["growth"].max() < -5


@pytest.mark.parametrize(
    ("kind", "count"), [("recovery", 10 * (1 + len(SHOCKS))), ("lyapunov", 12)]
)
def test_twins_tell_of_every_frame(kind, count):
    told = []

    {"recovery": recovery, "lyapunov": lyapunov}[kind](
        small(), run_of(kind), Model().registry, lambda: told.append(1)
    )

    assert len(told) == count


def test_the_same_run_gives_the_same_curves():
    first, second = (recovery(small(), run_of("recovery"), Model().registry) for _ in range(2))

    for name, curve in first.curves.items():
        np.testing.assert_allclose(curve, second.curves[name], rtol=1e-6)
