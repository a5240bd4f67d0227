"""Training: what a checkpoint is refused for, what a later step is held to, the table."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

from lsd.lab.drift.shocks import SHOCKS
from lsd.stages.models import weights
from lsd.stages.models.palette import COLOURS
from lsd.stages.models.styles import INDEX
from lsd.stages.models.unet import StyleUNet
from lsd.stages.models.weights import FORMAT, load_module
from training import ablation, data, export, precision, train, tune
from training.train import LATER_LINES, Trainer, detail_of, later_loss_of, loss_of, read_state


@pytest.mark.parametrize(("state", "found"), [({}, "an older one"), ({"format": "1"}, "1")])
def test_checkpoint_of_another_format_is_refused(
    tmp_path: Path, state: dict[str, str], found: str
) -> None:
    path = tmp_path / "state.pt"
    torch.save(state, path)
    with pytest.raises(SystemExit, match=rf"state\.pt: of format {found}, expected {FORMAT}"):
        read_state(path)


def test_trainer_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    first = Trainer(minutes=1.0, samples=None, folder=tmp_path)
    first.spent_s, first.samples = 30.0, 12
    with torch.no_grad():
        first.net.tint.bias.add_(1.0)
    first.save()
    second = Trainer(minutes=1.0, samples=None, folder=tmp_path)
    second.resume()
    assert second.progress == 0.5
    assert second.samples == 12
    assert torch.equal(second.net.tint.bias, first.net.tint.bias)


def test_budget_in_samples_takes_the_clocks_place(tmp_path: Path) -> None:
    trainer = Trainer(minutes=1.0, samples=40, folder=tmp_path)
    trainer.spent_s, trainer.samples = 1e9, 10
    assert trainer.progress == 0.25


def textured() -> torch.Tensor:
    return torch.rand((1, 3, 34, 34), generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_detail_is_how_much_there_is_and_not_where() -> None:
    x = textured()
    softer = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    assert (detail_of(softer) < 0.5 * detail_of(x)).all()
    mirrored = detail_of(x.flip(3))
    assert torch.allclose(mirrored, detail_of(x).flip(3), atol=1e-5)


def test_later_step_is_held_to_the_targets_detail() -> None:
    x = textured()
    softer = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    assert later_loss_of(softer, x) > loss_of(softer, x, LATER_LINES) > loss_of(softer, x)
    assert later_loss_of(x, x) < loss_of(softer, x)


def test_table_has_the_worst_shock_and_leaves_empty_what_was_not_measured() -> None:
    shocks = {f"recovery: {name}": float(n) for n, name in enumerate(SHOCKS, 1)}
    head, _, row = ablation.table({"a row": {"ms": 20.0, "detail": 0.98, **shocks}}).splitlines()
    cells = dict(zip(head.split("|"), (cell.strip() for cell in row.split("|")), strict=True))
    assert cells[" frames to recover "] == str(len(SHOCKS))
    assert cells[" detail "] == "0.98"
    assert cells[" loop gain "] == ""
    assert cells[" ms a frame, one thread "] == "20.0"


def test_rows_differ_from_each_other() -> None:
    assert len({(row.network, row.changes) for row in ablation.ROWS}) == len(ablation.ROWS)


def test_turn_of_hues_leaves_grey_and_contrast_alone() -> None:
    turn = data._hue_turn(0.7)
    assert np.allclose(np.full(3, 0.4, np.float32) @ turn, 0.4)
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-6)


def test_a_third_of_a_turn_makes_another_primary_of_each() -> None:
    turn = data._hue_turn(2 * np.pi / 3)
    assert np.allclose(turn, np.roll(np.eye(3), 1, axis=1), atol=1e-6) or np.allclose(
        turn, np.roll(np.eye(3), -1, axis=1), atol=1e-6
    )


@pytest.mark.parametrize(("native", "kind"), [(True, torch.bfloat16), (False, torch.float32)])
def test_networks_train_in_bfloat16_only_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, kind: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "_NATIVE", native)
    with precision.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == kind


def batch_of(style: str, *, like: torch.Tensor | None = None) -> train.Batch:
    """Return a batch of two noisy pictures that are to become darker, or `like`."""
    draw = torch.Generator().manual_seed(1)
    frame = torch.randint(0, 256, (2, 32, 32, 3), generator=draw, dtype=torch.uint8)
    shares = torch.zeros((2, data.STYLES + 3 * COLOURS))
    shares[:, INDEX[style]] = 1.0
    return train.Batch(
        frame=frame,
        history=torch.zeros((2, 32, 32, 4), dtype=torch.uint8),
        noise=torch.randn((2, 3, 32, 32), generator=draw),
        style=shares,
        level=torch.full((2,), -1.0),
        target=torch.full((2, 3, 32, 32), -0.5) if like is None else like,
    )


def shipped() -> StyleUNet:
    module = load_module("unet")
    assert isinstance(module, StyleUNet)
    return module


@pytest.mark.parametrize("steps", [1, 3])
def test_tuning_changes_one_column_and_no_other_number_of_the_network(steps: int) -> None:
    before, net = shipped(), shipped()
    tuner = tune.Tuner("ember", net)
    batch, place = batch_of("ember"), INDEX["ember"]
    losses = [tuner.step(batch, steps, progress=0.0)[1][0] for _ in range(8)]
    assert losses[-1] < 0.98 * losses[0]
    for (name, old), new in zip(
        before.state_dict().items(), net.state_dict().values(), strict=True
    ):
        if name == "embed.0.weight":
            changed = (old != new).any(dim=0).nonzero().flatten().tolist()
            assert changed == [place]
            assert torch.equal(tuner.column, new[:, place])
        else:
            assert torch.equal(old, new), name
    ink = batch_of("ink")
    pictures = [ink.denoise(each.eval(), ink.noise * 10, None, 10.0) for each in (before, net)]
    assert torch.equal(*pictures), "another style's pictures are the same to the bit"


def test_tuning_ends_where_the_rate_has_fallen_to_nothing() -> None:
    tuner = tune.Tuner("ember", shipped())
    before = tuner.column
    tuner.step(batch_of("ember"), 1, progress=1.0)
    assert torch.equal(tuner.column, before)


def test_length_of_gradients_is_that_of_each_picture() -> None:
    ramp = torch.linspace(0, 1, 11).expand(1, 1, 11, 11)
    pictures = torch.cat([ramp, 2 * ramp, torch.zeros_like(ramp)])
    assert tune.lengths(pictures).tolist() == pytest.approx([0.1, 0.2, 0.0])


def test_tuned_columns_go_into_the_network_that_ships_and_are_noted(tmp_path: Path) -> None:
    column = torch.arange(64.0)
    torch.save({"column": column, "samples": 12}, tune.path_of(tmp_path, "ember"))
    net, notes = export.tuned(["ember"], tmp_path)
    first = net.embed[0]
    assert isinstance(first, torch.nn.Linear)
    assert torch.equal(first.weight[:, INDEX["ember"]], column)
    assert notes["tuned ember"] == "12 samples"
    assert notes["steps"] == weights.check("unet")["steps"]


def test_a_tuned_styles_int8_form_keeps_every_scale_of_the_others(tmp_path: Path) -> None:
    net, place = shipped(), INDEX["ember"]
    first = net.embed[0]
    assert isinstance(first, torch.nn.Linear)
    first.weight[:, place] += 1.0
    shutil.copy(export.FOLDER / "unet.safetensors", tmp_path)
    export.tune_int8(net, tmp_path)
    before, after = (
        {each.name: onnx.numpy_helper.to_array(each) for each in found.graph.initializer}
        for found in map(onnx.load, (export.FOLDER / "unet-int8.onnx", tmp_path / "unet-int8.onnx"))
    )
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"embed.0.weight"}
    moved = (before["embed.0.weight"] != after["embed.0.weight"]).any(axis=0)
    assert moved.nonzero()[0].tolist() == [place]


def test_what_was_tuned_before_stays_noted(tmp_path: Path) -> None:
    torch.save({"column": torch.zeros(64), "samples": 3}, tune.path_of(tmp_path, "ink"))
    _, notes = export.tuned(["ink"], tmp_path)
    assert notes["tuned ink"] == "3 samples"
    assert {"tuned aquarelle", "tuned ember"} <= notes.keys()


@pytest.mark.parametrize("is_tuned", [True, False])
def test_only_a_trained_network_is_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_tuned: bool
) -> None:
    made: list[str] = []
    for name in ("save_weights", "export", "quantise", "tune_int8"):
        monkeypatch.setattr(export, name, lambda *_, name=name: made.append(name))
    export.export_unet(shipped(), {}, tmp_path, is_tuned=is_tuned)
    assert made == ["save_weights", "export", "tune_int8" if is_tuned else "quantise"]
