"""The arguments and options that commands of the command line share, or have many of."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from headgate.errors import InputError

__all__ = [
    "P95",
    "P99",
    "Against",
    "AgainstSamples",
    "Budget",
    "BuildOptions",
    "Engine",
    "Expect",
    "ForRate",
    "Generators",
    "Header",
    "ImageName",
    "Json",
    "Listen",
    "MaxErrorRate",
    "MaxP95Ratio",
    "NoTry",
    "Profile",
    "Rate",
    "Remote",
    "Report",
    "Request",
    "Rows",
    "SameOrShape",
    "SamplesFile",
    "SizingBudget",
    "Tag",
    "Tune",
    "Url",
    "Why",
    "not_empty",
]


def not_empty(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """An empty value is a mistake, such as an unset variable in a script: no default."""
    if value == "":
        name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
        raise InputError(
            "'' names none", where=str(name).strip("[]"), remedy="name one, or leave it out"
        )
    return value


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Why = Annotated[str, typer.Option("--why", help="The reason, for the history.")]
Profile = Annotated[
    str | None,
    typer.Option("--profile", help="A profile of headgate.toml.", callback=not_empty),
]
Tag = Annotated[
    str | None,
    typer.Argument(
        metavar="[RELEASE]", help="A release's tag, or its beginning.", callback=not_empty
    ),
]

Tune = Annotated[bool, typer.Option("--tune", help="Look for settings that take more.")]
ForRate = Annotated[
    float | None,
    typer.Option(
        "--for-rate",
        min=0.001,
        max=1e9,
        help="Count machines for so many requests per second to each model.",
    ),
]
SizingBudget = Annotated[
    float | None,
    typer.Option(
        "--budget",
        min=5,
        max=86_400,
        help="Seconds it may take; by default 120, with --tune 600.",
        show_default=False,
    ),
]
Rows = Annotated[
    int | None,
    typer.Option(
        "--rows", min=1, max=100_000, help="Rows in a request; by default the gate profile's."
    ),
]
Generators = Annotated[
    int,
    typer.Option("--generators", min=1, max=64, help="Locust processes that share the load."),
]


class SameOrShape(enum.StrEnum):
    """What `headgate gate --url` holds an answer against."""

    SAME = "same"
    SHAPE = "shape"


Url = Annotated[
    str | None,
    typer.Option("--url", help="Judge this endpoint, not a release."),
]
Against = Annotated[
    str | None,
    typer.Option("--against-url", help="With --url: the baseline."),
]
Request = Annotated[
    Path | None,
    typer.Option(
        "--request",
        help="With --url: what is posted, a JSON body, or one a line in a .jsonl.",
    ),
]
Header = Annotated[
    list[str] | None,
    typer.Option("--header", help="With --url: 'name: value', any number of them."),
]
Rate = Annotated[
    float,
    typer.Option("--rate", min=0.1, max=1e6, help="With --url: requests per second."),
]
Budget = Annotated[
    float,
    typer.Option("--budget", min=1, max=86_400, help="With --url: seconds it may take."),
]
Expect = Annotated[
    SameOrShape,
    typer.Option(
        "--expect",
        help="With --url: answers equal to the baseline's, or of its shape.",
    ),
]
Remote = Annotated[
    int,
    typer.Option("--remote", min=0, max=1000, help="Locust processes on other machines."),
]
Listen = Annotated[
    str,
    typer.Option("--listen", help="With --remote: where they find their work, host:port."),
]
SamplesFile = Annotated[
    Path | None,
    typer.Option("--samples", help="Judge what a CSV, k6, Locust, JMeter or vegeta has measured."),
]
AgainstSamples = Annotated[
    Path | None,
    typer.Option("--against-samples", help="With --samples: the baseline's."),
]
P95 = Annotated[
    float | None,
    typer.Option("--p95-ms", min=0.001, help="With either: limit of the 95th percentile, ms."),
]
P99 = Annotated[
    float | None,
    typer.Option("--p99-ms", min=0.001, help="With either: limit of the 99th percentile, ms."),
]
MaxErrorRate = Annotated[
    float,
    typer.Option("--max-error-rate", min=0, max=1, help="With either: share that may fail."),
]
MaxP95Ratio = Annotated[
    float,
    typer.Option("--max-p95-ratio", min=1, help="With either: limit of P95 over the baseline's."),
]
Report = Annotated[
    Path | None,
    typer.Option("--report", help="With either: write the reports into this folder."),
]
Engine = Annotated[
    str | None, typer.Option("--with", help="docker, podman or buildah; by default what there is.")
]
ImageName = Annotated[
    str | None,
    typer.Option("--tag", help="Name of the image; by default the release's.", callback=not_empty),
]
BuildOptions = Annotated[
    list[str] | None,
    typer.Option("--option", help="One of the engine's for building: --option=--network=host."),
]
NoTry = Annotated[bool, typer.Option("--no-try", help="Build only; start no container of it.")]
