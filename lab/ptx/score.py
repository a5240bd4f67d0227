"""What became of a kernel's mutants, and how to say it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from lsd.lab.ptx.mutants import Mutant

ENOUGH = 0.9  # of the mutants that are not equivalent must die


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        killed_by: "wrong" result, "refused" by the executor, or the kind of a violation; None:
            it has survived.
        reason: why it is declared equivalent; empty: it is not.
    """

    mutant: Mutant
    killed_by: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Score:
    """What became of an op's mutants.

    Attributes:
        of: how many mutants the op has; `verdicts` may be of a sample.
    """

    op: str
    of: int
    verdicts: tuple[Verdict, ...]

    @property
    def killed(self) -> int:
        """How many died."""
        return sum(each.killed_by is not None for each in self.verdicts)

    @property
    def equivalent(self) -> tuple[Verdict, ...]:
        """Those that survived and are declared equivalent."""
        return tuple(each for each in self.verdicts if each.killed_by is None and each.reason)

    @property
    def survivors(self) -> tuple[Verdict, ...]:
        """Those that survived and should not have."""
        return tuple(each for each in self.verdicts if each.killed_by is None and not each.reason)

    @property
    def misjudged(self) -> tuple[Verdict, ...]:
        """Those that are declared equivalent and died: the declaration is wrong."""
        return tuple(each for each in self.verdicts if each.killed_by is not None and each.reason)

    @property
    def share(self) -> float:
        """The killed among those that are not equivalent, 0 to 1; 1 where there are none."""
        judged = self.killed + len(self.survivors)
        return self.killed / judged if judged else 1.0

    @property
    def passes(self) -> bool:
        """Whether enough died, and no declaration is wrong."""
        return self.share >= ENOUGH and not self.misjudged

    def row(self) -> dict[str, str]:
        """Return the line of a table."""
        causes = Counter(each.killed_by for each in self.verdicts if each.killed_by)
        return {
            "kernel": self.op,
            "mutants": f"{len(self.verdicts)} of {self.of}",
            "killed": str(self.killed),
            "equivalent": str(len(self.equivalent)),
            "survived": str(len(self.survivors)),
            "score": f"{self.share:.1%}",
            "killed by": ", ".join(f"{cause} {count}" for cause, count in causes.most_common()),
        }

    def as_json(self) -> dict[str, Any]:
        """Return all of it; the equivalents with their reasons."""
        causes = Counter(each.killed_by for each in self.verdicts if each.killed_by)
        return {
            "name": self.op,
            "pass": self.passes,
            "of": self.of,
            "mutants": len(self.verdicts),
            "killed": self.killed,
            "score": self.share,
            "killed_by": dict(causes.most_common()),
            "survived": [_as_json(each) for each in self.survivors],
            "equivalent": [_as_json(each) for each in self.equivalent],
            "misjudged": [_as_json(each) for each in self.misjudged],
        }


def told(verdict: Verdict, op: str) -> str:
    """Return a mutant as a line for people."""
    mutant = verdict.mutant
    change = f"-> {mutant.after}" if mutant.after else "dropped"
    return f"{op}.ptx:{mutant.line} {mutant.entry}: {mutant.before} {change}"


def _as_json(verdict: Verdict) -> dict[str, Any]:
    mutant = verdict.mutant
    found = {
        "entry": mutant.entry,
        "line": mutant.line,
        "rule": mutant.rule,
        "before": mutant.before,
        "after": mutant.after,
    }
    return found | ({"reason": verdict.reason} if verdict.reason else {})
