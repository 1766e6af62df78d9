"""What a person sees: one function per kind of result, over rich, to standard output."""

from __future__ import annotations

import datetime as dt
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec

from headgate.errors import InputError
from headgate.records import Capacity, Event, ModelRef, Outcome, Verdict

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from headgate.doctor import Finding
    from headgate.pipeline import (
        Containerized,
        Judged,
        Pruned,
        Range,
        Shipped,
        Sized,
        Status,
        Tuned,
    )
    from headgate.registry import ModelVersion
    from headgate.rollout import Running

__all__ = ["EXIT", "say", "show"]

EXIT = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 3}
_COLOUR = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.INCONCLUSIVE: "yellow"}
_SHOWN_MB = 0.05
"""A smaller layer is not shown."""

T = TypeVar("T")


def say(line: str) -> None:
    """One line of progress, to standard error."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def print_json(value: Any) -> None:
    """One JSON document, to standard output."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value)) + b"\n")
    sys.stdout.buffer.flush()


def show(value: T, human: Callable[[T], None], *, json: bool) -> None:
    """Print ``value`` as JSON or as ``human`` puts it."""
    if json:
        print_json(value)
    else:
        human(value)


def _table(*columns: str, whole: Container[str] = ()) -> Table:
    """A table; the columns in ``whole`` are never wrapped, so that they can be copied."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in whole)
    return table


def _row(table: Table, *cells: str | Text) -> None:
    table.add_row(*(_line(cell) for cell in cells))


def _line(*parts: str | Text) -> Text:
    """A line in which brackets are brackets: people's own words are no markup."""
    from rich.text import Text

    return Text.assemble(*parts)


def _print(*things: str | Text | Table) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    for thing in things:
        console.print(_line(thing) if isinstance(thing, str) else thing)


def _outcome(outcome: Outcome) -> Text:
    from rich.text import Text

    return Text(outcome.value, style=_COLOUR[outcome])


def refs(found: Sequence[ModelRef]) -> None:
    """Pinned versions."""
    table = _table("model", "version", "run", "digest", whole=("run", "digest"))
    for ref in found:
        _row(table, ref.name, ref.version, ref.run_id[:8], ref.digest[:19])
    _print(table)


def versions(found: Mapping[str, Sequence[ModelVersion]]) -> None:
    """Registered versions."""
    table = _table("model", "version", "registered", "run", "aliases")
    for name, each in found.items():
        for one in each:
            _row(
                table,
                name,
                one.version,
                f"{one.created:%Y-%m-%d %H:%M}",
                one.run_id[:8],
                ", ".join(one.aliases),
            )
    _print(table)


def built(found: Mapping[str, Any]) -> None:
    """A Bento."""
    _print(f"{found['tag']} ({'built' if found['new'] else 'unchanged'}) at {found['path']}")


def containerized(found: Containerized) -> None:
    """An image, what is in it, and how a container of it did."""
    size = "" if found.mb is None else f"{found.mb:,.0f} MB, "
    _print(f"{found.image}: {size}{found.id}")
    for layer in found.layers:
        if layer.mb >= _SHOWN_MB:
            _print(f"  {layer.mb:6.1f} MB  {shorten(layer.made_by, 90) or 'the base image'}")
    if found.cold_start_s is not None:
        _print(
            f"ready after {found.cold_start_s:.1f} s; "
            f"{found.checked:,} predictions as they should be"
        )


def prepare(report: Path | None, file: Path | None, *, json: bool) -> None:
    """Hold, before anything is measured, that its reports can be written."""
    if file is not None and not json:
        raise InputError(
            f"{file} and --url or --samples do not go together",
            where="RELEASE",
            remedy="leave it out, or write --json before the name of a file",
        )
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=report):
            pass
    if file is not None:
        if file.is_dir():
            raise InputError("is a folder", where=str(file), remedy="name a file for --json")
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass


