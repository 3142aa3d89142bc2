"""Alerts: what somebody should look at, how soon, and the page that says what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from inferry.render.prometheus.objectives import ITL, TTFT
from inferry.render.prometheus.recording import FAILED, slow
from inferry.render.shipment import Shipment
from inferry.render.yaml_text import Why

RUNBOOKS = "docs/runbooks"
"""Where the pages are, in Inferry's own documentation."""
FEWEST = 20
"""Requests within the longer window, below which one unlucky request would be a burnt budget."""
CERTAIN = 0.9
"""Where little is promised, 14 times the budget is more than all requests: so large a share is always too much."""

_HERE = "{{ $labels.deployment }}"
_REPLICA = "{{ $labels.replica }}"


def gateway_job(shipment: Shipment) -> str:
    """What Prometheus calls the gateways; the same as the Service's name in Kubernetes."""
    return f"{shipment.name}-gateway"


def engines_job(shipment: Shipment) -> str:
    """What it calls the engines."""
    return f"{shipment.name}-engines"


def alert_groups(shipment: Shipment) -> list[dict[str, Any]]:
    """All of them, by what they are about."""
    return [
        {"name": "inferry-promises", "rules": list(_promises())},
        {"name": "inferry-load", "rules": list(_load())},
        {"name": "inferry-replica-alerts", "rules": list(_replicas())},
        {"name": "inferry-gpus", "rules": list(_gpus())},
        {"name": "inferry-books", "rules": list(_books())},
        {"name": "inferry-watching", "rules": list(_watching(shipment))},
    ]


def _promises() -> Iterable[Any]:
    """Multi-window burn rates (the SRE workbook's): 14.4 times burns 2 % of a month's budget in an hour, 6 times 5 %
    in six hours. The short window ends the alert soon after the trouble."""
    for name, kind, what, page in (
        ("Errors", FAILED, "requests fail", "errors"),
        ("Ttft", slow(TTFT), "streams begin later than promised", "latency"),
        ("Itl", slow(ITL), "streams are slower than promised, token by token", "latency"),
    ):
        fast = _alert(
            f"Inferry{name}BurnFast",
            _burns(kind, 14.4, "5m", "1h"),
            "2m",
            "critical",
            f"{_HERE}: {{{{ $value | humanizePercentage }}}} of its {what}",
            f"Of the last 5 minutes' requests to {_HERE}, {{{{ $value | humanizePercentage }}}} are concerned, and the "
            "last hour's are no better. Like this, the budget of 30 days is gone in two.",
            page,
        )
        because = (
            "Both windows: the long one says that it matters, the short one that it still goes on. 14.4 times the "
            "budget is 2 % of a month's in an hour."
        )
        yield Why(because, fast) if name == "Errors" else fast
        yield _alert(
            f"Inferry{name}BurnSlow",
            _burns(kind, 6, "30m", "6h"),
            "15m",
            "warning",
            f"{_HERE}: {{{{ $value | humanizePercentage }}}} of its {what}, for hours",
            f"Of the last 30 minutes' requests to {_HERE}, {{{{ $value | humanizePercentage }}}} are concerned, and the "
            "last six hours' are no better. Like this, the budget of 30 days is gone in five.",
            page,
        )


def _burns(kind: str, times: float, short: str, long: str) -> str:
    much = f"on (deployment) clamp_max({times:g} * deployment:inferry_{kind}:budget, {CERTAIN})"
    seconds = {"1h": 3600, "6h": 21600}[long]
    return (
        f"deployment:inferry_{kind}:ratio_rate{short} > {much}\n"
        f"and on (deployment) deployment:inferry_{kind}:ratio_rate{long} > {much}\n"
        f"and on (deployment) deployment:inferry_requests:rate{long} * {seconds} >= {FEWEST}"
    )


