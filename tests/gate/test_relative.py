from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from gate.makers import COMPARE, evidence, judged, samples, saturation, scattered

from headgate.config import DemandConfig, LoadProfile
from headgate.records import Check, Evidence, Generator, Outcome, Samples

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
NULL = Generator(cpu=0.2, p95_s=0.004, most_rps=1_000)
"""One that tells little apart."""


def beside(ratio: float, *, scatter: float = 0.02, rounds: int = 20, **other: Any) -> Evidence:
    """Two releases of which the pairs of blocks have ratios around that."""
    random = np.random.default_rng(1)
    champion = scattered(rounds=rounds, seed=2)
    factors = ratio * np.exp(scatter * random.normal(0, 1, rounds))
    latency_s = champion.latency_s * np.repeat(factors, 200)
    mine = samples(1000 * latency_s, count=len(latency_s))
    return evidence(mine, champion, **other)


def p95_ratio(seen: Evidence, **how: Any) -> Check:
    return judged(seen, profile=COMPARE, **how)["p95_ratio"]


class TestP95Ratio:
    def test_pass(self) -> None:
        check = p95_ratio(beside(1.0))
        assert check.outcome is PASS
        assert check.reason == (
            "P95 is 1.00 times the champion's (30.0 ms against 29.9 ms); up to 1.05 times may be "
            "(97 % interval 0.992 to 1.009, 20 pairs of blocks, 4,000 requests)."
        )
        assert check.observed == pytest.approx(1.0, abs=0.02)
        assert check.interval is not None
        assert check.interval[0] < 1 < check.interval[1] < 1.05
        assert (check.model, check.limit, check.unit) == ("m", 1.05, "ratio")

    def test_fail(self) -> None:
        check = p95_ratio(beside(1.25))
        assert check.outcome is FAIL
        assert check.reason.startswith("P95 is 1.25 times the champion's (37.")
        assert "; up to 1.05 times may be (97 % interval 1.2" in check.reason

    @pytest.mark.parametrize("ratio", [1.03, 1.07])
    def test_too_near(self, ratio: float) -> None:
        check = p95_ratio(beside(ratio, scatter=0.08))
        assert check.outcome is INCONCLUSIVE
        assert "too near to 1.05 to tell (97 % interval" in check.reason
        assert check.reason.endswith(": measure longer.")

    def test_the_margin_is_the_models(self) -> None:
        loose = DemandConfig(max_p95_ratio=1.4)
        assert p95_ratio(beside(1.25), demand=loose).outcome is PASS

    def test_noise_that_both_share_is_no_difference(self) -> None:
        """Levels of the rounds from 20 to 200 ms: no number of any side is like another."""
        level = np.repeat(np.random.default_rng(3).uniform(1, 10, 20), 200)
        quiet = beside(1.0)
        assert quiet.champion is not None
        mine, theirs = (
            samples(1000 * side.samples[0].latency_s * level, count=4_000)
            for side in (quiet.candidate, quiet.champion)
        )
        assert p95_ratio(evidence(mine, theirs)).outcome is PASS
        unpaired = p95_ratio(evidence(mine, theirs, paired=False))
        assert unpaired.outcome is INCONCLUSIVE
        assert "20 blocks, 4,000 requests" in unpaired.reason

    def test_five_pairs_are_too_few(self) -> None:
        check = p95_ratio(beside(2.0, rounds=5))
        assert check.outcome is INCONCLUSIVE
        assert check.reason == (
            "How P95 compares with the champion's is unknown: 5 pairs of blocks are fewer than 6."
        )

    def test_an_early_look_asks_for_more(self) -> None:
        assert p95_ratio(beside(1.0, scatter=0.06)).outcome is PASS
        assert p95_ratio(beside(1.0, scatter=0.06, looks=(0.005,))).outcome is INCONCLUSIVE

    def test_answers_that_never_come_fail(self) -> None:
        champion = scattered(rounds=20)
        mine = scattered(rounds=20, ok=np.arange(4_000) % 8 > 0)
        check = p95_ratio(evidence(mine, champion))
        assert check.outcome is FAIL
        assert check.reason.startswith("P95 has no end, against")
        assert (check.observed, check.interval) == (None, None)

    def test_a_champion_that_never_answers_is_no_standard(self) -> None:
        champion = scattered(rounds=20, ok=np.arange(4_000) % 8 > 0)
        check = p95_ratio(evidence(scattered(rounds=20), champion))
        assert check.outcome is PASS
        assert "against the champion's without an end" in check.reason

    def test_a_late_generator_judges_nobody(self) -> None:
        late = scattered(rounds=20, late_ms=50.0)
        check = p95_ratio(evidence(scattered(rounds=20), late))
        assert check.outcome is INCONCLUSIVE
        assert check.reason == (
            "How P95 compares with the champion's is unknown: of the champion's, the load generator "
            "itself was 50.0 ms late (P95; 20 ms are allowed)."
        )

    def test_a_model_that_the_champion_lacks(self) -> None:
        check = p95_ratio(evidence(scattered(), scattered(model="other")))
        assert check.outcome is PASS
        assert check.reason == (
            "The champion does not serve this model: it is judged absolutely only."
        )


