"""How to read the report: what each metric is, and what its gate is for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Entry(NamedTuple):
    """What is said of one metric, or of several that belong together.

    Attributes:
        metrics: their names begin with one of these.
        formula: in a line.
        text: a short paragraph.
    """

    metrics: tuple[str, ...]
    formula: str
    text: str

    @property
    def title(self) -> str:
        """The names, as a heading."""
        return ", ".join(self.metrics)


# How the names of the figures begin that demos quote.
PLAIN = ("frame variance", "variance preservation", "colour std", "gradient detail", "repetition")

SYMBOLS = (
    "y is the output, x the input, S what the style's teacher draws: it knows the picture, the "
    "seed and the motion, and no history. For a recording S is the reference, or else its own "
    "beginning. W is the warp along the motion. Pictures are in [0, 1]. Early: frames 26 to 75. "
    "Late: the last tenth."
)

_ENTRIES = (
    Entry(
        ("lap", "lap since lap 4", "lap trend"),
        "PSNR of each frame to the one at the same place of lap 3, in dB, at most 60; the mean of "
        "a lap of 250 frames",
        "The main gate. The input repeats exactly, so that a healthy stream does too, and whatever "
        "piles up makes laps unlike. The last lap has to be like lap 3 in absolute terms, hardly "
        "less so than lap 4 was, and without a trend. Textured styles are compared in means of 8×8 "
        "blocks.",
    ),
    Entry(
        ("lap spectrum", "recovery: spectrum"),
        "mean over five octaves of |10 log10(E / E')|, in dB",
        "For textured styles, whose grain need not come back in place: whether it is as strong and "
        "as fine as before.",
    ),
    Entry(
        ("colour collapse",),
        "ER = H(y) / H(S), H the entropy of an 8×8×8 histogram of RGB; the lowest median of 50 "
        "frames",
        "A stream that feeds on itself ends in few colours, at last in one. Entropy falls long "
        "before the eye sees it; relative to the teacher's, a plain style is not taken for a sick "
        "one.",
    ),
    Entry(
        ("colour drift", "colour offset"),
        "‖mean(m − m_S) late − early‖ and ‖mean(m − m_S) late‖, m the mean colour in Oklab",
        "Drift is how far the mean colour has moved since the start, offset how far it is from the "
        "teacher's at the end. In Oklab .02 is about what one sees. On a pan, whose start and end "
        "show different places, it is what has come to a place's distance from the teacher since a "
        "stream saw it early, one begun anew 26 to 75 frames before.",
    ),
    Entry(
        ("fidelity to no history",),
        "PSNR to what the network draws of the same frame without any history, late",
        "Where the frame alone decides the picture, history may steady it and may not change it.",
    ),
    Entry(
        ("start-end contrast",),
        "VDE = Σ w |R_i − R_1| / R_1 / Σ w over ten chunks, w = 11 − i, R the ratio to S",
        "Video drifting error, as FramePack has it: the worst of entropy, Laplacian energy, "
        "saturation and mean lightness, from frame 26 on. It sees slow changes of any kind and "
        "does not say which. On a pan, R is over the R of the same place seen early, by a stream "
        "begun anew 26 to 75 frames before, once in each period of 250 frames: a network draws "
        "some places less exactly than others, and what is left between equal places is age. Of a "
        "loop whose tenth is less than a lap, the chunks are whole laps.",
    ),
    Entry(
        ("detail",),
        "(E(y) / E(S)) late over early, E the mean square of the Laplacian",
        "Repeated warping blurs, repeated sharpening grows grain. Fine detail may do neither. In a "
        "loop whose tenth is less than a lap, late and early are equal places, from both ends.",
    ),
    Entry(
        ("high-frequency slope",),
        "slope, per 10,000 frames, of the share of energy above a quarter of Nyquist",
        "Noise that grows, or detail that fades, before it is to be seen.",
    ),
    Entry(
        ("temporal excess",),
        "EWE = 255 (E4(y) − E4(S)), E4 = mean |y − W y_before| in means of 4×4 blocks",
        "Flicker that the teacher has not. Gated from both sides: the warp error alone gets better "
        "and better while a stream collapses to one colour.",
    ),
    Entry(
        ("motion ratio", "motion lag"),
        "Σ|Δy| / Σ|ΔS|; the lag with the highest correlation of both",
        "Whether what moves in the input moves in the output, as much and at once. A frozen stream "
        "fails here, and one that trails ghosts.",
    ),
    Entry(
        ("static flicker",),
        "mean |Δy| on an input that stands still, after 10 frames, in grey levels",
        "Where nothing moves, nothing is to move.",
    ),
    Entry(
        ("back after a cut", "back after a switch"),
        "frames until PSNR to S is within 1 dB of where it settles, at worst",
        "The past must not linger in a new shot, or under a new style.",
    ),
    Entry(
        ("recovery",),
        "d_k = ‖y' − y‖ / ‖δ‖, frames until it stays ≤ .1 or ≤ 1/255 RMS",
        "The history is replaced once: by noise, a colour cast, blur, black, red, salt, another "
        "scene, a shifted picture, NaN. What the stream does not forget within 15 frames it would "
        "carry on.",
    ),
    Entry(
        ("loop gain",),
        "γ = exp(slope of log d_k, k = 1 to 10), the worst shock; where twins stay apart by more "
        "than 1/255, that floor is taken out, and the gain there is ⟨e_k, W e_k−1⟩ / ‖W e_k−1‖², "
        "or what is left of it after twelve frames, to the power 1/12",
        "What is left of an error after a frame. A stable error of ε a frame grows to ε / (1 − γ): "
        "tenfold at .9, without end at 1. An engine that rounds keeps twins apart for ever without "
        "any memory; what a frame takes over from the last one's error tells the two apart.",
    ),
    Entry(
        ("Lyapunov exponent",),
        "λ = mean log growth, a frame, of a perturbation that is scaled back after each",
        "Below zero small differences die out; above, they grow, and no two runs end alike.",
    ),
    Entry(
        ("random walk",),
        "standard deviation over seeds of a channel's mean, last lap beside lap 2",
        "Streams that differ in their seed only may differ in grain. Were their colours to drift "
        "apart, something would be carried by history alone.",
    ),
    Entry(
        ("resets",),
        "pictures replaced or cut off from their history, per 10,000 frames",
        "A stream that is started anew now and then cannot drift; that is no cure. Those behind a "
        "cut or a switch are counted apart.",
    ),
)


def of(metrics: Iterable[str]) -> list[Entry]:
    """Return the entries of the metrics that occur, in the order of this module."""
    there = tuple(metrics)
    return [entry for entry in _ENTRIES if any(name.startswith(entry.metrics) for name in there)]