def judged(found: Judged, report: Path | None, file: Path | None, *, json: bool) -> None:
    """A verdict on something else than a release, its reports and its JSON where they should go."""
    show(found.verdict, verdict, json=json and file is None)
    if file is not None:
        _write(file, msgspec.json.format(msgspec.json.encode(found.verdict)) + b"\n")
    if report is not None:
        for name, content in found.reports().items():
            _write(report / name, content)


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        partial.unlink(missing_ok=True)


def verdict(found: Verdict) -> None:
    """A verdict and its checks."""
    table = _table("model", "check", "verdict", "why")
    for check in found.checks:
        _row(table, check.model, check.name, _outcome(check.outcome), check.reason)
    _print(table, _line(f"{found.release}: ", _outcome(found.outcome), f" — {found.reason}"))


def sized(found: Sized) -> None:
    """What a release can take, and what follows from it."""
    capacity, many = found.capacity, len(found.models)
    each = f" to each of {many} models at once" if many > 1 else ""
    lines = [f"{found.release}: {_holds(capacity)}{each} (rows in a request: {found.rows})"]
    if capacity.low is not None:
        lines += [f"  {capacity.low:,.0f}/s held in {_of(capacity.low_held)} steps"]
        if many > 1 or found.rows > 1:
            whole = capacity.low * many
            lines[-1] += f": {whole:,.0f} requests/s and {whole * found.rows:,.0f} rows/s in all"
    if capacity.high is not None:
        lines += [f"  {capacity.high:,.0f}/s failed in {_of(capacity.high_failed)}: {capacity.why}"]
    if capacity.limited:
        lines += [f"  generator-limited: {capacity.limited}; --generators shares the load"]
    if not capacity.settled:
        lines += ["  the time ended before that was settled: --budget gives more"]
    used = f"at {found.utilisation:.0%} utilisation"
    if found.per_million is not None:
        unit = f"{found.currency} per 1M predictions"
        lines += [f"cost      {_span(found.per_million, '.3g', capacity)} {unit}, {used}"]
    elif capacity.low is not None:
        lines += ["cost      unknown: set instance_per_hour under [cost] in headgate.toml"]
    if found.replicas is not None:
        rate = f"{found.for_rate:,.6g} requests/s{' to each' if many > 1 else ''}"
        lines += [f"machines  {_span(found.replicas, ',.0f', capacity)} for {rate}, {used}"]
    _print(*lines, *(_settings(found.tuned) if found.tuned else ()))


def _holds(found: Capacity) -> str:
    if found.low is not None:
        least = "" if found.high is not None else "at least "
        return f"holds {least}{found.low:,.0f} requests/s"
    if found.high is not None:
        return f"fails even at {found.high:,.0f} requests/s"
    return "nothing is known of its capacity"


def _span(figure: Range, form: str, capacity: Capacity) -> str:
    """A figure that falls as the capacity rises, and what it lies between."""
    value, low, high = (format(each, form) for each in (figure.value, figure.low, figure.high))
    if capacity.high is None:
        return f"at most {high}"
    return value if low == high else f"{value} ({low} to {high})"


def _of(counts: tuple[int, int]) -> str:
    return f"{counts[0]} of {counts[1]}"


def _settings(found: Tuned) -> list[str]:
    """The best settings, and where to write them."""
    if found.gain is None or found.capacity is None:
        tried = f"{len(found.tried)} tried" if found.tried else "there was no time to try any"
        return [f"settings  nothing is better than {found.now}, beyond the noise ({tried})"]
    gain = found.gain
    span = f"{gain.low:.2f} to {gain.high:.2f}" if gain.high else f"{gain.low:.2f} upwards"
    lines = [
        f"settings  {found.best} answer {gain.times:.2f} times as much ({span}) as {found.now}",
        f"  with them it {_holds(found.capacity)}; write into",
    ]
    for file, written in found.lines.items():
        lines += [f"  {file}", *(f"    {line}" for line in written)]
    return lines


def running(found: Running) -> None:
    """A server process."""
    _print(f"{found.release} serves on http://{found.http} (pid {found.pid}, log {found.log})")