def _load() -> Iterable[Any]:
    yield _alert(
        "InferryQueueGrows",
        "deployment:inferry_waiting:sum > 10\nand deriv(deployment:inferry_waiting:sum[10m]) > 0",
        "10m",
        "warning",
        f"{_HERE}: {{{{ $value }}}} requests wait, and more and more",
        f"More comes to {_HERE} than its replicas carry: {{{{ $value }}}} requests wait, at gateways or engines, and "
        "their number has been growing.",
        "queue",
    )
    yield _alert(
        "InferryRefuses",
        "deployment:inferry_refused:rate5m\n"
        "/ on (deployment) (deployment:inferry_refused:rate5m + on (deployment) "
        "(deployment:inferry_requests:rate5m or 0 * deployment:inferry_refused:rate5m)) > 0.02",
        "5m",
        "warning",
        f"{_HERE}: {{{{ $value | humanizePercentage }}}} of its requests are turned away",
        f"For want of room at {_HERE}, {{{{ $value | humanizePercentage }}}} of what comes is answered with 429 or 503.",
        "queue",
    )
    yield _alert(
        "InferryKvCacheFull",
        "deployment:inferry_kv_cache_use:max > 0.95",
        "10m",
        "warning",
        f"{_HERE}: an engine's KV cache is {{{{ $value | humanizePercentage }}}} full",
        f"An engine of {_HERE} has {{{{ $value | humanizePercentage }}}} of its KV cache in use, for ten minutes: new "
        "requests wait inside of it, or running ones lose their place and are computed again.",
        "kv-cache",
    )
    yield _alert(
        "InferryScalingAtItsMost",
        "max by (deployment) (inferry_scaling_wanted_replicas)\n"
        ">= on (deployment) max by (deployment) (inferry_scaling_max)\n"
        "and on (deployment) (deployment:inferry_waiting:sum > 0\n"
        "or deployment:inferry_ttft_slow:ratio_rate5m > on (deployment) deployment:inferry_ttft_slow:budget\n"
        "or deployment:inferry_itl_slow:ratio_rate5m > on (deployment) deployment:inferry_itl_slow:budget)",
        "15m",
        "warning",
        f"{_HERE}: all of its {{{{ $value }}}} replicas are not enough",
        f"{_HERE} has as many replicas as its file allows ({{{{ $value }}}}), and still keeps people waiting: more "
        "than scaling can do.",
        "scaling",
    )
    yield _alert(
        "InferryScalingBehind",
        "max by (deployment) (inferry_scaling_wanted_replicas)\n"
        "> on (deployment) (deployment:inferry_replicas_ready:max or 0 * deployment:inferry_replicas_meant:max)",
        "30m",
        "warning",
        f"{_HERE}: {{{{ $value }}}} replicas are wanted, and don't come",
        f"For half an hour, {_HERE} has had fewer ready replicas than the {{{{ $value }}}} that are wanted: there is "
        "no room for them, or they don't start.",
        "scaling",
    )
    yield _alert(
        "InferryScalingRuleTells",
        "max by (deployment, rule) (inferry_scaling_alert) == 1",
        "5m",
        "warning",
        f"{_HERE}: its rule {{{{ $labels.rule }}}} applies",
        f"The file says 'alert: true' at {{{{ $labels.rule }}}} of {_HERE}, and it has applied for five minutes.",
        "scaling",
    )


def _replicas() -> Iterable[Any]:
    yield _alert(
        "InferryDeploymentDown",
        "deployment:inferry_replicas_ready:max == 0\n"
        "and on (deployment) deployment:inferry_replicas_meant:max > 0\n"
        "and on (deployment) (max_over_time(deployment:inferry_replicas_ready:max[1h]) > 0\n"
        "or deployment:inferry_replicas_failed:max > 0)",
        "2m",
        "critical",
        f"{_HERE}: no replica takes requests",
        f"Nobody gets an answer from {_HERE}: {{{{ $value }}}} of its replicas are ready.",
        "deployment-down",
    )
    yield _alert(
        "InferryReplicaDown",
        'max by (deployment, replica) (inferry_replica_state{state=~"failed|suspect"}) == 1',
        "5m",
        "warning",
        f"{_REPLICA} is down",
        f"{_REPLICA} of {_HERE} has failed or been under suspicion for five minutes. The others carry its load.",
        "replica-down",
    )
    yield _alert(
        "InferryReplicaNeverReady",
        'max by (deployment, replica) (inferry_replica_state{state=~"pending|starting|warming"}) == 1',
        "45m",
        "warning",
        f"{_REPLICA} does not become ready",
        f"{_REPLICA} of {_HERE} has been starting for 45 minutes: its model is very large, or does not load.",
        "replica-down",
    )
    yield _alert(
        "InferryReplicaRestarts",
        "max by (deployment, replica) (increase(inferry_replica_restarts_total[30m])) > 2.5",
        "0m",
        "warning",
        f"{_REPLICA} ends again and again",
        f"The engine of {_REPLICA} ({_HERE}) ended by itself about {{{{ $value | humanize }}}} times in half an hour.",
        "restarts",
    )


def _gpus() -> Iterable[Any]:
    gpu = "GPU {{ $labels.gpu }} of {{ $labels.Hostname }}"
    yield Why(
        "From NVIDIA's DCGM exporter; without one, these three never fire. 87 degrees: data-centre GPUs slow down at "
        "about 90.",
        _alert(
            "InferryGpuHot",
            "DCGM_FI_DEV_GPU_TEMP > 87",
            "5m",
            "warning",
            f"{gpu}: {{{{ $value }}}} degrees",
            f"{gpu} has had {{{{ $value }}}} degrees Celsius for five minutes; soon it computes more slowly.",
            "gpu",
        ),
    )
    yield _alert(
        "InferryGpuMemoryErrors",
        "increase(DCGM_FI_DEV_ECC_DBE_VOL_TOTAL[1h]) > 0",
        "0m",
        "critical",
        f"{gpu}: memory errors that ECC can't correct",
        f"{gpu} counted about {{{{ $value | humanize }}}} uncorrectable memory errors within an hour.",
        "gpu",
    )
    yield _alert(
        "InferryGpuMemoryWears",
        "DCGM_FI_DEV_ROW_REMAP_FAILURE > 0",
        "0m",
        "critical",
        f"{gpu}: broken memory rows can't be replaced any more",
        f"{gpu} has no spare rows left for those of its memory that broke ({{{{ $value }}}}).",
        "gpu",
    )