class TestResolution:
    """P95s around 3 ms, by a generator whose own is 4 ms."""

    @staticmethod
    def quick(ratio: float, scatter: float = 0.02) -> Evidence:
        slow = beside(ratio, scatter=scatter)
        assert slow.champion is not None

        def tenth(seen: Samples) -> Samples:
            return samples(100 * seen.latency_s, count=4_000)

        return evidence(
            tenth(slow.candidate.samples[0]), tenth(slow.champion.samples[0]), generator=NULL
        )

    def test_a_difference_below_it_fails_nobody(self) -> None:
        check = p95_ratio(self.quick(1.0, scatter=0.2))
        assert check.outcome is PASS
        assert "the difference is not resolvable, the load generator tells no less" in check.reason

    def test_nor_does_it_excuse_what_is_slower_for_sure(self) -> None:
        check = p95_ratio(self.quick(1.25))
        assert check.outcome is INCONCLUSIVE
        assert check.reason.startswith(
            "P95 is 1.25 times the champion's (3.7 ms against 3.0 ms), too near to 1.05 to tell, "
            "and the load generator tells no less than 4.0 ms apart (97 % interval"
        )

    def test_one_that_may_be_above_it_is_open(self) -> None:
        check = p95_ratio(self.quick(2.2, scatter=0.2))
        assert check.outcome is INCONCLUSIVE
        assert "and the load generator tells no less than 4.0 ms apart" in check.reason

    def test_one_above_it_fails(self) -> None:
        assert p95_ratio(self.quick(3.0)).outcome is FAIL

    def test_no_difference_needs_no_excuse(self) -> None:
        check = p95_ratio(self.quick(1.0))
        assert check.outcome is PASS
        assert "resolvable" not in check.reason

    def test_what_the_generator_adds_to_both_hides_some_of_the_difference(self) -> None:
        """Up to 4 of 30 ms: 1.045 may be 1.052 without them."""
        seen = beside(1.035)
        assert p95_ratio(seen).outcome is PASS
        check = p95_ratio(dataclasses.replace(seen, generator=NULL))
        assert check.outcome is INCONCLUSIVE
        assert (
            "too near to 1.05 to tell, since up to 4.0 ms of both are the load generator's own "
            "(97 % interval" in check.reason
        )

    def test_is_no_excuse_for_a_release_that_is_far_slower_than_the_generator(self) -> None:
        """30 ms and 37 ms: 4 ms of the generator's own are in both."""
        assert p95_ratio(beside(1.25, generator=NULL)).outcome is FAIL
        assert p95_ratio(beside(1.10, generator=NULL)).outcome is FAIL


def ratio_of(mine: Any, theirs: Any, **how: Any) -> Check:
    seen = evidence(
        scattered(rounds=20),
        scattered(rounds=20),
        saturated=(saturation(mine, rounds=20), saturation(theirs, rounds=20)),
        **how,
    )
    return judged(seen, profile=COMPARE)["throughput_ratio"]


def around(rps: float, scatter: float = 0.02, seed: int = 4) -> Any:
    return rps * np.exp(scatter * np.random.default_rng(seed).normal(0, 1, 20))


