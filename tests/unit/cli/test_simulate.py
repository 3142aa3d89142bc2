"""`inferry simulate`: from a file and a load to an answer that says what it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inferry.cli.main import app
from inferry.core.errors import ConfigError

FILE = """\
tenants:
  small: {limits: {requests_per_minute: 2}}
deployments:
  chat:
    engine: simulated
    ttft_ms: 200
    itl_ms: 20
    parallel: 4
    replicas: 2
    scaling:
      max: 4
      start_s: 30
      replica_price_per_hour: 2.5
      rules:
        - {metric: queue_depth, above: 4, add: 1}
        - {metric: running, below: 1, for_s: 60, remove: 1}
"""
LOAD = ("--steps", "0.5:1m,12:1m,0.5:7m", "--input-tokens", "100", "--output-tokens", "40")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "inferry.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def _said(*argv: str | Path) -> str:
    found = CliRunner().invoke(app, ["simulate", *map(str, argv)], env={"COLUMNS": "100"})
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def _unwrapped(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_the_answer_says_that_nothing_ran_and_what_it_rests_on(file: Path) -> None:
    """First of all, before any figure."""
    text = _said(file, *LOAD)
    assert text.startswith("SIMULATED: no engine ran. chat (simulated, simulated): ")
    assert "the simulated engine's own settings" in text
    assert "assumed: nobody said one" in _unwrapped(text)
    cost = r"replica-hours \(no GPUs are counted\); [\d.]+ USD at 2.5 per replica and hour"
    assert re.search(cost, _unwrapped(text))
    assert re.search(r"\d:\d\d:\d\d  2 -> 3 +rules\[0\] queue_depth: ", text)
    assert "starting" in text


def test_the_same_seed_gives_the_same_bytes(file: Path) -> None:
    """And another seed another run of the same load."""
    load = ("--rate", "3", "--duration", "1m", "--json")
    first = _said(file, *load)
    assert _said(file, *load) == first
    assert _said(file, *load, "--seed", "1") != first


def test_programs_get_all_of_it(file: Path) -> None:
    """With settings, timing, and what that rests on; labelled as simulated."""
    told = json.loads(
        _said(file, *LOAD, "--json", "--set", "deployments.chat.replicas=3", "--slo", "ttft=1s")
    )
    (variant,) = told["variants"]
    assert told["simulated"] is True
    assert variant["set"] == ["deployments.chat.replicas=3"]
    assert variant["slo"] == {"ttft_ms": 1000, "itl_ms": None, "from": "--slo"}
    assert variant["timing"]["source"] == "settings"
    result = variant["result"]
    assert result["requests"] == result["completed"] + sum(result["failed"].values())
    assert result["timeline"][0]["serving"] == 3
    assert result["cost"] == pytest.approx(2.5 * result["replica_hours"])


def test_rejects_are_told_by_tenant(file: Path) -> None:
    """A tenant's limit of the file holds in the simulation."""
    text = _said(file, "--rate", "1", "--duration", "5m", "--tenants", "small:1,large:1")
    assert re.search(r"rejected by tenant: small \d+", text)
    assert "rate_limit_exceeded" in text


def test_the_hosts_budget_holds(file: Path, tmp_path: Path) -> None:
    """GPUs for two replicas: there are never more, however many the rules wish."""
    timing = tmp_path / "timing.yaml"
    timing.write_text("gpus: 1\nsequences_max: 2\n", encoding="utf-8")
    argv = (file, "--rate", "4", "--duration", "2m", "--json", "--timing", timing)
    free = json.loads(_said(*argv))["variants"][0]["result"]
    bound = json.loads(_said(*argv, "--set", "host.gpus_max=2"))["variants"][0]["result"]
    assert max(each["serving"] for each in free["timeline"]) == 4
    assert max(each["serving"] for each in bound["timeline"]) == 2