def _books() -> Iterable[Any]:
    yield _alert(
        "InferryTenantBudgetNearlySpent",
        "tenant:inferry_budget_used:ratio > 0.9",
        "1m",
        "warning",
        "{{ $labels.tenant }}: {{ $value | humanizePercentage }} of its {{ $labels.period }}'s budget is spent",
        "The tenant {{ $labels.tenant }} has spent {{ $value | humanizePercentage }} of its {{ $labels.of }} budget "
        "of this {{ $labels.period }}. At 100 %, its requests are refused with 429.",
        "tenant-budget",
    )
    yield _alert(
        "InferryLedgerBehind",
        "max by (instance) (inferry_ledger_behind_seconds) > 300",
        "5m",
        "warning",
        "{{ $labels.instance }}: the ledger is {{ $value | humanizeDuration }} behind",
        "{{ $labels.instance }} has loaded nothing into the ledger for {{ $value | humanizeDuration }}. Nothing is "
        "lost: what was used waits in journals on its disk, and budgets count without it.",
        "ledger",
    )
    yield _alert(
        "InferryJournalNotWritten",
        "max by (instance) (inferry_journal_waiting) > 0",
        "2m",
        "critical",
        "{{ $labels.instance }}: the disk takes no outcomes",
        "{{ $value }} outcomes wait in the memory of {{ $labels.instance }}, since its disk does not take them. They "
        "are lost if it ends now.",
        "ledger",
    )
    yield _alert(
        "InferryOutcomesLost",
        "sum by (instance) (increase(inferry_journal_lost_total[1h])) > 0",
        "0m",
        "critical",
        "{{ $labels.instance }}: outcomes are lost",
        "About {{ $value | humanize }} requests of {{ $labels.instance }} within an hour are in no ledger.",
        "ledger",
    )
    yield _alert(
        "InferryBackupOld",
        "time() - inferry_backup_last_success_timestamp_seconds > 2 * inferry_backup_interval_seconds",
        "1h",
        "warning",
        "{{ $labels.instance }}: its latest backup is {{ $value | humanizeDuration }} old",
        "Two backups in a row were not made: what has happened since is in the ledger alone. Where none was ever made, "
        "its age counts from 1970.",
        "backup",
    )
    ends = "min by (instance) (inferry_certificate_not_after_timestamp_seconds) - time()"
    yield Why(
        "Of gateway.tls. Where a proxy has the certificate, watch that one: with a blackbox exporter's "
        "probe_ssl_earliest_cert_expiry in place of the metric below.",
        _alert(
            "InferryCertificateEndsSoon",
            f"{ends} < 14 * 86400",
            "1h",
            "warning",
            "{{ $labels.instance }}: its certificate ends in {{ $value | humanizeDuration }}",
            "Certificate services renew a month before the end: this one was not renewed. It ends in "
            "{{ $value | humanizeDuration }}.",
            "certificate",
        ),
    )
    yield _alert(
        "InferryCertificateEnds",
        f"{ends} < 2 * 86400",
        "0m",
        "critical",
        "{{ $labels.instance }}: its certificate ends in {{ $value | humanizeDuration }}",
        "In {{ $value | humanizeDuration }}, no client will trust {{ $labels.instance }} any more.",
        "certificate",
    )


def _watching(shipment: Shipment) -> Iterable[Any]:
    gateways = f'up{{job="{gateway_job(shipment)}"}}'
    yield _alert(
        "InferryGatewayDown",
        f"{gateways} == 0",
        "2m",
        "critical",
        "{{ $labels.instance }} does not answer Prometheus",
        "The gateway {{ $labels.instance }} is down, can't be reached, or refuses Prometheus' key.",
        "gateway-down",
    )
    yield Why(
        "An alert on a figure says nothing when there are no figures.",
        _alert(
            "InferryNoMetrics",
            f"absent({gateways} == 1)",
            "5m",
            "critical",
            "Prometheus sees no gateway at all",
            "No gateway has given figures for five minutes: all other alerts are blind.",
            "gateway-down",
        ),
    )
    yield _alert(
        "InferryEngineNotScraped",
        f'up{{job="{engines_job(shipment)}"}} == 0',
        "15m",
        "warning",
        "{{ $labels.instance }} does not answer Prometheus",
        "The engine at {{ $labels.instance }} gives no figures. If its replica is ready, only its own page is away.",
        "gateway-down",
    )


def _alert(
    name: str, expr: str, lasting: str, severity: str, summary: str, description: str, page: str
) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": name, "expr": expr}
    if lasting != "0m":
        rule["for"] = lasting
    return rule | {
        "labels": {"severity": severity},
        "annotations": {
            "summary": summary,
            "description": description,
            "runbook_url": f"{RUNBOOKS}/{page}.md",
        },
    }
