"""The ledger against the engines' own record, while clients leave and processes are killed: the small run.

tests/chaos/test_accounting.py is the large one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .accounting_chaos import Plan, run_chaos, seeded_dice


@pytest.mark.slow
def test_every_token_is_accounted_for_through_kills(tmp_path: Path) -> None:
    """Clients leave at any moment, an engine, a gateway process and all of Inferry are killed: what an engine finished
    is billed exactly, what was cut off as far as it was relayed, nothing twice, and all in doubt are named."""
    findings = run_chaos(
        tmp_path,
        seeded_dice(),
        Plan(asks=100, clients=20, replicas=2, engine_kills=1, gateway_kills=1, whole_kills=1),
    )
    assert findings.cases["completed"] > 20, findings
    assert findings.cases["cancelled"] > 0, findings
