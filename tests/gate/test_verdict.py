from __future__ import annotations

import datetime as dt

from gate.makers import judged, samples

from headgate.gate import conclude, settle
from headgate.records import Check, Outcome, Release, Verdict

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
RELEASE = Release(tag="headgate:1", digest="sha256:1", models=())
NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def check(name: str, outcome: Outcome, reason: str = "", *, model: str = "m") -> Check:
    return Check(
        name=name, model=model, outcome=outcome, reason=reason or f"{name} says so.", samples=500
    )


class TestSettle:
    def merged(self, earlier: Outcome, now: Outcome) -> tuple[Outcome, str]:
        (found,) = settle([check("p95", earlier, "then")], [check("p95", now, "now")])
        return found.outcome, found.reason

    def test_a_fail_stays_a_fail(self) -> None:
        assert {self.merged(FAIL, now) for now in Outcome} == {(FAIL, "then")}

    def test_a_pass_stays_a_pass_unless_it_fails_now(self) -> None:
        assert self.merged(PASS, INCONCLUSIVE) == (PASS, "then")
        assert self.merged(PASS, FAIL) == (FAIL, "now")

    def test_two_passes_are_said_in_the_words_of_now(self) -> None:
        assert self.merged(PASS, PASS) == (PASS, "now")

    def test_what_was_open_is_what_it_is_now(self) -> None:
        assert [self.merged(INCONCLUSIVE, now)[0] for now in Outcome] == list(Outcome)

    def test_checks_are_told_apart_by_model_and_name(self) -> None:
        earlier = [check("p95", PASS), check("p95", FAIL, model="n"), check("parity", PASS)]
        now = [
            check("p95", INCONCLUSIVE),
            check("p95", INCONCLUSIVE, model="n"),
            check("parity", INCONCLUSIVE, model="n"),
        ]
        found = settle(earlier, now)
        assert [(each.name, each.model, each.outcome) for each in found] == [
            ("p95", "m", PASS),
            ("p95", "n", FAIL),
            ("parity", "n", INCONCLUSIVE),
            ("parity", "m", PASS),
        ]

    def test_the_first_look_is_what_it_is(self) -> None:
        now = (check("p95", INCONCLUSIVE), check("parity", PASS))
        assert settle((), now) == now


def conclusion(*wanted: tuple[str, Outcome], model: str = "m", note: str = "") -> Verdict:
    checks = [check(name, outcome, model=model) for name, outcome in wanted]
    return conclude(RELEASE, checks, "quick", NOW, note)


class TestConclude:
    def test_pass_only_if_all_pass(self) -> None:
        verdict = conclusion(("p95", PASS), ("parity", PASS))
        assert verdict.outcome is PASS
        assert verdict.reason == "All 2 checks passed on 500 requests."
        assert (verdict.release, verdict.digest) == (RELEASE.tag, RELEASE.digest)
        assert (verdict.profile, verdict.at) == ("quick", NOW)
        assert [each.name for each in verdict.checks] == ["p95", "parity"]

    def test_one_inconclusive_check_is_enough(self) -> None:
        verdict = conclusion(("p95", PASS), ("parity", INCONCLUSIVE), ("load_time", PASS))
        assert verdict.outcome is INCONCLUSIVE
        assert verdict.reason == "m: parity says so."

    def test_a_fail_goes_before_everything(self) -> None:
        verdict = conclusion(
            ("throughput", INCONCLUSIVE), ("p95", FAIL), ("load_time", PASS), ("parity", FAIL)
        )
        assert verdict.outcome is FAIL
        assert verdict.reason == "m: p95 says so. m: parity says so."

    def test_a_check_of_the_whole_release_names_no_model(self) -> None:
        assert conclusion(("serving", FAIL), model="").reason == "serving says so."

    def test_nothing_checked_is_no_pass(self) -> None:
        verdict = conclude(RELEASE, (), "quick", NOW)
        assert verdict.outcome is INCONCLUSIVE
        assert verdict.reason == "Nothing was checked, and no data never passes."
        assert verdict.samples == 0

    def test_a_note_ends_the_reason(self) -> None:
        verdict = conclusion(("p95", PASS), note="Judged absolutely only: there is no champion.")
        assert verdict.reason == (
            "All 1 checks passed on 500 requests. Judged absolutely only: there is no champion."
        )

    def test_counts_each_models_requests_once(self) -> None:
        checks = (*judged(samples()).values(), *judged(samples(count=300, model="n")).values())
        verdict = conclude(RELEASE, checks, "quick", NOW)
        assert verdict.samples == 1_300
        assert verdict.reason == "All 10 checks passed on 1,300 requests."
        assert conclude(RELEASE, [checks[3]], "quick", NOW).samples == 1

    def test_blocks_of_the_whole_release_are_no_requests(self) -> None:
        whole = Check(
            name="throughput_ratio", model="", outcome=PASS, reason="It does.", samples=40
        )
        assert conclude(RELEASE, [check("p95", PASS), whole], "full", NOW).samples == 500
