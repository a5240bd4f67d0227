"""The ladder on a (fake) card: steps and reuse, and what happens when the card goes."""

import pytest
from test_cuda_pipeline import TINY, blend_at, runner

from lsd.pipeline.registry import Registry

LIVE = {
    "live": "true",
    "on_error": "skip",
    "rate_hz": 5,
    "latency_ms": 8000,  # the fake card is a slow one
    "stages.capture.input": "test://moving?frames=12&rate=5",
    "stages.output.outputs": "[null://]",
    "stages.diffusion.styles": "{ink: 1.0}",
}


def ran(folder, device, registry=TINY, **changes):
    made = runner(folder, device, registry, **{**LIVE, **changes})
    made.start()
    assert made.wait(60), "the run did not end"
    counts = made.report().counts
    dropped = sum(counts.dropped.values())
    assert counts.captured == counts.emitted + dropped + counts.failed + counts.in_flight
    assert counts.emitted > 0
    return made


def test_a_card_offers_steps_and_the_reuse_and_no_sizes(card, tmp_path):
    made = ran(tmp_path, "cuda:0")
    rungs = made.status().rungs
    assert {text for text in rungs if text != "reuse"} <= {"64x64, 2 steps", "64x64, 1 step"}
    assert rungs[0] == "64x64, 2 steps"
    assert made.report().device == "cuda:0"
    ladder = made.report().ladder
    assert sum(ladder.made) == made.report().counts.emitted  # told when the picture has landed
    assert card.violations == []


def test_a_held_rung_is_kept_on_a_card(card, tmp_path):
    before = {"ladder": "[{steps: 2}, {steps: 1}]"}
    made = ran(tmp_path, "cuda:0", hold=0, **before)
    assert made.report().ladder.plans == {"held": made.report().counts.emitted}


@pytest.mark.parametrize("at", [3, 8, 13])
def test_a_card_that_fails_in_the_trial_or_later_is_left_and_the_stream_goes_on(card, tmp_path, at):
    registry = Registry({**TINY._loaded, "blend": blend_at(at, card.break_kernels)})
    made = ran(tmp_path, "auto", registry)
    assert made.report().device == "cpu"
    assert len([text for text in made.status().messages if "the CPU computes" in text]) == 1
    assert made.report().counts.emitted >= 6
