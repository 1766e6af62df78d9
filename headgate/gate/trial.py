"""Evidence after evidence, until every check is decided, one has failed, or nothing more comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field

from headgate.errors import GateError
from headgate.gate.judge import settle
from headgate.gate.report import Moment
from headgate.records import Check, Evidence, Outcome

__all__ = ["Trial", "not_measured"]

_BY_SATURATION = frozenset({"throughput_ratio", "parity", "cost"})
"""Checks of what is answered in closed loop."""


@dataclass(slots=True)
class Trial:
    """What has been found so far; it stays where the measurement breaks off."""

    checks: tuple[Check, ...] = ()
    evidence: Evidence | None = None
    course: list[Moment] = field(default_factory=list)
    """The checks as they stood at each look."""

    def saturates(self) -> bool:
        """Whether a check is open that saturation decides."""
        return not self.checks or any(
            check.name in _BY_SATURATION and check.outcome is Outcome.INCONCLUSIVE
            for check in self.checks
        )

    def follow(
        self,
        seen: Generator[Evidence],
        judge: Callable[[Evidence], tuple[Check, ...]],
    ) -> None:
        """Judge what :func:`headgate.gate.measure` yields, and close it as soon as that is enough."""
        began_s = time.monotonic()
        with closing(seen):
            for evidence in seen:
                self.evidence = evidence
                self.checks = settle(self.checks, judge(evidence))
                moment = Moment(at_s=time.monotonic() - began_s, checks=self.checks)
                self.course.append(moment)
                outcomes = {check.outcome for check in self.checks}
                if Outcome.FAIL in outcomes or Outcome.INCONCLUSIVE not in outcomes:
                    return


def not_measured(error: GateError) -> Check:
    """What a load test that broke off says of its release: nothing."""
    return Check(
        name="measurement",
        model="",
        outcome=Outcome.INCONCLUSIVE,
        reason=str(error),
        samples=0,
    )