def stopped(found: Mapping[str, Running | None]) -> None:
    """What `headgate down` stopped."""
    was = found["stopped"]
    _print(f"stopped {was.release} (pid {was.pid})" if was else "nothing was serving")


def status(found: Status) -> None:
    """What is live."""
    if found.live is None:
        _print("nothing is live; run `make ship`")
        return
    gated = found.live.verdict
    _print(
        f"live      {found.live.tag}  {found.live.digest}",
        _line("verdict   ", _outcome(gated.outcome), f" — {gated.reason} ({_when(gated.at)})")
        if gated
        else "verdict   none",
        f"serving   {'yes' if found.running else 'no; `headgate up` serves it'}",
    )
    if found.previous:
        _print(f"previous  {found.previous}")
    for name, address in found.addresses.items():
        _print(f"{name:<9} {address if name == 'grpc' else f'http://{address}'}")
    table = _table("model", "version", "engine", "aliases")
    for model in found.models:
        _row(table, model.name, model.version, model.engine, ", ".join(model.aliases))
    _print(table)


def history(found: Iterable[Event]) -> None:
    """The events, oldest first."""
    whole = ("when (UTC)", "what", "release", "verdict")
    table = _table("when (UTC)", "what", "release", "models", "verdict", "who", "why", whole=whole)
    for event in found:
        _row(
            table,
            f"{event.at:%Y-%m-%d %H:%M:%S}",
            event.kind.replace("_", " "),
            event.release.tag,
            ", ".join(f"{ref.name} {ref.version}" for ref in event.release.models),
            _outcome(event.verdict.outcome) if event.verdict else "",
            event.who,
            shorten(event.why, 90, placeholder=" …"),
        )
    _print(table)


def pruned(found: Pruned) -> None:
    """What `headgate prune` deleted and kept."""
    _print(
        f"kept     {', '.join(found.kept) or 'none'}",
        f"deleted  {', '.join(found.deleted) or 'none'}",
        f"freed    {found.freed_mb:.1f} MB",
    )


def examined(found: Sequence[Finding]) -> None:
    """What `headgate doctor` found."""
    from rich.text import Text

    for item in found:
        mark = Text("ok  ", style="green") if item.ok else Text("not ", style="red")
        _print(_line(mark, f" {item.name}: {item.detail}"))


def shipped(found: Shipped) -> None:
    """What `headgate ship` came to, and what to try next."""
    verdict(found.verdict)
    if not found.judged:
        _print(
            f"measured {_when(found.verdict.at)}, not now: the release is the same; "
            f"`{_me()} gate` measures it anew"
        )
    if not found.live:
        _print(
            f"{found.release.tag} gets no traffic."
            + (f" The earlier release goes on at http://{found.http}." if found.http else "")
        )
        return
    if found.verdict.outcome is not Outcome.PASS:
        _print(
            f"{found.release.tag} was live already and goes on at http://{found.http}; "
            "`headgate rollback` goes back to the release before it."
        )
        return
    _print(
        f"\n{found.release.tag} is live on http://{found.http}"
        + ("" if found.changed else " (nothing had changed)"),
        "\nTry next:",
        *(f"  {_request(found, ref.name)}" for ref in found.release.models),
    )
    me = _me()
    for command, what in (
        (f"open http://{found.http}/", "every endpoint, with its schema"),
        (f"{me} status", "what is live"),
        (f"{me} history", "what happened"),
        (f"{me} down", "stop it"),
    ):
        _print(f"  {command:<34} {what}")


def _me() -> str:
    """This command, as a person here can type it."""
    return "headgate" if shutil.which("headgate") else os.path.relpath(sys.argv[0])


def _when(at: dt.datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _request(found: Shipped, model: str) -> str:
    """A command line that asks the model, or asks about it where there is no example."""
    url = f"{found.http}/v1/models/{quote(model)}"
    if model not in found.examples:
        return f"curl -s {url}"
    body = shlex.quote(f"@examples/{model}.json")
    return f"curl -s {url}:predict -H 'content-type: application/json' -d {body}"
