"""The page, as a browser takes it apart."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
from gate.evidence import check, course, evidence, samples, saturation, side, verdict

from headgate.gate.report import reports
from headgate.gate.report.page import page
from headgate.records import Evidence, Generator

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Document(HTMLParser):
    """Tags with their attributes, the text between them, and whether they close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open:
            self.texts.append((self.open[-1], data.strip()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self, *tags: str) -> str:
        return "\n".join(text for tag, text in self.texts if not tags or tag in tags)


def alts(document: Document) -> list[str]:
    return [each["aria-label"] or "" for each in document.all("div") if each.get("role") == "img"]


BOTH = evidence(
    side("r:2", samples(factor=1.1), saturation=saturation(2_000)),
    side("r:1", samples(), saturation=saturation(2_100)),
    looks=(0.2, 0.4, 0.6),
)
RATIO = check(
    "p95_ratio",
    "fail",
    "P95 is 1.10 times the champion's.",
    observed=1.1,
    limit=1.05,
    interval=(1.07, 1.13),
)
P95 = check("p95", observed=33.0, limit=50.0, unit="ms", interval=(31.0, 36.0))


def test_the_verdict_its_reason_and_what_to_do_come_first() -> None:
    told = verdict(P95, RATIO, outcome="fail", reason="m: P95 is 1.10 times the champion's.")
    document = Document(page(told, BOTH, course("p95_ratio", 1.2, 1.12, 1.1)))
    before = document.text().split("What was asked")[0]
    for each in ("fail", "headgate:1", "P95 is 1.10 times the champion's.", "must not get traffic"):
        assert each in before
    assert "Compared with r:1." in before
    assert document.text("title") == "fail: headgate:1"


def test_every_check_is_a_row_the_failed_first() -> None:
    document = Document(page(verdict(P95, RATIO, outcome="fail"), None, ()))
    table = document.text().split("What was asked")[1].split("Measurements")[0].splitlines()
    assert [line for line in table if line in {"P95 latency", "P95 ratio"}] == [
        "P95 ratio",
        "P95 latency",
    ]
    for each in ("1.100", "≤ 1.05", "1.070 to 1.130", "33 ms", "≤ 50 ms", "31 to 36", "300"):
        assert each in table, each
    heads = document.all("th")
    assert {each.get("scope") for each in heads} == {"col", "row"}


def test_charts_of_a_comparison() -> None:
    told = verdict(P95, RATIO, outcome="fail")
    looks = course("p95_ratio", 1.2, 1.12, 1.1) + course("throughput_ratio", 1.0, model="")
    document = Document(page(told, BOTH, looks))
    assert document.text("h3").splitlines() == [
        "How long requests took",
        "P95 ratio, look by look",
        "P95 of each block",
        "Requests a second at saturation",
        "Throughput ratio, look by look",
    ]
    first, ratio, scatter, most, _ = alts(document)
    assert re.search(r"candidate: P50 [\d.]+ ms, P95 [\d.]+ ms, P99 [\d.]+ ms, 300 requests", first)
    assert "champion: P50" in first
    assert "at 3 looks, at last 1.10 (1.03 to 1.17); the limit is 1.05" in ratio
    assert "0 of 6 with errors" in scatter
    assert "candidate 2,025 requests/s in the middle of 6 blocks" in most
    drawn = document.text("text")
    assert "P95 limit" in drawn
    assert "limit 1.05" in drawn
    assert len(document.all("svg")) == 5


def test_charts_of_a_spike() -> None:
    seen = evidence(side("r:2", samples()), peak=(8.0, 12.0))
    document = Document(page(verdict(P95, check("recovery")), seen, ()))
    assert "Latency over time" in document.text("h3")
    assert "The spike lasts from 8 s to 12 s." in alts(document)[-1]
    assert "the limits hold without it" in document.text("figcaption")
    assert "fill-peak" in {each.get("class") for each in document.all("path")}
    assert "there is no champion" in document.text()


def test_the_course_of_p95_where_there_is_no_champion() -> None:
    seen = evidence(side("r:2", samples()))
    document = Document(page(verdict(P95), seen, course("p95", 30.0, 31.0, limit=50.0)))
    assert "P95 latency, look by look" in document.text("h3")


def test_latency_has_ticks_that_fit_it() -> None:
    wide = replace(samples(), latency_s=np.geomspace(0.001, 0.4, 300))
    drawing = page(verdict(), evidence(side("r:2", wide)), ()).split("</svg>")[0]
    ticks = Document(drawing[drawing.index("<svg") :] + "</svg>").text("text").splitlines()
    numbers = [float(each.replace(",", "")) for each in ticks if re.fullmatch(r"[\d.,]+", each)]
    assert {1.0, 10.0, 100.0} <= set(numbers)
    assert min(numbers) >= 0.1
    assert max(numbers) <= 1_000


def test_one_slow_block_does_not_hide_the_others() -> None:
    seen = samples()
    slow = replace(seen, latency_s=np.where(seen.block == 3, 9.0, seen.latency_s))
    drawing = page(verdict(), evidence(side("r:2", slow)), ()).split("</svg>")[1]
    ticks = Document(drawing[drawing.index("<svg") :] + "</svg>").text("text").splitlines()
    assert {"50", "100", "1,000", "10,000"} <= set(ticks)
    assert len(ticks) < 25


def test_samples_of_somebody_else() -> None:
    told = msgspec.structs.replace(verdict(P95), digest="", profile="")
    apart = Evidence(
        candidate=side("new.csv", samples(), paired=False),
        champion=side("old.csv", samples(), paired=False),
        generator=Generator(cpu=0.0),
    )
    text = page(told, apart, ())
    document = Document(text)
    assert "Compared with old.csv." in document.text()
    assert "were not loaded in turn" in document.text("dd")
    assert "what it is capable of is not known" in document.text("dd")
    assert "Two separate runs" in document.text("figcaption")
    assert "baseline" in document.text("text")
    assert not re.search(
        r"champion|\blate\b|profile", "".join(document.text("p", "dt", "dd", "text"))
    )


def test_the_unanswered_are_told() -> None:
    seen = evidence(side("r:2", samples(failed=90)))
    document = Document(page(verdict(P95), seen, ()))
    assert "90 of 300 requests to the candidate had no right answer" in document.text("figcaption")
    assert "P95 endless" in alts(document)[0]
    assert "Of 2, more than 5 % had none" in document.text("figcaption")
    assert "2 of 6 with errors" in alts(document)[1]
    assert "no answer in time" in document.text("th")


def test_no_evidence_still_makes_a_page() -> None:
    reason = "The release did not serve: it ended with code 1."
    told = verdict(check("serving", "fail", reason, model=""), outcome="fail", reason=reason)
    document = Document(page(told, None, ()))
    assert document.all("svg") == []
    assert f"There are none to draw: {reason}" in document.text()


@pytest.mark.parametrize(
    "odd",
    [
        samples(failed=300),
        samples(rounds=1, each=1),
        samples(rounds=0),
        samples(factor=0.0),
        samples(factor=np.nan),
    ],
    ids=["none answered", "one request", "no request", "zeros", "NaN"],
)
def test_odd_samples_make_a_page(odd: object) -> None:
    seen = evidence(side("r:2", odd), side("r:1", odd), peak=(1.0, 2.0))  # type: ignore[arg-type]
    assert Document(page(verdict(P95), seen, ())).all("h2")


def test_infinite_intervals_make_a_page() -> None:
    endless = check("p95", "fail", observed=None, limit=50.0, unit="ms", interval=(20.0, np.inf))
    looks = course("p95", np.inf, 30.0, np.inf, limit=50.0)
    document = Document(page(verdict(endless, outcome="fail"), BOTH, looks))
    assert "20 ms upwards" in document.text("td")


def test_the_checks_of_several_profiles_are_told_apart_and_their_limits_found() -> None:
    named = [
        check("full/p95", observed=33.0, limit=50.0, unit="ms"),
        check("spike/p95", observed=44.0, limit=50.0, unit="ms"),
        check("full/p95_ratio", observed=1.0, limit=1.05, interval=(0.98, 1.02)),
    ]
    document = Document(page(verdict(*named), BOTH, course("p95_ratio", 1.0, 1.0)))
    titles = document.text("th").splitlines()
    assert {"P95 latency (full)", "P95 latency (spike)"} <= set(titles)
    assert "P95 limit" in document.text("text")
    assert "P95 ratio, look by look" in document.text("h3")


def test_several_reasons_are_a_list() -> None:
    named = [check("p95", "fail", "Too slow."), check("p99", "fail", "Too slow too.", model="")]
    told = verdict(*named, outcome="fail", reason="m: Too slow. Too slow too. And a note.")
    document = Document(page(told, None, ()))
    assert len(document.all("li")) == 2
    assert "And a note." in document.text("p")


HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)> \x00\x1b[31m \"'"


def test_a_hostile_server_gets_no_tag_into_it() -> None:
    bad = samples(HOSTILE, failed=3, errors={HOSTILE: 3})
    told = verdict(
        check("p95", "fail", HOSTILE, model=HOSTILE, observed=1.0, unit=HOSTILE),
        outcome="fail",
        reason=HOSTILE,
    )
    seen = evidence(side(HOSTILE, bad), side(HOSTILE, bad))
    made = page(told, seen, course("p95", 1.0, 1.0, model=HOSTILE))
    document = Document(made)
    assert not {"script", "img", "link", "iframe", "object", "form"} & {
        tag for tag, _ in document.tags
    }
    assert not [name for _, attributes in document.tags for name in attributes if name[:2] == "on"]
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", made)
    assert document.text().count("<script>alert(1)</script>") > 3


def test_needs_nothing_from_elsewhere_and_allows_nothing() -> None:
    made = page(verdict(P95, RATIO), BOTH, course("p95_ratio", 1.2, 1.1))
    document = Document(made)
    (policy,) = [
        each["content"] or ""
        for each in document.all("meta")
        if each.get("http-equiv") == "Content-Security-Policy"
    ]
    sheet = re.search("<style>(.*?)</style>", made, re.DOTALL)
    assert sheet
    digest = base64.b64encode(hashlib.sha256(sheet[1].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert not [attributes for _, attributes in document.tags if "style" in attributes]
    links = [
        value
        for _, attributes in document.tags
        for name, value in attributes.items()
        if name in {"src", "href", "xlink:href", "action"}
    ]
    assert links
    assert all(link and link.startswith("#") for link in links)
    assert "url(" not in sheet[1]
    assert made.count("<style>") == 1


def test_drawings_are_well_formed_and_point_at_what_is_there() -> None:
    made = page(verdict(P95, RATIO), BOTH, course("p95_ratio", 1.2, 1.1))
    drawings = re.findall("<svg.*?</svg>", made, re.DOTALL)
    assert len(drawings) == 4
    known: set[str] = set()
    for drawing in drawings:
        root = ET.fromstring(drawing)  # noqa: S314  # our own
        there = {each.get("id", "") for each in root.iter()} - {""}
        assert not there & known
        known |= there
        pointed = re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', drawing)
        assert set(pointed) <= there
        assert "#010" not in drawing  # every stand-in for a colour has become a class


def test_equal_evidence_makes_equal_files() -> None:
    told, looks = verdict(P95, RATIO), course("p95_ratio", 1.2, 1.1)
    assert reports(told, BOTH, looks) == reports(told, BOTH, looks)


def test_stays_small_for_many_requests() -> None:
    big = samples(rounds=1_000, each=100, failed=50)
    seen = evidence(side("r:2", big), side("r:1", big), peak=(100.0, 900.0))
    assert len(page(verdict(P95, RATIO), seen, course("p95_ratio", *[1.0] * 300))) < 600_000


def test_importing_it_draws_nothing() -> None:
    code = (
        "import sys, headgate.gate.report.page; print(*{'matplotlib', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
