"""A simulation is the same in every process: nothing in it goes by an object's address or a string's hash.

    python -m tests.sim.test_same_bytes

prints the digest of one that has several gateways, tenants with limits, failures, scaling and prefixes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inferry.core.gateway_settings import Tenant
from inferry.core.limits import Limits
from inferry.core.routing_settings import Routing
from inferry.core.scaling_settings import Scaling, ScalingRule
from inferry.simulate.arrivals import Arrival, merged
from inferry.simulate.arrivals_drawn import drawn, exponential
from inferry.simulate.experiment import run
from inferry.simulate.failures import Failure, FailureKind
from inferry.simulate.result import Result
from inferry.simulate.service import Service

KINDS: tuple[FailureKind, ...] = ("crash", "freeze", "slow")


def simulated() -> Result:
    """Ten minutes of two tenants."""

    def tenant(name: str, rate: float) -> list[Arrival]:
        coming = drawn(
            rate, 600, prompt=exponential(3000), answer=exponential(200), cv=2.0, seed=5, tenant=name
        )
        return [
            Arrival(each.at_s, each.prompt_tokens, each.answer_tokens, (number % 7, number), each.tenant)
            for number, each in enumerate(coming)
        ]

    rules = [
        ScalingRule(metric="queue_depth", above=5, add=1),
        ScalingRule(metric="gpu_use", below=0.3, for_s=30, remove=1),
    ]
    service = Service(
        replicas=3,
        routing=Routing(policy="prefix_aware"),
        scaling=Scaling(min=2, max=6, rules=rules),
        crashes_per_hour=2.0,
    )
    return run(
        [service],
        merged([tenant("small", 2.0), tenant("large", 5.0)]),
        seed=11,
        gateways=2,
        failures=[Failure(60.0 * number, KINDS[number % 3]) for number in range(1, 9)],
        tenants={"small": Tenant(), "large": Tenant(limits=Limits(requests_per_minute=200))},
    )


@pytest.mark.slow
def test_two_processes_with_other_hashes_get_the_same_bytes() -> None:
    """Strings hash differently in each process of Python, unless told; results don't show it."""
    digests = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.sim.test_same_bytes"]
        env = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(
            command, env=env, capture_output=True, check=True, cwd=Path(__file__).parents[2]
        )
        digests.add(done.stdout)
    assert len(digests) == 1
    (digest,) = digests
    assert digest.startswith(b"completed ")


if __name__ == "__main__":
    result = simulated()
    only = result.only
    sys.stdout.write(
        f"completed {only.completed} retries {only.retries} crashes {only.crashes} decisions {len(only.decisions)} "
        f"rejected {only.rejected} {hashlib.sha256(result.to_json()).hexdigest()}\n"
    )
