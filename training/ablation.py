"""Show what parts of the training and of the pipeline do: `python -m training.ablation`.

Three networks are trained on equally many samples, shown clean histories, damaged
ones, and their own as well; then the blend joins in. The drift lab judges each
stream. Resumable: what is finished is kept in the cache.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from lsd.lab.chain import Chain
from lsd.lab.drift.controls import weights_in
from lsd.lab.drift.gates import judge
from lsd.lab.drift.protocol import Choice, short
from lsd.lab.drift.runner import execute
from lsd.lab.drift.shocks import SHOCKS
from lsd.lab.drift.stream import prepared
from lsd.pipeline.config import load_config
from lsd.pipeline.devices import cores
from lsd.pipeline.overrides import SetPath
from lsd.stages.models import weights
from training.export import export_unet, trained

CACHE = Path(".cache/ablation")
NO_BLEND = "stages.blend.amount=0"
SHIPPED = "shipped"
_TIMED, _WARM_UP = 60, 10  # frames


class Row(NamedTuple):
    """A stream of the table.

    Attributes:
        name: what is different about it.
        network: one of train.HISTORIES, or SHIPPED.
        changes: `--set` changes.
    """

    name: str
    network: str
    changes: tuple[str, ...] = ()


ROWS = (
    Row("clean history", "clean", (NO_BLEND,)),
    Row("+ damaged histories", "corrupted", (NO_BLEND,)),
    Row("+ own roll-outs", "full", (NO_BLEND,)),
    Row("+ blend", "full"),
    Row("clean history, with blend", "clean"),
    Row("the network that ships, with blend", SHIPPED),
)

# heading -> the lab's names, of which the largest counts, and how it is written
_COLUMNS: dict[str, tuple[tuple[str, ...], str]] = {
    "PSNR to the teacher, dB": (("PSNR(y,S), dB",), ".1f"),
    "last lap to lap 3, dB": (("lap",), ".1f"),
    "colour offset, Oklab": (("colour offset",), ".3f"),
    "detail": (("detail",), ".2f"),
    "colour collapse": (("colour collapse",), ".2f"),
    "temporal excess": (("temporal excess",), ".2f"),
    "loop gain": (("loop gain",), ".2f"),
    "frames to recover": (tuple(f"recovery: {name}" for name in SHOCKS), ".0f"),
    "variance preservation": (("variance preservation",), ".2f"),
    "colour std, late": (("colour std, late",), ".3f"),
    "gradient detail, late": (("gradient detail, late",), ".3f"),
    "repetition": (("repetition",), ".2f"),
}


def train(network: str, samples: int) -> Path:
    """Train and export a network, where that is not done yet; return its folder."""
    if network == SHIPPED:
        return weights.folder()
    folder = CACHE / f"{network}-{samples}"
    done = folder / "done"
    if not done.exists():
        command = ["--histories", network, "--samples", str(samples), "--folder", str(folder)]
        subprocess.run([sys.executable, "-m", "training.train", *command], check=True)
        export_unet(*trained(folder / "state.pt"), folder)
        done.touch()
    for path in weights.folder().glob("blend.*"):
        shutil.copy(path, folder)
    return folder


def measure(row: Row, folder: Path, style: str, frames: int) -> dict[str, float]:
    """Run the lab on a row.

    Args:
        row: the stream.
        folder: of its weights.
        style: a style's name.
        frames: of the stream; from 2,000 on laps are compared.

    Returns:
        The figures by the lab's names, and "ms": processor time a frame.
    """
    config = load_config("demo", [SetPath(change) for change in row.changes])
    config = prepared(config)
    runs = short(Choice(styles=(style,), inputs=("loop",), frames=frames, controls=False))
    with weights_in(folder):
        records = execute(config, [run for run in runs if run.guards], CACHE / "runs", cores())
        spent = []
        with Chain(config) as chain:
            for _ in range(_TIMED):
                captured = chain.read()
                assert captured is not None, "the test pattern never ends"
                start = time.process_time()
                chain.advance(captured)
                spent.append(1e3 * (time.process_time() - start))
    figures: dict[str, float] = {"ms": statistics.median(spent[_WARM_UP:])}
    for found in judge(records).figures:
        figures |= found.values
    return figures


def table(rows: dict[str, dict[str, float]]) -> str:
    """Return the figures as Markdown, a row a stream."""
    heads = ["", *_COLUMNS, "ms a frame, one thread"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, figures in rows.items():
        cells = []
        for names, form in _COLUMNS.values():
            known = [figures[n] for n in names if n in figures]
            cells.append(format(max(known), form) if known else "")
        lines.append(f"| {name} | {' | '.join(cells)} | {figures['ms']:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=20_000, help="of each training")
    parser.add_argument("--style", default="poster")
    parser.add_argument("--frames", type=int, default=2_000)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/ablation/training.md"))
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    rows = {}
    for row in ROWS:
        folder = train(row.network, arguments.samples)
        rows[row.name] = measure(row, folder, arguments.style, arguments.frames)
        print(table({row.name: rows[row.name]}).splitlines()[-1], flush=True)
    arguments.output.write_text(table(rows))


if __name__ == "__main__":
    main()
