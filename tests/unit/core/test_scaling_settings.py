"""`scaling:` in the file: what it takes, and how it refuses what contradicts itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from inferry.core.config_file import load_file
from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError

FIELD_TABLE: dict[str, Any] = {
    "min": 2,
    "max": 10,
    "rules": [
        {"metric": "gpu_use", "above": 0.8, "for_s": 300, "add": 1},
        {"metric": "gpu_use", "below": 0.3, "for_s": 600, "remove": 1},
        {"metric": "queue_depth", "above": 50, "add": 2},
        {"metric": "e2e_ms", "percentile": 95, "above": 2000, "add": 1},
        {"metric": "error_rate", "above": 0.05, "alert": True},
    ],
}


def _deployment(tmp_path: Path, scaling: Any, **more: Any) -> ManagedBase:
    path = tmp_path / "inferry.yaml"
    engine = {"engine": "simulated", "model": "m"}
    path.write_text(yaml.safe_dump({"deployments": {"chat": {**engine, "scaling": scaling, **more}}}))
    deployment = load_file(path, {}).config.deployments["chat"]
    assert isinstance(deployment, ManagedBase)
    return deployment


def test_the_table_of_the_field_can_be_written(tmp_path: Path) -> None:
    """GPU use, queue, P95 latency and error rate, with bounds; it begins with the least."""
    deployment = _deployment(tmp_path, FIELD_TABLE)
    assert deployment.replicas == 2
    assert deployment.scaling is not None
    assert [rule.metric for rule in deployment.scaling.rules][:2] == ["gpu_use", "gpu_use"]


@pytest.mark.parametrize(
    ("scaling", "more", "says"),
    [
        ({"max": 3}, {}, "nothing says when"),
        ({**FIELD_TABLE, "min": 11}, {}, "'min' is 11, which is more than 'max' (10)"),
        (FIELD_TABLE, {"replicas": 1}, "'replicas' is 1, and scaling goes from 2 to 10"),
        ({**FIELD_TABLE, "min": 0}, {}, "needs 'load: on_demand' and 'idle_unload_s'"),
        ({"max": 3, "rules": [{"metric": "gpu", "above": 1, "add": 1}]}, {}, "is none of gpu_use"),
        ({"max": 3, "rules": [{"metric": "running", "above": 1}]}, {}, "say what happens"),
        ({"max": 3, "rules": [{"metric": "running", "target": 1, "add": 1}]}, {}, "says by itself"),
        ({"max": 3, "rules": [{"metric": "error_rate", "above": 0.1, "add": 1}]}, {}, "alerts only"),
        ({"max": 3, "rules": [{"metric": "running", "above": 1, "add": "lots"}]}, {}, "lots"),
        ({"max": 3, "rules": [{"metric": "gpu_use", "above": 80, "add": 1}]}, {}, "write 0.8 for 80 %"),
        (
            {"max": 3, "rules": [{"metric": "error_rate", "above": 5, "alert": True}]},
            {},
            "write 0.05 for 5 %",
        ),
        ({"max": 3, "rules": [{"metric": "running", "above": 9, "remove": 1}]}, {}, "the wrong way round"),
        (
            {"max": 3, "rules": [{"metric": "e2e_ms", "percentile": 0.9, "above": 9, "add": 1}]},
            {},
            "write 90",
        ),
        ({"max": 3, "schedule": [{"begin": 480, "end": "20:00", "min": 2}]}, {}, "in quotes"),
        ({"max": 3, "slo": {}}, {}, "write 'ttft_ms', 'itl_ms', or both"),
        ({"max": 3, "schedule": [{"begin": "8", "end": "20:00", "min": 2}]}, {}, "HH:MM"),
        ({"max": 3, "slo": {"ttft_ms": 1}, "money_per_hour_max": 3}, {}, "replica_price_per_hour"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, scaling: Any, more: Any, says: str) -> None:
    """Each with what is wrong and the way out."""
    with pytest.raises(ConfigError) as failure:
        _deployment(tmp_path, scaling, **more)
    assert says in str(failure.value)