def test_variants_get_the_same_requests(file: Path, tmp_path: Path) -> None:
    """Beside each other: another file, and the same one with other values; and who is better at what."""
    other = tmp_path / "slow.yaml"
    other.write_text(FILE.replace("ttft_ms: 200", "ttft_ms: 2000"), encoding="utf-8")
    page = tmp_path / "report.html"
    text = _said(
        file, other, *LOAD, "--compare", "always four: deployments.chat.scaling=,deployments.chat.replicas=4", "--html", page
    )  # fmt: skip
    assert re.search(r"the same [\d,]+ requests for all", text)
    head = next(line for line in text.splitlines() if "always four" in line)
    assert head.split() == ["inferry", "slow", "always", "four"]
    assert re.search(r"Beside 'inferry', 'slow' .*is worse at: .*TTFT p50", _unwrapped(text))
    html = page.read_text(encoding="utf-8")
    assert html.count("<figure>") >= 5
    assert "SIMULATED" in html
    assert "always four" in html
    assert not re.search(r'(src|href)="', html)


def test_failures_happen_when_they_are_said_to(file: Path) -> None:
    """A crash, and a freeze that the fleet ends by a kill: both cost, and what was under way goes on elsewhere."""
    text = _said(file, "--rate", "4", "--duration", "5m", "--failures", "crash@2m,freeze@3m:20s")
    assert re.search(r"failures 2 crashes, .*answers? resumed elsewhere", _unwrapped(text))


def test_a_bench_says_how_fast_it_is(file: Path, tmp_path: Path) -> None:
    """Figures by hand likewise; the answer tells which."""
    timing = tmp_path / "timing.yaml"
    timing.write_text("step_s: 0.05\nsequences_max: 8\n", encoding="utf-8")
    text = _said(file, *LOAD, "--timing", timing)
    assert "figures by hand in timing.yaml" in text
    assert "figures that the file leaves out are the defaults" in _unwrapped(text)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "nothing comes: say which load"),
        (("--rate", "1", "--deployment", "chta"), "has no such deployment. Did you mean 'chat'?"),
        (("--rate", "1", "--failures", "boom@1m"), "--failures boom@1m: 'boom' is not known."),
        (("--rate", "1", "--failures", "crash@soon"), "--failures soon: write a time as"),
        (("--rate", "1", "--failures", "-1"), "or a number of crashes per replica and hour"),
        (("--rate", "1", "--slo", "ttft=5"), "--slo: 'ttft=5' needs a unit"),
        (("--rate", "1", "--slo", "e2e=5s"), "--slo e2e=5s: here there are ttft and itl"),
        (("--rate", "1", "--html", "/no/where/x.html"), "there is no folder /no/where"),
        (("--rate", "1", "--compare", "gone.yaml"), "gone.yaml does not exist"),
        (("--rate", "0.000001", "--duration", "1s"), "nothing comes: the load has no request"),
        (("--rate", "1", "--set", "deployments.chat.routing.policy=x"), "'x' is not known."),
        (("--rate", "1", "--compare", "a: deployments.chat.replicas=1", "--compare", "a: deployments.chat.replicas=2"),
         "two are called 'a'"),
    ],
)  # fmt: skip
def test_mistakes_name_the_option_and_the_way_out(file: Path, argv: tuple[str, ...], said: str) -> None:
    """Before anything is simulated."""
    with pytest.raises(ConfigError) as caught:
        _said(file, *argv)
    assert said in caught.value.message


