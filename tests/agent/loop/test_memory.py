from __future__ import annotations

import numpy as np
import pytest

from lm_searcher.agent.loop.memory import Evidence, Findings, Memory, outcome_ranks, remembered
from lm_searcher.agent.study.records import memory_key
from lm_searcher.agent.study.run_records import RunRecords
from lm_searcher.spaces.history import History
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace

SPACE = SearchSpace.of("s", {"op": list("abcd"), "width": [8, 16, 32], "act": ["x", "y"]})
FULL = Findings(Subspace.full(SPACE), [])
PATIENT = Memory(stagnation=10_000)


def history(scores: object, codes: object = None, failed: object = None, seed: int = 0) -> History:
    scores = np.asarray(scores, float)
    n = len(scores)
    drawn = SPACE.sample(n, np.random.default_rng(seed)) if codes is None else codes
    bad = np.isnan(scores) if failed is None else np.asarray(failed, bool)
    return History(np.asarray(drawn, np.uint8), scores, bad, np.isnan(scores) & ~bad)


def bad_option(n: int = 60, seed: int = 0) -> History:
    """Option d of `op` costs ten; the last position does not matter."""
    rng = np.random.default_rng(seed)
    codes = SPACE.sample(n, rng)
    return history(rng.normal(size=n) - 10.0 * (codes[:, 0] == 3), codes)


def test_what_is_clearly_bad_goes_with_its_evidence() -> None:
    known = bad_option()
    findings, decisions = PATIENT.revise(known, FULL)
    assert findings.subspace.allowed == ("012", "012", "01")
    assert findings.pruned == [[0, 3]] and findings.weighed == 60
    (decision,) = decisions
    document = decision.document
    evidence = document.pop("evidence")
    assert document == {
        "trial": 60,
        "action": "prune",
        "position": "op",
        "option": 3,
        "choice": "d",
    }
    assert evidence["upper"] < evidence["best_lower"]
    assert evidence["mean_rank"] < evidence["best_mean_rank"]
    assert evidence["trials"] == np.count_nonzero(known.codes[:, 0] == 3)
    assert evidence["best_trials"] == np.count_nonzero(known.codes[:, 0] == evidence["best_option"])


@pytest.mark.parametrize("seed", range(5))
def test_what_does_not_matter_stays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    findings, decisions = PATIENT.revise(history(rng.normal(size=60), seed=seed), FULL)
    assert decisions == [] and findings.subspace == FULL.subspace and findings.weighed == 60


def test_too_little_evidence_prunes_nothing() -> None:
    """One disastrous trial of an option says little."""
    codes = np.zeros((40, 3), np.uint8)
    codes[5, 0] = 3
    scores = np.random.default_rng(0).normal(size=40)
    scores[5] = -1e9
    codes[:, 1] = np.arange(40) % 3
    assert PATIENT.revise(history(scores, codes), FULL)[1] == []


def test_an_option_that_was_never_tried_stays() -> None:
    known = bad_option()
    known.codes[known.codes[:, 0] == 2, 0] = 1
    findings, _ = PATIENT.revise(known, FULL)
    assert findings.subspace.allowed[0] == "012"


def test_the_options_of_the_elites_stay() -> None:
    known = bad_option()
    rare = int(np.flatnonzero(known.codes[:, 0] == 3)[0])
    known.scores[rare] = 99.0  # the best of all has the bad option
    findings, decisions = PATIENT.revise(known, FULL)
    assert "3" in findings.subspace.allowed[0] and decisions == []


def test_the_last_two_stay_and_they_are_the_better_ones() -> None:
    codes = SPACE.sample(400, np.random.default_rng(0))
    scores = -1000.0 * codes[:, 0] - 100.0 * codes[:, 1] - 10.0 * codes[:, 2]
    findings, decisions = Memory(elites=1, stagnation=10_000).revise(history(scores, codes), FULL)
    assert findings.subspace.allowed == ("01", "01", "01")
    assert findings.pruned == [[0, 3], [0, 2], [1, 2]], "worst first"
    assert len(decisions) == 3
    again = Memory(elites=1, stagnation=10_000).revise(
        history(np.tile(scores, 2), np.tile(codes, (2, 1))), findings
    )
    assert again[0].subspace.allowed == ("01", "01", "01")


def test_failures_count_lowest() -> None:
    """Option d always fails; the others differ little, and by less than any failure."""
    codes = SPACE.sample(80, np.random.default_rng(1))
    scores = np.random.default_rng(2).normal(size=80) * 1e-9 - 1e12
    scores[codes[:, 0] == 3] = np.nan
    findings, decisions = PATIENT.revise(history(scores, codes), FULL)
    assert findings.subspace.allowed[0] == "012" and decisions[0].choice == "d"


def test_failures_alone_prune_nothing() -> None:
    findings, decisions = PATIENT.revise(history(np.full(60, np.nan)), FULL)
    assert decisions == [] and findings.subspace == FULL.subspace


def test_pending_trials_say_nothing() -> None:
    known = bad_option(30)
    more = known.with_pending(np.full((40, 3), [3, 0, 0], np.uint8))
    one, two = PATIENT.revise(known, FULL), PATIENT.revise(more, FULL)
    assert one == two and one[0].weighed == 30


