"""What a supervisor runs, in plain data: it can be handed to another process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lsd.pipeline.lineage import LINEAGE, Lineage, Lineages
from lsd.pipeline.worker_process import WorkerSpec
from lsd.pipeline.workers import SupervisionConfig


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a supervisor needs to know, and all of it plain.

    Attributes:
        name: what reports call it.
        specs: the workers, in the order of their stages.
        policy: what is done about failures.
        budgets_ms: by instance, "" where there is but one: what a frame may take from capture to
            the outputs; None, or not there: file to file.
        metrics: by instance: where it is served ("host", "port"), as in a file's `metrics:`.
    """

    name: str
    specs: Sequence[WorkerSpec]
    policy: SupervisionConfig
    budgets_ms: Mapping[str, float | None] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it for another process, which must inherit the open files that it names."""
        return {
            "name": self.name,
            "specs": [asdict(spec) for spec in self.specs],
            "policy": self.policy.model_dump(),
            "budgets_ms": dict(self.budgets_ms),
            "metrics": {name: dict(where) for name, where in self.metrics.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Deployment:
        """Read what `to_json` returned."""
        specs = [WorkerSpec(**spec) for spec in data["specs"]]
        policy = SupervisionConfig.model_validate(data["policy"])
        return cls(data["name"], specs, policy, data["budgets_ms"], data["metrics"])

    @property
    def instances(self) -> list[str]:
        """The instances that the workers belong to, in order; `[""]` where there is but one."""
        return list(dict.fromkeys(spec.instance for spec in self.specs))

    def pages(self, instance: str) -> Lineages | None:
        """Return the pages of an instance's workers; None: they are another program's, without."""
        fds = [spec.fds for spec in self.specs if spec.instance == instance]
        if not all(LINEAGE in each for each in fds):
            return None
        return Lineages([Lineage(each[LINEAGE]) for each in fds])

    @property
    def fds(self) -> set[int]:
        """The open files that the workers inherit."""
        return {fd for spec in self.specs for fd in (*spec.fds.values(), *spec.kept_fds)}


def sealed_file(name: str, content: bytes) -> int:
    """Return an open file in memory that holds `content`, and that nobody can change."""
    fd = os.memfd_create(f"livesd-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
