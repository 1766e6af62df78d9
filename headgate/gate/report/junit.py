"""JUnit XML: a suite for each model, a case for each check.

What is inconclusive is an ``<error>``: Jenkins, GitLab, Azure and the reporters for GitHub count it
as broken, beside a ``<failure>``; ``<skipped>``, the other candidate, they let pass. A suite
without cases they take for success, so a verdict without checks has one case that says so.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence

from headgate.gate.report.wording import interval, limit, observed, plain
from headgate.records import Check, Outcome, Verdict

__all__ = ["junit"]

_TAG = {Outcome.FAIL: "failure", Outcome.INCONCLUSIVE: "error"}


def junit(verdict: Verdict) -> bytes:
    """The document, in UTF-8, by the schema that Jenkins publishes.

    (``src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd/junit-10.xsd``.)
    """
    told = {check.outcome for check in verdict.checks}
    checks = list(verdict.checks)
    if verdict.outcome not in told:  # nothing was checked, or nothing explains the verdict
        checks.insert(0, _whole(verdict))
    root = ET.Element("testsuites", {"name": "headgate gate", **_counts(checks)})
    for model in dict.fromkeys(check.model for check in checks):
        _suite(root, verdict, model, [check for check in checks if check.model == model])
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, "unicode")}\n'.encode()


def _suite(root: ET.Element, verdict: Verdict, model: str, checks: Sequence[Check]) -> None:
    name = plain(model or verdict.release)
    suite = ET.SubElement(
        root,
        "testsuite",
        {
            "name": name,
            "timestamp": f"{verdict.at:%Y-%m-%dT%H:%M:%S}",
            **_counts(checks),
        },
    )
    properties = ET.SubElement(suite, "properties")
    for key, value in {
        "release": verdict.release,
        "digest": verdict.digest,
        "profile": verdict.profile,
        "verdict": verdict.outcome.value,
    }.items():
        ET.SubElement(properties, "property", {"name": key, "value": plain(value)})
    seen: Counter[str] = Counter()
    for check in checks:
        seen[check.name] += 1
        # GitLab takes the first of equal names and leaves the others out.
        again = f" ({seen[check.name]})" if seen[check.name] > 1 else ""
        case = {"classname": name, "name": plain(check.name) + again, "time": "0"}
        _told(ET.SubElement(suite, "testcase", case), check)


def _told(case: ET.Element, check: Check) -> None:
    reason = plain(check.reason)
    numbers = (
        f"observed {observed(check)}, "
        f"limit {limit(check)}, "
        f"interval {interval(check)}, {check.samples:,} samples"
    )
    if tag := _TAG.get(check.outcome):
        told = ET.SubElement(case, tag, {"message": reason, "type": check.outcome.value})
        told.text = f"{reason}\n{numbers}"
    else:
        ET.SubElement(case, "system-out").text = f"{reason}\n{numbers}"


def _counts(checks: Sequence[Check]) -> dict[str, str]:
    outcomes = [check.outcome for check in checks]
    return {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count(Outcome.FAIL)),
        "errors": str(outcomes.count(Outcome.INCONCLUSIVE)),
        "time": "0",
    }


def _whole(verdict: Verdict) -> Check:
    return Check(
        name="verdict",
        model="",
        outcome=verdict.outcome,
        reason=verdict.reason,
        samples=verdict.samples,
    )
