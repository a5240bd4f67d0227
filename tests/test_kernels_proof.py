"""Every kernel's whole proof: assembled, counted beside its twin, executed. What CI holds it to."""

from __future__ import annotations

import pytest

from lsd.kernels.records import records
from lsd.lab.ptx import toolchain
from lsd.lab.ptx.verify import verify
from lsd.pipeline.errors import KernelError

REQUIRED = {
    "frame_to_tensor", "tensor_to_frame", "denoise_step", "group_norm_silu", "memory_attention",
    "moment_match", "temporal_blend", "frame_stats",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    for name in toolchain.TOOLS:
        try:
            toolchain.tool(name)
        except KernelError as error:
            pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("op", records())
def test_kernels_of_an_op_are_proven(op: str) -> None:
    verdicts = verify(records()[op])
    assert [each.name for each in verdicts] == list(records()[op].entries)
    assert [f"{each.name}: {told}" for each in verdicts for told in each.failures] == []
    assert all(each.coverage == 1.0 for each in verdicts)


def test_the_pipelines_ops_have_kernels() -> None:
    assert set(records()) >= REQUIRED
