"""The page: one file, no network, no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from headgate.gate.report import charts
from headgate.gate.report.inline import Chart
from headgate.gate.report.wording import (
    beside,
    blamed,
    by_urgency,
    interval,
    limit,
    observed,
    plain,
    quantity,
    title,
    what_now,
)
from headgate.records import Evidence, Generator, Moment, Outcome, Side, Verdict
from headgate.stats import quantile

__all__ = ["page"]

_SIGN = {Outcome.PASS: "✓", Outcome.FAIL: "✗", Outcome.INCONCLUSIVE: "?"}
_UNKNOWN = Generator(cpu=0.0)
"""Of samples that somebody else has measured."""
_CAUSES = 20
"""Causes of errors that are listed for one model."""


class _Error(NamedTuple):
    cause: str
    release: str
    model: str
    requests: str


def page(verdict: Verdict, evidence: Evidence | None, course: Sequence[Moment]) -> str:
    """The HTML document."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("headgate.gate.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    css = files("headgate.gate.report").joinpath("page.css").read_text("utf-8")
    drawn = [
        (heading, [_markup(chart) for chart in each])
        for heading, each in _sections(verdict, evidence, course)
    ]
    against, reason = blamed(verdict)
    champion = evidence.champion if evidence else None
    return environment.get_template("page.html.jinja").render(
        verdict=verdict,
        evidence=evidence,
        policy=_policy(css),
        css=Markup(css),  # noqa: S704
        sign=_SIGN,
        blamed=against,
        reason=reason,
        now=what_now(verdict),
        champion=champion.release if champion else "",
        beside=beside(verdict),
        checks=by_urgency(verdict.checks),
        sections=drawn,
        errors=list(_errors(evidence)),
        facts=list(_facts(verdict, evidence)),
        title=title,
        observed=observed,
        limit=limit,
        interval=interval,
        count=_count(verdict),
    )


def _count(verdict: Verdict) -> str:
    words = {Outcome.FAIL: "failed", Outcome.INCONCLUSIVE: "inconclusive", Outcome.PASS: "passed"}
    told = [check.outcome for check in verdict.checks]
    found = [f"{told.count(each)} {words[each]}" for each in words if each in told]
    return f"Checks: {', '.join(found)}." if told else "No checks."


def _policy(css: str) -> str:
    """Nothing from anywhere, and of styles this very sheet: not even what a reason might smuggle."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _markup(chart: Chart) -> dict[str, Any]:
    """For the template, which escapes all of it but the drawing."""
    from markupsafe import Markup

    return {
        "title": chart.title,
        "alt": chart.alt,
        "caption": chart.caption,
        "svg": Markup(chart.svg),  # noqa: S704
    }


def _sections(
    verdict: Verdict, evidence: Evidence | None, course: Sequence[Moment]
) -> Iterator[tuple[str, list[Chart]]]:
    if evidence is None:
        return
    for samples in evidence.candidate.samples:
        drawn = list(charts.of_model(verdict, evidence, course, samples.model))
        yield samples.model or "The requests", drawn
    if drawn := list(charts.of_release(verdict, evidence, course)):
        yield "At saturation", drawn


def _errors(evidence: Evidence | None) -> Iterator[_Error]:
    for side in _both(evidence):
        counted = [(samples.model, samples.errors) for samples in side.samples]
        if side.saturation is not None:
            counted.append(("at saturation", side.saturation.errors))
        for model, errors in counted:
            ranked = sorted(errors.items(), key=lambda item: (-item[1], item[0]))
            for cause, count in ranked[:_CAUSES]:
                yield _Error(cause, side.release, model, f"{count:,}")
            if rest := ranked[_CAUSES:]:
                total = sum(count for _, count in rest)
                yield _Error(f"{len(rest):,} other causes", side.release, model, f"{total:,}")


def _facts(verdict: Verdict, evidence: Evidence | None) -> Iterator[tuple[str, str]]:
    yield "Release", verdict.release
    if verdict.digest:
        yield "Digest", verdict.digest
    if verdict.profile:
        yield "Profile", verdict.profile
    yield "Reached", f"{verdict.at:%Y-%m-%d %H:%M:%S} UTC"
    yield "Requests judged", f"{verdict.samples:,}"
    if evidence is None:
        yield "Measured", "nothing"
        return
    champion = evidence.champion
    alone = "none: judged by its own limits alone"
    yield beside(verdict).capitalize(), champion.release if champion else alone
    foreign = evidence.generator == _UNKNOWN
    for side in _both(evidence):
        for samples in side.samples:
            late_ms = 1000 * quantile(samples.sent_s - samples.intended_s, 0.95)
            yield (
                f"{side.release} {samples.model}".rstrip(),
                (
                    f"{len(samples.ok):,} requests in {len(np.unique(samples.block)):,} blocks "
                    f"of together {samples.duration_s:,.0f} s, {int(samples.rows.sum()):,} rows"
                    + ("" if foreign else f"; sent {quantity(late_ms, 'ms')} late (P95)")
                ),
            )
    if champion and not all(side.paired for side in (evidence.candidate, champion)):
        yield (
            "Two separate runs",
            (
                "The two were not loaded in turn: what the machine, the network and the hour did to one "
                "run and not to the other looks like a difference between them, and is in no interval "
                "here. Loads in turn, on one machine, leave it out."
            ),
        )
    yield from _of_generator(evidence.generator)
    if len(evidence.looks) > 1:
        yield (
            "Looks",
            (
                f"judged {len(evidence.looks)} times within {evidence.looks[-1]:.0%} of the budget; the "
                "intervals allow for it"
            ),
        )


def _of_generator(generator: Generator) -> Iterator[tuple[str, str]]:
    if generator == _UNKNOWN:
        yield "Generator", "somebody else's: what it is capable of is not known"
        return
    yield "Generator's CPU", f"{generator.cpu:.0%} of its core in the busiest block"
    if generator.p95_s is not None:
        floor = quantity(1000 * generator.p95_s, "ms")
        yield "Generator's floor", f"P95 {floor} against an endpoint that does nothing"
    if generator.most_rps is not None:
        yield "Generator's most", f"{quantity(round(generator.most_rps), 'requests/s')} of that"


def _both(evidence: Evidence | None) -> tuple[Side, ...]:
    sides = (evidence.candidate, evidence.champion) if evidence else ()
    return tuple(side for side in sides if side is not None)
