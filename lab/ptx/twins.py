"""The CUDA C++ twins to machine code by nvcc: what a good compiler makes of the same algorithm."""

from __future__ import annotations

from pathlib import Path

from lsd.kernels.records import twins_folder
from lsd.lab.ptx import toolchain
from lsd.lab.ptx.assemble import Assembled, resources

FLAGS = ("-O3", "-use_fast_math", "-std=c++17", "-cubin", "-Xptxas=-v")


def compiled(op: str, target: str) -> Assembled:
    """Compile an op's twin, unless that has been done before.

    Raises:
        KernelError: nvcc is missing or refuses the text.
    """
    text = twins_folder().joinpath(f"{op}.cu").read_text(encoding="utf-8")
    return compile_text(text, target)


def compile_text(text: str, target: str) -> Assembled:
    """Compile CUDA C++, as `compiled` does."""

    def make(cubin: Path) -> str:
        source = cubin.with_suffix(".cu")
        source.write_text(text, encoding="utf-8")
        return toolchain.run("nvcc", *FLAGS, f"-arch={target}", str(source), "-o", str(cubin))

    parts = (text, target, *FLAGS, toolchain.release("nvcc"))
    cubin, said = toolchain.kept(parts, ".cubin", make)
    return Assembled(cubin, resources(said))
