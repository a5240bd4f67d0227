"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from lsd.pipeline.devices import cores, processor

_PACKAGES = (
    "torch", "openvino", "onnxruntime", "opencv-python-headless", "numpy", "pyzmq", "iceoryx2"
)  # fmt: skip
QUIET_LOAD = 1.0


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, as it is now.

    Attributes:
        cpu: the processor's model and the cores that this process may use.
        cores: how many these are.
        system: the operating system.
        python: its version.
        packages: name -> version of those that are installed and matter here.
        load: average of the last minute: programs that ran or waited to run;
            None where the system does not say.
    """

    cpu: str
    cores: int
    system: str
    python: str
    packages: dict[str, str]
    load: float | None

    @classmethod
    def here(cls) -> Machine:
        """Look at this machine."""
        return cls(
            cpu=processor().about,
            cores=cores(),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            packages={name: found for name in _PACKAGES if (found := _version(name))},
            load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        )

    def warning(self) -> str | None:
        """Say that others are using the machine, if they are.

        >>> from dataclasses import replace
        >>> replace(Machine.here(), load=0.3).warning() is None
        True
        """
        if self.load is None or self.load <= QUIET_LOAD:
            return None
        return (
            f"the load average is {self.load:.1f}: other programs are running, and the times "
            "below include waiting for them; trust the medians and the processor times more"
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