def test_it_waits_for_the_start_and_weighs_at_intervals() -> None:
    memory = Memory(start=20, interval=10, stagnation=10_000)
    known = bad_option()

    def first(n: int) -> History:
        return History(known.codes[:n], known.scores[:n], known.failed[:n], known.pending[:n])

    assert memory.revise(first(19), FULL) == (FULL, [])
    weighed, _ = memory.revise(first(20), FULL)
    assert weighed.weighed == 20
    for n in range(20, 30):
        assert memory.revise(first(n), weighed) == (weighed, [])
    assert memory.revise(first(30), weighed)[0].weighed == 30


def test_off_is_off() -> None:
    assert Memory(enabled=False).revise(bad_option(), FULL) == (FULL, [])


def stagnating(n: int = 70) -> History:
    """The best is the tenth trial, and nothing better for long."""
    known = bad_option(n)
    known.scores[10] = 50.0
    known.codes[10, 0] = 0
    return known


def test_stagnation_brings_options_back_last_pruned_first() -> None:
    pruned = [[0, 3], [1, 2], [0, 1]]
    subspace = Subspace(SPACE, ("02", "01", "01"))
    findings = Findings(subspace, pruned, 20)
    widened = []
    for n in (60, 70, 80, 90):
        findings, decisions = Memory().revise(stagnating(n), findings)
        widened += decisions
    assert [(d.action, d.position, d.option) for d in widened] == [
        ("widen", "op", 1),
        ("widen", "width", 2),
        ("widen", "op", 3),
    ]
    assert [d.trial for d in widened] == [60, 70, 80]
    assert findings == Findings(Subspace.full(SPACE), [], 90), "then there is nothing to widen"


def test_a_new_best_ends_stagnation() -> None:
    known = stagnating()
    known.scores[60], known.codes[60, 0] = 60.0, 0
    findings, decisions = Memory(stagnation=30).revise(known, FULL)
    assert [d.action for d in decisions] == ["prune"]
    assert findings.pruned == [[0, 3]]


def test_stagnation_begins_after_its_number_of_trials() -> None:
    pruned = Findings(Subspace(SPACE, ("012", "012", "01")), [[0, 3]], 0)
    known = stagnating(41)  # thirty after the best, which is number 10
    assert Memory(stagnation=30).revise(known, pruned)[1][0].action == "widen"
    waiting = stagnating(40).with_pending(SPACE.sample(20, np.random.default_rng(0)))
    assert Memory(stagnation=30).revise(waiting, pruned)[1] == [], "what is pending does not count"
    assert Memory(stagnation=31).revise(known, pruned)[1] == []


def test_the_decisions_alone_give_the_findings_back() -> None:
    attributes: dict[str, object] = {"other": 1, "weighed": 70}
    findings = FULL
    for n, memory in ((60, PATIENT), (70, Memory())):
        findings, decisions = memory.revise(bad_option(n) if n == 60 else stagnating(n), findings)
        for i, decision in enumerate(decisions):
            attributes[memory_key(decision.trial, i)] = decision.document
        stored = RunRecords.of(attributes).settled()
        assert remembered(SPACE, stored, findings.weighed) == findings
    assert len(attributes) == 4, "a prune and a widening"
    half = RunRecords.of(attributes | {"weighed": 60}).settled()
    assert [d.trial for d in half] == [60], "memory's latest decisions are made again"


def test_ranks_are_of_outcomes() -> None:
    known = history([5.0, np.nan, -1.0, 5.0, 7.0])
    ranks = outcome_ranks(known, np.arange(5))
    assert ranks.tolist() == [0.625, 0.0, 0.25, 0.625, 1.0]
    assert outcome_ranks(history([3.0]), np.arange(1)).tolist() == [0.0]


def test_ranks_do_not_depend_on_the_scale() -> None:
    known = bad_option()
    scaled = history(np.exp(known.scores) * 1e-6, known.codes)
    one, other = (Evidence.of(h, 4, 2.5) for h in (known, scaled))
    assert np.allclose(one.mean, other.mean) and np.allclose(one.upper, other.upper)


def test_evidence_counts_and_averages() -> None:
    codes = [[0, 0, 0], [0, 1, 0], [3, 0, 1], [3, 1, 1]]
    evidence = Evidence.of(history([1.0, 2.0, 3.0, 4.0], codes), 4, 2.0)
    assert evidence.trials[0].tolist() == [2, 0, 0, 2]
    assert evidence.mean[0, [0, 3]].tolist() == pytest.approx([1 / 6, 5 / 6])
    assert evidence.lower[0, 1] == -np.inf and evidence.upper[0, 1] == np.inf
    assert np.all(evidence.lower <= evidence.mean) and np.all(evidence.mean <= evidence.upper)
    wider = Evidence.of(history([1.0, 2.0, 3.0, 4.0], codes), 4, 4.0)
    assert np.all(wider.upper[0, [0, 3]] > evidence.upper[0, [0, 3]])


def test_a_long_run_looks_at_the_evidence_after_a_hundredth_of_it() -> None:
    known = bad_option(5049)
    weighed = Findings(Subspace.full(SPACE), [], 5000)
    assert PATIENT.revise(known, weighed) == (weighed, [])
    findings, decisions = PATIENT.revise(bad_option(5050), weighed)
    assert findings.weighed == 5050 and decisions
