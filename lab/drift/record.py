"""What a run of the drift lab is, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Series: TypeAlias = dict[str, NDArray[np.float64]]  # one value a frame; NaN where not measured


@dataclass(frozen=True, slots=True)
class Run:
    """One stream, or one set of twin streams, to be judged.

    Attributes:
        style: a name of `lsd.stages.models.styles.STYLES`.
        steps: of the sampler, 1 or more.
        input: a name of `lsd.lab.drift.inputs.INPUTS`.
        seed: of texture and noise.
        frames: how many of the input's pictures it sees, 1 or more.
        kind: "stream"; "recovery": shocks to the history; "lyapunov": a small
            perturbation that is scaled back after every frame.
        control: None, or what was made sick on purpose: "clean-history" or "integrator".
        guards: whether memory's rejections and correction are on.
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
        curves: recovery: shock -> d_k, k = 0..30, and "SHOCK:rms" -> the same
            distance as RMS in [0, 1]; lyapunov: "growth" -> log growth a frame.
        counts: resets and rejections by reason; see `lsd.lab.drift.stream`.
        seconds: what it took.
    """

    run: Run
    series: Series
    sheets: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    curves: dict[str, NDArray[Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
