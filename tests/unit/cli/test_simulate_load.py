"""What comes in a simulation: the words, and what is made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inferry.bench.plan import Lengths, Poisson, RunPlan, Synthetic, Target
from inferry.bench.tokens import Wording
from inferry.bench.workload import asks
from inferry.cli.simulate_load import load_of
from inferry.cli.simulate_load_words import LoadWords
from inferry.core.clock import wall_s_of
from inferry.core.errors import ConfigError
from inferry.core.outcome import Ending, Outcome
from inferry.ledger.journal import JournalWriter

AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2225670,879,55
"""


def test_a_made_up_load_is_the_benchs() -> None:
    """With the same words and seed, `inferry bench` sends requests of these lengths at these times."""
    load = load_of(
        LoadWords(rate=5, duration="60s", input_tokens="100-300", output_tokens="lognormal:50:30", seed=3)
    )
    mine = [(round(each.at_s, 9), each.prompt_tokens, each.answer_tokens) for each in load.arrivals()]
    plan = RunPlan(
        target=Target(base_url="http://nobody", model="m"),
        arrivals=Poisson(5),
        workload=Synthetic(
            input_tokens=Lengths(mean=200, spread="uniform", deviation=100, least=100, most=300),
            output_tokens=Lengths(mean=50, spread="lognormal", deviation=30),
        ),
        duration_s=60,
        seed=3,
    )
    theirs = [
        (round(each.due_s or 0, 9), each.input_tokens, each.output_tokens) for each in asks(plan, Wording())
    ]
    assert mine == theirs
    assert len(mine) > 200


def test_a_load_can_be_had_again() -> None:
    """Each variant of a comparison gets the very same requests."""
    load = load_of(LoadWords(rate=2, duration="100s", tenants="a:3,b"))
    first = list(load.arrivals())
    assert first == list(load.arrivals())
    assert {each.tenant for each in first} == {"a", "b"}
    assert sum(each.tenant == "a" for each in first) > sum(each.tenant == "b" for each in first)


def test_groups_share_whole_blocks() -> None:
    """40 shared tokens are two blocks of 16; two groups have none in common."""
    load = load_of(LoadWords(rate=5, duration="60s", prefix_tokens=40, prefix_groups=2, input_tokens="100"))
    blocks = {each.blocks for each in load.arrivals()}
    assert sorted(len(each) for each in blocks) == [2, 2]
    assert not set.intersection(*(set(each) for each in blocks))


def test_a_trace_is_faster_repeated_and_cut(tmp_path: Path) -> None:
    """Its own times over the speed; rounds follow each other; --requests cuts."""
    path = tmp_path / "trace.csv"
    path.write_text(AZURE, encoding="utf-8")
    load = load_of(LoadWords(trace=path, speed=2, repeat=2, requests=4))
    found = list(load.arrivals())
    assert [each.prompt_tokens for each in found] == [374, 396, 879, 374]
    assert found[1].at_s == pytest.approx(4.314579 / 2)
    assert "trace.csv (azure), 2 times as fast, 2 times in a row, the first 4" in load.says


def test_your_own_requests_come_again(tmp_path: Path) -> None:
    """From a folder of journals: when they came, of whom, how long; those between two dates where that is asked."""
    writer = JournalWriter(tmp_path, "gateway-0")
    for number, day in enumerate(("2026-01-30", "2026-01-31", "2026-02-01")):
        writer.append(_outcome(number, wall_s_of(day)))
    writer.close()
    load = load_of(LoadWords(replay=tmp_path, speed=2))
    assert [(each.at_s, each.prompt_tokens, each.tenant) for each in load.arrivals()] == [
        (0.0, 100, "search"),
        (43200.0, 101, "search"),
        (86400.0, 102, "search"),
    ]
    assert load.begin_wall_s == wall_s_of("2026-01-30")
    some = load_of(LoadWords(replay=tmp_path, since="2026-01-31", until="2026-02-01"))
    assert [each.prompt_tokens for each in some.arrivals()] == [101]
    assert "from 2026-01-31 00:00:00Z on" in some.says


