"""The ledger against the engines' own record, while clients leave and processes are killed at random: the large run.

The seed is printed; set INFERRY_CHAOS_SEED to repeat a run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.accounting_chaos import Plan, run_chaos, seeded_dice

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
def test_hundreds_of_requests_are_accounted_for_through_kills(tmp_path: Path) -> None:
    """800 streams and calls in every dialect; ten engines, eight gateway processes and thrice all of Inferry are killed:
    what an engine finished is billed exactly, what was cut off as far as it was relayed, nothing twice, and all in
    doubt are named."""
    findings = run_chaos(
        tmp_path,
        seeded_dice(),
        Plan(asks=800, clients=32, replicas=3, engine_kills=10, gateway_kills=8, whole_kills=3),
    )
    cases = findings.cases
    assert cases["completed"] > 200, cases
    for met in (
        "cancelled",
        "crashed",
        "failed",
        "cancelled, nothing relayed",
        "cancelled, call",
        "crashed, call",
    ):
        assert cases[met] > 0, (met, cases)


@pytest.mark.timeout(120)
def test_in_peace_engines_and_ledger_differ_by_the_warm_up_alone(tmp_path: Path) -> None:
    """Where nobody leaves and nothing dies, all is completed, and each engine's own counters are those of the ledger
    and of its one warm-up request."""
    findings = run_chaos(
        tmp_path,
        seeded_dice(),
        Plan(
            asks=300,
            clients=32,
            replicas=3,
            engine_kills=0,
            gateway_kills=0,
            whole_kills=0,
            clients_leave=False,
        ),
    )
    assert findings.cases["completed"] == 300
    assert findings.differences == {("completion_tokens", 1), ("prompt_tokens", 1)}