def test_of_several_deployments_one_is_named(tmp_path: Path) -> None:
    """Without it, nobody knows whose load it is."""
    path = tmp_path / "two.yaml"
    path.write_text("deployments:\n  a: {engine: simulated}\n  b: {engine: simulated}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="say which one by --deployment: a, b"):
        _said(path, "--rate", "1")
    assert "no engine ran. b " in _said(path, "--rate", "1", "--duration", "1m", "--deployment", "b")


def test_other_deployments_keep_their_gpus(tmp_path: Path) -> None:
    """A host of 4 GPUs, 3 of which another deployment has: one that is simulated stays at 1, as in production, and the
    answer says why."""
    path, timing = tmp_path / "two.yaml", tmp_path / "timing.yaml"
    rules = "[{metric: running, above: 1, add: 1}]"
    path.write_text(
        "host: {gpus_max: 4}\ndeployments:\n"
        "  other: {engine: vllm, model: hf:Qwen/Qwen3-4B, replicas: 3}\n"
        f"  chat: {{engine: vllm, model: hf:Qwen/Qwen3-4B, scaling: {{max: 8, rules: {rules}}}}}\n",
        encoding="utf-8",
    )
    timing.write_text("{step_s: 0.1, start_s: 5}", encoding="utf-8")
    words = (path, "--deployment", "chat", "--timing", timing, "--rate", "1", "-d", "3m")
    text = _said(*words)
    assert "other keep what they begin with (3 GPUs)" in _unwrapped(text)
    assert "to 4 served" not in text
    alone = _said(*words, "--set", "deployments.other.replicas=1")
    assert "(1 to 3 served)" in alone


def test_hours_in_which_nobody_asks_are_paid(file: Path) -> None:
    """Ten minutes of load, then an hour of next to none: the bill ends with the load's hour, not with its last request."""
    words = ("--steps", "1:10m,0.000001:1h", "--input-tokens", "100", "--output-tokens", "40", "--json")
    found = json.loads(_said(file, *words))
    (variant,) = found["variants"]
    assert variant["result"]["duration_s"] == 4200


def test_a_reserve_is_simulated(file: Path) -> None:
    """`standby: 1` is one replica more, paid all the time."""
    words = (*LOAD, "--json", "--set", "deployments.chat.scaling=")
    hours = [
        json.loads(_said(file, *words, "--set", f"deployments.chat.standby={number}"))["variants"][0][
            "result"
        ]["mean_replicas"]
        for number in (0, 1)
    ]
    assert hours == [2, 3]


def test_rules_that_see_nothing_here_are_named(file: Path) -> None:
    """Of the GPU's memory nothing is simulated: a rule on it never fires, and the answer says so."""
    rule = "deployments.chat.scaling.rules.0={metric: gpu_memory_use, above: 0.5, add: 1}"
    words = (file, "--rate", "1", "-d", "10s")
    assert "rules[0]: gpu_memory_use is not simulated" in _unwrapped(_said(*words, "--set", rule))
    assert "is not simulated, so" not in _unwrapped(_said(*words))


def test_a_budget_counts_the_files_price_and_not_a_reports(file: Path) -> None:
    """4 per hour pays for one replica of 2.5 and none more, whatever price a report is to show; as the fleet counts."""
    words = (*LOAD, "--json", "--set", "host.money_per_hour_max=4", "--set", "deployments.chat.replicas=1")
    for more in ((), ("--price-per-gpu-hour", "0.01"), ("--price-per-gpu-hour", "1000")):
        found = json.loads(_said(file, *words, *more))["variants"][0]["result"]
        assert {each["wanted"] for each in found["timeline"]} == {1}


@pytest.mark.parametrize(
    ("text", "load", "says"),
    [
        ("kv_tokens: 10", (), "a KV cache of 10 tokens has no block of 16"),
        ("block_tokens: 64", ("--prefix-tokens", "32"), "is told in blocks of 16"),
    ],
)
def test_a_timing_that_cannot_hold_the_loads_blocks_is_refused(
    file: Path, tmp_path: Path, text: str, load: tuple[str, ...], says: str
) -> None:
    """With the figures, and before anything is simulated."""
    timing = tmp_path / "timing.yaml"
    timing.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        _said(file, *LOAD, "--timing", timing, *load)
    assert says in caught.value.message


def test_a_timings_own_blocks_hold_where_prompts_share_nothing(file: Path, tmp_path: Path) -> None:
    """`block_tokens` of the file is a figure as others."""
    timing = tmp_path / "timing.yaml"
    timing.write_text("{block_tokens: 512, gpus: 0}", encoding="utf-8")
    found = json.loads(_said(file, *LOAD, "--timing", timing, "--json"))
    assert found["variants"][0]["timing"]["figures"]["block_tokens"] == 512
