"""For each alert, figures at which it must fire, and figures like them at which it must not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Series = Mapping[str, str]
"""Series to its values, one a minute, in promtool's notation: `0+10x60` is 0, 10, ... 600."""


@dataclass(frozen=True, slots=True)
class Case:
    """`says`: the labels that a firing alert must carry, beside its name."""

    alert: str
    at: str
    fires: Series
    quiet: tuple[Series, ...]
    says: Mapping[str, str]


CHAT = {"deployment": "chat"}
REPLICA = {"deployment": "chat", "replica": "chat-0"}
GATEWAY = {"instance": "g:1"}


def _metric(name: str, **labels: str) -> str:
    return f"inferry_{name}{{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def _requests(completed: str, failed: str | None = None, **more: str) -> dict[str, str]:
    where = {"deployment": "chat", "instance": "g:1"}
    found = {_metric("requests_total", **where, ending="completed", status="200"): completed}
    if failed is not None:
        found[_metric("requests_total", **where, ending="failed", status="502")] = failed
    for ending, values in more.items():
        found[_metric("requests_total", **where, ending=ending, status="429")] = values
    return found


def _streams(histogram: str, below: float, above: float, low: str, high: str, of: str) -> dict[str, str]:
    """A histogram's two buckets around its limit, and all of its streams."""

    def bucket(bound: str) -> str:
        return _metric(f"{histogram}_bucket", deployment="chat", instance="g:1", le=bound)

    return {
        bucket(str(below)): low,
        bucket(str(above)): high,
        bucket("+Inf"): of,
        _metric(f"{histogram}_count", deployment="chat", instance="g:1"): of,
        **_requests(of),
    }


def _ttft(low: str, high: str, of: str = "0+100x800") -> dict[str, str]:
    return _streams("time_to_first_token_seconds", 0.5, 1.0, low, high, of)


def _itl(low: str, high: str, of: str = "0+100x800") -> dict[str, str]:
    return _streams("inter_token_latency_seconds", 0.05, 0.1, low, high, of)


def _states(replica: str = "chat-0", **states: str) -> dict[str, str]:
    return {
        _metric("replica_state", deployment="chat", instance="g:1", replica=replica, state=state): values
        for state, values in states.items()
    }


def _scaling(wanted: str, **more: str) -> dict[str, str]:
    return {
        _metric("scaling_wanted_replicas", **CHAT): wanted,
        _metric("scaling_max", **CHAT): "8x99",
        **{_metric(name, **CHAT): values for name, values in more.items()},
    }


def _gpu(metric: str, values: str) -> dict[str, str]:
    return {f'{metric}{{gpu="0",Hostname="node-1"}}': values}


def _refused(code: str, values: str) -> dict[str, str]:
    return {_metric("errors_total", **CHAT, code=code): values, **_requests("0+100x60")}


def _tenant(cost: str, tokens: str) -> dict[str, str]:
    where = {"tenant": "search", "period": "month"}
    return {
        _metric("tenant_spent_cost", **where, instance="g:1"): cost,
        _metric("tenant_spent_cost", **where, instance="g:2"): cost,
        _metric("tenant_budget_cost", **where, instance="g:1"): "100x60",
        _metric("tenant_budget_cost", **where, instance="g:2"): "100x60",
        _metric("tenant_spent_tokens", **where, instance="g:1"): tokens,
        _metric("tenant_budget_tokens", **where, instance="g:1"): "1000x60",
    }


