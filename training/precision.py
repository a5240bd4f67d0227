"""What training computes in: bfloat16 takes a quarter off a step, where a processor has it.

Elsewhere torch would imitate it, at a hundredth of the speed.
"""

import torch

from lsd.stages.models.engines import has_bfloat16

_NATIVE = has_bfloat16()
COMPUTE = torch.bfloat16 if _NATIVE else torch.float32


def autocast() -> torch.autocast:
    """Return the context in which networks run."""
    return torch.autocast("cpu", torch.bfloat16, enabled=_NATIVE)