class TestThroughputRatio:
    def test_pass(self) -> None:
        check = ratio_of(around(500), 500)
        assert check.outcome is PASS
        assert check.reason.startswith(
            "It answers 1.00 times the champion's requests at saturation "
        )
        assert "; at least 0.95 times must be (97 % interval 0.98" in check.reason
        assert check.reason.endswith(", 20 pairs of blocks).")
        assert (check.model, check.limit, check.samples) == ("", 0.95, 20)

    def test_fail(self) -> None:
        check = ratio_of(around(400), 500)
        assert check.outcome is FAIL
        assert "0.80 times" in check.reason

    def test_too_near(self) -> None:
        check = ratio_of(around(480, 0.05), 500)
        assert check.outcome is INCONCLUSIVE
        assert check.reason.endswith("pairs of blocks): measure longer.")

    def test_the_strictest_model_counts(self) -> None:
        seen = evidence(
            scattered(rounds=20),
            scattered(rounds=20),
            saturated=(saturation(around(450), rounds=20), saturation(500, rounds=20)),
        )
        demand = DemandConfig(min_throughput_ratio=0.8)
        assert judged(seen, profile=COMPARE)["throughput_ratio"].outcome is FAIL
        assert judged(seen, profile=COMPARE, demand=demand)["throughput_ratio"].outcome is PASS

    def test_blocks_of_the_same_round_are_pairs(self) -> None:
        level = np.random.default_rng(5).uniform(100, 900, 20)
        assert ratio_of(level, level * around(1)).outcome is PASS

    def test_a_wrong_fail_is_allowed_less_chance_than_a_wrong_pass(self) -> None:
        """More is better here, so the interval reaches further up than down."""
        check = ratio_of(around(500), 500)
        assert check.interval is not None
        assert check.observed is not None
        low, high = check.interval
        assert 1.2 * np.log(check.observed / low) < np.log(high / check.observed)
        beside_it = p95_ratio(beside(1.0))
        assert beside_it.interval is not None
        assert beside_it.observed is not None
        low, high = beside_it.interval
        assert np.log(beside_it.observed / low) > 1.2 * np.log(high / beside_it.observed)

    def test_both_at_the_generators_limit(self) -> None:
        check = ratio_of(around(930, 0.12), 950, generator=NULL)
        assert check.outcome is PASS
        assert check.reason.startswith("Both answer at least 9")
        assert "generator-limited: the load generator asks for no more than 1,000/s" in check.reason

    def test_both_at_its_limit_and_yet_clearly_less_is_open(self) -> None:
        assert ratio_of(around(810), 1_000, generator=NULL).outcome is INCONCLUSIVE

    def test_only_the_candidate_is_limited(self) -> None:
        """It could do more than was seen, and that is enough already."""
        check = ratio_of(around(900), 600, generator=NULL)
        assert check.outcome is PASS
        assert check.reason.startswith("It answers at least 90")
        assert "generator-limited" in check.reason

    def test_only_the_champion_is_limited(self) -> None:
        """It could do more than was seen: less than that is a fail, as much is nothing."""
        assert ratio_of(around(700), 900, generator=NULL).outcome is FAIL
        check = ratio_of(around(795), 805, generator=NULL)
        assert check.outcome is INCONCLUSIVE
        assert "the load generator asks for no more than 1,000/s" in check.reason

    def test_blocks_without_an_answer(self) -> None:
        assert ratio_of(np.zeros(20), 500).outcome is FAIL
        assert ratio_of(np.r_[0.0, around(500)[1:]], 500).outcome is PASS

    def test_what_is_missing_is_open(self) -> None:
        seen = evidence(scattered(), scattered(), saturated=(saturation(500), None))
        check = judged(seen, profile=COMPARE)["throughput_ratio"]
        assert check.outcome is INCONCLUSIVE
        assert check.reason == (
            "How throughput compares with the champion's is unknown: "
            "0 pairs of blocks are fewer than 6."
        )
        asked = LoadProfile(compare=True, saturate_s=1)
        nothing = judged(evidence(scattered(), scattered()), profile=asked)["throughput_ratio"]
        assert nothing.outcome is INCONCLUSIVE


def test_without_a_champion_nothing_is_compared() -> None:
    seen = evidence(scattered(), saturated=(saturation(500), None))
    assert not {"p95_ratio", "throughput_ratio"} & judged(seen, profile=COMPARE).keys()


def test_a_profile_that_does_not_compare_asks_nothing_relative() -> None:
    seen = evidence(scattered(), scattered(), saturated=(saturation(500), saturation(900)))
    assert not {"p95_ratio", "throughput_ratio"} & judged(seen, profile=LoadProfile()).keys()


class TestNowAndThen:
    """What few rounds have is left out of the rounds' mean, and must not be lost."""

    @staticmethod
    def stalling(every: int, times: float) -> Evidence:
        even = beside(1.0, scatter=0.02)
        assert even.champion is not None
        mine = even.candidate.samples[0]
        slow = mine.block % every == 0
        changed = dataclasses.replace(
            mine, latency_s=np.where(slow, times * mine.latency_s, mine.latency_s)
        )
        return evidence(changed, even.champion.samples[0])

    def test_a_release_that_stalls_in_one_round_of_seven(self) -> None:
        check = p95_ratio(self.stalling(7, 10))
        assert check.outcome is INCONCLUSIVE
        assert "now and then it is slow on its own" in check.reason

    def test_and_in_one_of_six_by_half(self) -> None:
        assert p95_ratio(self.stalling(6, 1.5)).outcome is INCONCLUSIVE

    def test_what_is_rarer_than_one_request_in_twenty_is_no_matter_of_a_p95(self) -> None:
        assert p95_ratio(self.stalling(30, 10)).outcome is PASS