GPU = {"gpu": "0", "Hostname": "node-1"}
CASES = (
    Case(
        "InferryErrorsBurnFast", "80m",
        _requests("0+80x99", "0+20x99"),
        (
            _requests("0+98x99", "0+2x99"),
            _requests("0+80x99", "0+20x70 1400x30"),  # over for ten minutes
            _requests("0+0.05x99", "0+0.05x99"),  # six requests an hour
            _requests("0+80x99", None, rejected="0+20x99", cancelled="0+20x99"),
        ),
        CHAT,
    ),
    Case(
        "InferryErrorsBurnSlow", "420m",
        _requests("0+95x500", "0+5x500"),
        (_requests("0+99x500", "0+1x500"), _requests("0+95x500", "0+5x380 1900x120")),
        CHAT,
    ),
    Case(
        "InferryTtftBurnFast", "80m",
        _ttft("0+50x99", "0+60x99"),
        (_ttft("0+90x99", "0+100x99"), _ttft("0+0.1x99", "0+0.1x99", "0+0.2x99")),
        CHAT,
    ),
    Case(
        "InferryTtftBurnSlow", "420m",
        _ttft("0+90x500", "0+90x500"),
        (_ttft("0+99x500", "0+99x500"),),
        CHAT,
    ),
    Case(
        "InferryItlBurnFast", "80m",
        _itl("0+50x99", "0+60x99"),
        (_itl("0+99x99", "0+100x99"),),
        CHAT,
    ),
    Case(
        "InferryItlBurnSlow", "420m",
        _itl("0+90x500", "0+90x500"),
        (_itl("0+99x500", "0+100x500"),),
        CHAT,
    ),
    Case(
        "InferryQueueGrows", "30m",
        {_metric("requests_waiting", **CHAT): "5+2x60", _metric("engine_requests_waiting", **REPLICA): "5x60"},
        (
            {_metric("requests_waiting", **CHAT): "50x60"},
            {_metric("requests_waiting", **CHAT): "100-2x60"},
            {_metric("requests_waiting", **CHAT): "0+0.1x60"},
        ),
        CHAT,
    ),
    Case(
        "InferryRefuses", "30m",
        _refused("queue_full", "0+10x60"),
        (_refused("queue_full", "0+1x60"), _refused("rate_limit_exceeded", "0+50x60")),
        CHAT,
    ),
    Case(
        "InferryKvCacheFull", "30m",
        {_metric("engine_kv_cache_use", **REPLICA): "0.99x60"},
        (
            {_metric("engine_kv_cache_use", **REPLICA): "0.9x60"},
            {_metric("engine_kv_cache_use", **REPLICA): "0.5x25 0.99x60"},
        ),
        CHAT,
    ),
    Case(
        "InferryScalingAtItsMost", "40m",
        _scaling("8x60", requests_waiting="5x60"),
        (
            _scaling("8x60", requests_waiting="0x60"),
            _scaling("7x60", requests_waiting="5x60"),
        ),
        CHAT,
    ),
    Case(
        "InferryScalingBehind", "60m",
        {**_scaling("2x99"), **_states(starting="1x99", ready="0x99")},
        (
            {**_scaling("1x99"), **_states(ready="1x99")},
            {**_scaling("1x40 2x99"), **_states(ready="1x99")},  # wanted for 20 minutes
        ),
        CHAT,
    ),
    Case(
        "InferryScalingRuleTells", "20m",
        {_metric("scaling_alert", **CHAT, rule="rules[0] error_rate"): "1x60"},
        ({_metric("scaling_alert", **CHAT, rule="rules[0] error_rate"): "0x60"},),
        {**CHAT, "rule": "rules[0] error_rate"},
    ),
    Case(
        "InferryDeploymentDown", "30m",
        _states(ready="1x20 0x40", failed="0x60", starting="0x20 1x40"),
        (
            _states(ready="0x60", starting="1x60"),  # it loads for the first time
            _states(ready="0x60", stopped="1x60"),  # on demand, and not asked for
            {**_states(ready="1x20 0x40", failed="0x20 1x40"), **_states("chat-1", ready="1x60")},
        ),
        CHAT,
    ),
    Case(
        "InferryReplicaDown", "30m",
        _states(ready="1x20 0x40", failed="0x20 1x2 0x40", suspect="0x23 1x40"),
        (_states(ready="1x20 0x3 1x40", failed="0x20 1x2 0x40"), _states(stopped="1x60", failed="0x60")),
        REPLICA,
    ),
    Case(
        "InferryReplicaNeverReady", "60m",
        _states(starting="1x10 0x99", warming="0x10 1x99", ready="0x99"),
        (_states(starting="1x30 0x99", ready="0x30 1x99"),),
        REPLICA,
    ),
    Case(
        "InferryReplicaRestarts", "40m",
        {_metric("replica_restarts_total", **REPLICA): "0x20 1x4 2x4 3x4 4x60"},
        ({_metric("replica_restarts_total", **REPLICA): "0x20 1x60"},),
        REPLICA,
    ),
    Case(
        "InferryGpuHot", "20m",
        _gpu("DCGM_FI_DEV_GPU_TEMP", "90x60"),
        (_gpu("DCGM_FI_DEV_GPU_TEMP", "80x60"), _gpu("DCGM_FI_DEV_GPU_TEMP", "80x17 90x60")),
        GPU,
    ),
    Case(
        "InferryGpuMemoryErrors", "20m",
        _gpu("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "0x10 2x60"),
        (_gpu("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "2x60"),),
        GPU,
    ),
    Case(
        "InferryGpuMemoryWears", "20m",
        _gpu("DCGM_FI_DEV_ROW_REMAP_FAILURE", "0x10 1x60"),
        (_gpu("DCGM_FI_DEV_ROW_REMAP_FAILURE", "0x60"),),
        GPU,
    ),
    Case(
        "InferryTenantBudgetNearlySpent", "30m",
        _tenant("80+1x60", "500x60"),
        (_tenant("50x60", "500x60"),),
        {"tenant": "search", "period": "month", "of": "cost"},
    ),
    Case(
        "InferryLedgerBehind", "40m",
        {_metric("ledger_behind_seconds", **GATEWAY): "0.5x5 0+60x60"},
        ({_metric("ledger_behind_seconds", **GATEWAY): "2x60"},),
        GATEWAY,
    ),
    Case(
        "InferryJournalNotWritten", "20m",
        {_metric("journal_waiting", **GATEWAY): "0x10 7x60"},
        ({_metric("journal_waiting", **GATEWAY): "0x60"}, {_metric("journal_waiting", **GATEWAY): "0x19 7x60"}),
        GATEWAY,
    ),
    Case(
        "InferryOutcomesLost", "20m",
        {_metric("journal_lost_total", **GATEWAY): "0x10 3x60"},
        ({_metric("journal_lost_total", **GATEWAY): "0x60"},),
        GATEWAY,
    ),
    Case(
        "InferryBackupOld", "300m",
        {
            _metric("backup_last_success_timestamp_seconds", **GATEWAY): "0x400",
            _metric("backup_interval_seconds", **GATEWAY): "3600x400",
        },
        (
            {
                _metric("backup_last_success_timestamp_seconds", **GATEWAY): "0x120 7200x280",
                _metric("backup_interval_seconds", **GATEWAY): "7200x400",
            },
            {_metric("backup_last_success_timestamp_seconds", **GATEWAY): "0x400"},
        ),
        GATEWAY,
    ),
    Case(
        "InferryCertificateEndsSoon", "120m",
        {_metric("certificate_not_after_timestamp_seconds", **GATEWAY): f"{10 * 86400}x200"},
        ({_metric("certificate_not_after_timestamp_seconds", **GATEWAY): f"{60 * 86400}x200"},),
        GATEWAY,
    ),
    Case(
        "InferryCertificateEnds", "10m",
        {_metric("certificate_not_after_timestamp_seconds", **GATEWAY): "86400x60"},
        ({_metric("certificate_not_after_timestamp_seconds", **GATEWAY): f"{10 * 86400}x60"},),
        GATEWAY,
    ),
    Case(
        "InferryGatewayDown", "20m",
        {'up{job="inferry-gateway",instance="g:1"}': "1x10 0x60"},
        (
            {'up{job="inferry-gateway",instance="g:1"}': "1x60"},
            {'up{job="another",instance="g:1"}': "0x60"},
        ),
        {"instance": "g:1", "job": "inferry-gateway"},
    ),
    Case(
        "InferryNoMetrics", "20m",
        {'up{job="inferry-gateway",instance="g:1"}': "0x60"},
        ({'up{job="inferry-gateway",instance="g:1"}': "0x60", 'up{job="inferry-gateway",instance="g:2"}': "1x60"},),
        {},
    ),
    Case(
        "InferryEngineNotScraped", "30m",
        {'up{job="inferry-engines",instance="chat-0:8000"}': "1x5 0x60"},
        ({'up{job="inferry-engines",instance="chat-0:8000"}': "1x60"},),
        {"instance": "chat-0:8000", "job": "inferry-engines"},
    ),
)  # fmt: skip


def unit_tests(rule_files: list[str], severities: Mapping[str, str]) -> list[dict[str, Any]]:
    """Files for `promtool test rules`: each case once with its fault, and once for each way to be quiet."""
    tests: dict[str, list[Any]] = {}
    for case in CASES:
        firing = f'ALERTS{{alertname="{case.alert}",alertstate="firing"}}'
        labels = {
            "alertname": case.alert,
            "alertstate": "firing",
            "severity": severities[case.alert],
            **case.says,
        }
        said = ",".join(f"{key}={_quoted(value)}" for key, value in labels.items())
        here = tests.setdefault(_pace(case), [])
        here.append(_test(case, "fires", case.fires, firing, [{"labels": f"ALERTS{{{said}}}", "value": 1}]))
        here += [
            _test(case, f"is quiet ({number})", series, firing, [])
            for number, series in enumerate(case.quiet)
        ]
    return [_file(rule_files, pace, each) for pace, each in tests.items()]


def wordings(rule_files: list[str]) -> list[dict[str, Any]]:
    """The same for what alerts say: promtool shows it where it was told to expect nothing."""
    tests: dict[str, list[Any]] = {}
    for case in CASES:
        expected = {"eval_time": case.at, "alertname": case.alert, "exp_alerts": []}
        test = {
            "name": case.alert,
            "interval": "1m",
            "input_series": _inputs(case.fires),
            "alert_rule_test": [expected],
        }
        tests.setdefault(_pace(case), []).append(test)
    return [_file(rule_files, pace, each) for pace, each in tests.items()]


def _pace(case: Case) -> str:
    """Hours in steps of minutes take promtool a minute."""
    return "1m" if len(case.at) < 4 else "5m"


def _file(rule_files: list[str], pace: str, tests: list[Any]) -> dict[str, Any]:
    return {"rule_files": rule_files, "evaluation_interval": pace, "tests": tests}


def _test(case: Case, what: str, series: Series, expr: str, expected: list[Any]) -> dict[str, Any]:
    return {
        "name": f"{case.alert} {what}",
        "interval": "1m",
        "input_series": _inputs(series),
        "promql_expr_test": [{"expr": expr, "eval_time": case.at, "exp_samples": expected}],
    }


def _inputs(series: Series) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
