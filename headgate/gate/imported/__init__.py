"""Samples that somebody else measured → one side of the evidence.

Read are, recognised by what is in them, gzip or not:

- CSV with a header: a latency (``latency_ms``, ``latency_s``, ``duration_ms``, ``elapsed`` …) and,
  where there are such columns, a time, what came of it and a block. JMeter's results (JTL, as CSV)
  and the request logs that people write from Locust's ``events.request`` are of this kind;
- k6, ``--out csv`` and ``--out json``;
- vegeta, ``vegeta encode --to csv`` and ``--to json``.

Files that hold only sums, or leave the failed requests out, are refused, with the reason.

Blocks, on which the judge's intervals stand, are the file's own column ``block`` or pieces of time.
Two files measured one after the other share no noise by block: a machine that was busy during one
of them looks like a slow release, and no interval can tell the two apart, because it only knows how
much one run varies in itself. Such sides are not ``paired``: their blocks are taken for independent,
and the report says what that leaves out. A file with a column ``block`` claims that the other one
has the same rounds, loaded in turn.

Most of these tools wait for an answer before they send the next request, so a release that stalls
is asked less, and the wait of those that would have come is in no file (coordinated omission).
"""

from __future__ import annotations

import zlib
from pathlib import Path

from headgate.errors import InputError
from headgate.gate.imported.lines import read_lines
from headgate.gate.imported.opened import opened
from headgate.gate.imported.refused import refuse
from headgate.gate.imported.tables import read_table
from headgate.records import Evidence, Generator, Side

__all__ = ["as_evidence", "read_samples"]


def read_samples(path: Path, *, name: str) -> Side:
    """Every request of a file, as one side.

    Latency is from the send time that the file has, milliseconds where a bare ``latency``,
    ``duration`` or ``elapsed`` names no unit; a bare time is seconds, or a Unix time in s, ms, µs
    or ns by its size. Whether a request was right is what ``ok`` or ``success`` says; where there is
    no such column, a status of 200 to 399 and an empty ``error``; where there is none of these
    either, all were. One that was not has no latency: it is infinite. Answers are not compared with
    anything: ``matched`` equals ``ok``.

    Args:
        path: The file.
        name: What the side is called in the report.

    Returns:
        One :class:`~headgate.records.Samples`, whose model is empty: all requests of the file. Its
        ``duration_s`` is 0 where the file has no times: then nothing can be said of a rate.

    Raises:
        InputError: The file is none of these, or something in it is wrong; with line and column.
    """
    try:
        with opened(path) as (first, stream):
            refuse(path, first)
            read = read_lines if first.startswith("{") else read_table
            found = read(path, stream)
    except (OSError, EOFError, zlib.error) as error:
        what = getattr(error, "strerror", None) or str(error) or "it ends too early"
        raise InputError(what, where=str(path), remedy="give a file that can be read") from None
    return found.side(path, name)


def as_evidence(candidate: Side, champion: Side | None) -> Evidence:
    """What the judge is asked with: of the generator, nothing is known, and nothing held against."""
    return Evidence(candidate=candidate, champion=champion, generator=Generator(cpu=0.0))
