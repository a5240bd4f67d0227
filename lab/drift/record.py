"""What a run of the drift lab is, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

STRIDE = 25  # frames between two values of what is measured most rarely, in a short stream

# Name -> one value a frame; NaN where not measured. Beside what `metrics.figures` and
# `metrics.temporal` give (every n-th frame; motion_y and motion_s on every frame of
# loop, static, pan and aperiodic) the names are
#   lap_psnr, lap_psnr_blocks  PSNR to lap 3 at the same place, in dB, 60 at the most:
#                              of the pixels (uint8), of means of 8x8 blocks; from lap 4
#   lap_spectrum               distance of spectra to that picture
#   psnr_free                  PSNR to the history-free prediction, in dB
#   *_early, *_early_s, early_*  on pan, of the same place seen early: see `metrics.early`
#   cut, switch, reset         1.0 where the input cut, the style was switched, the history was
#                              left out or the picture replaced; else 0.0
#   r, g, b                    channel means of y, on every frame
Series: TypeAlias = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Run:
    """One stream, or one set of twin streams, to be judged.

    Attributes:
        style: a name of `lsd.stages.models.styles.STYLES`.
        steps: of the sampler, 1 or more.
        input: a name of `lsd.lab.drift.inputs.INPUTS`.
        seed: of texture and noise.
        frames: how many of the input's pictures it sees, 1 or more.
        kind: "stream"; "walk": a stream of which only r, g, b and laps are kept;
            "recovery": shocks to the history; "lyapunov": a small
            perturbation that is scaled back after every frame.
        control: None, or what was made sick on purpose: "clean-history" or "integrator".
        guards: whether memory may reject pictures.
    """

    style: str
    steps: int
    input: str
    seed: int
    frames: int
    kind: str = "stream"
    control: str | None = None
    guards: bool = True

    @property
    def key(self) -> str:
        """Name a file after this run; no two runs share one.

        >>> Run("ink", 1, "loop", 7, 2000, control="integrator", guards=False).key
        'stream-integrator-ink-1step-loop-seed7-2000-noguards'
        """
        parts = [
            self.kind,
            *([self.control] if self.control else []),
            self.style,
            f"{self.steps}step",
            self.input,
            f"seed{self.seed}",
            str(self.frames),
            *([] if self.guards else ["noguards"]),
        ]
        return "-".join(parts)


@dataclass(slots=True)
class Record:
    """What one run left behind.

    Attributes:
        run: the run.
        series: per frame; the names are those of `lsd.lab.drift.metrics`.
        sheets: frame's number, from 1 -> uint8 [H, 3 W, 3] RGB: input, teacher, output.
        curves: recovery: for each SHOCK d_k, k = 0..30 (d_0 = 1 by definition; NaN
            throughout where the shock is not finite), "SHOCK:rms", the distance itself
            as RMS with pictures in [0, 1], "SHOCK:carried", which share of
            it is the last frame's (`metrics.carried`; NaN for k = 0 and 1), "SHOCK:kept",
            which share is that of `trends.KEPT` frames earlier (`metrics.kept`), and
            "SHOCK:spectrum", the distance of spectra; of textured styles all but the last
            are those of 8x8 block means.
            lyapunov: "growth", log growth of the perturbation in each frame.
        counts: "frames"; "resets": frames replaced or cut off from their history, and
            "resets near cuts": those within 2 frames behind an input's cut or a style's
            switch, not in "resets"; "rejected: REASON": what the memory's guards rejected.
        seconds: what it took.
    """

    run: Run
    series: Series
    sheets: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    curves: dict[str, NDArray[Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