def _outcome(number: int, wall_s: float) -> Outcome:
    return Outcome(
        id=f"{number}",
        request_id=f"r{number}",
        route="chat",
        ending=Ending.COMPLETED,
        status=200,
        received_wall_s=wall_s,
        duration_s=1.0,
        deployment="chat",
        tenant="search",
        prompt_tokens=100 + number,
        completion_tokens=10,
    )


def test_clients_of_servegen_are_tenants(tmp_path: Path) -> None:
    """Their rates, a share of them, and lengths of the file beside it or as they are written."""
    path = tmp_path / "small_client_rates.csv"
    path.write_text(
        "client,window_start_s,rate_rps,cv,interarrival_dist,param1,param2\n"
        "7,0,2.0,1.0,Gamma,1,1\n9,600,1.0,1.0,Gamma,1,1\n",
        encoding="utf-8",
    )
    load = load_of(LoadWords(trace=path, input_tokens="50", speed=2))
    found = list(load.arrivals())
    assert {each.tenant for each in found} == {"7", "9"}
    assert {each.prompt_tokens for each in found} == {50}
    assert load.until_s == 600
    assert len(list(load_of(LoadWords(trace=path, share=0.2)).arrivals())) < len(found) / 2
    beside = tmp_path / "small_length_pdfs.jsonl"
    window = {"input_tokens": "{33: 1.0}", "output_tokens": "{5: 1.0}"}
    beside.write_text(
        "\n".join(json.dumps({"client": each, "windows": {"0": window}}) for each in ("7", "9")),
        encoding="utf-8",
    )
    assert {each.prompt_tokens for each in load_of(LoadWords(trace=path)).arrivals()} == {33}
    beside.write_text('{"client": "7", "windows": {"0": {"text_tokens": "{33: 1.0}"}}}', encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"line 1: no lengths .* it has no 'input_tokens'. .* as you say: --input-"
    ):
        load_of(LoadWords(trace=path))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (LoadWords(), "nothing comes: say which load"),
        (LoadWords(rate=1, ramp="1:2"), "--rate and --ramp both say what comes"),
        (LoadWords(rate=1, speed=2), "--speed: it is for a recorded load"),
        (LoadWords(trace=Path("no"), input_tokens="5"), "--input-tokens: it is for a made-up load"),
        (LoadWords(trace=Path("no.csv")), "--trace no.csv: can't be read: No such file"),
        (LoadWords(replay=Path("/no/where")), "--replay /no/where is not there"),
        (LoadWords(rate=1, since="2026-01-01"), "--since: it is for --replay"),
        (LoadWords(rate=1, share=0.5), "--share: it is for a recorded load"),
        (LoadWords(trace=Path("no"), share=2), "--share 2: must be above 0 and at most 1"),
        (LoadWords(rate=1, arrivals="often"), "--arrivals often: must be one of"),
        (LoadWords(ramp="1:2", arrivals="gamma"), "--arrivals says how requests spread: give --rate"),
        (LoadWords(rate=1, burstiness=2), "--burstiness is of gamma arrivals"),
        (LoadWords(rate=1, hours=0), "--hours 0: must be above 0"),
        (LoadWords(rate=1, hours=float("nan")), "--hours nan: must be above 0"),
        (LoadWords(rate=1, speed=float("nan")), "--speed nan: must be above 0"),
        (LoadWords(rate=1, duration="soon"), "--duration soon: write a time as"),
        (LoadWords(rate=1, prefix_tokens=300), "--prefix-tokens 300: is part of --input-tokens"),
        (LoadWords(rate=1, tenants="a:0"), "--tenants 0: write a number above 0"),
        (LoadWords(steps="1:1m", duration="5m"), "--duration: --steps say by themselves how long"),
    ],
)  # fmt: skip
def test_mistakes_name_the_option_and_the_way_out(words: LoadWords, said: str) -> None:
    """Before anything is simulated."""
    with pytest.raises(ConfigError) as caught:
        load_of(words)
    assert said in caught.value.message


def test_a_damaged_trace_is_told_by_its_line(tmp_path: Path) -> None:
    """With file, line and what is wrong."""
    path = tmp_path / "trace.csv"
    path.write_text(AZURE + "yesterday,1,2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"trace.csv, line 5: no request of an Azure trace"):
        load_of(LoadWords(trace=path))
