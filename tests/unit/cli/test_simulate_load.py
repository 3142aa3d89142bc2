"""What comes in a simulation: the words, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.bench.plan import Lengths, Poisson, RunPlan, Synthetic, Target
from inferry.bench.tokens import Wording
from inferry.bench.workload import asks
from inferry.cli.simulate_load import load_of
from inferry.cli.simulate_load_words import LoadWords
from inferry.core.errors import ConfigError

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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (LoadWords(), "nothing comes: say which load"),
        (LoadWords(rate=1, ramp="1:2"), "--rate and --ramp both say what comes"),
        (LoadWords(rate=1, speed=2), "--speed: it is for a recorded load"),
        (LoadWords(trace=Path("no"), input_tokens="5"), "--input-tokens: it is for a made-up load"),
        (LoadWords(trace=Path("no.csv")), "--trace no.csv: can't be read: No such file"),
        (LoadWords(rate=1, arrivals="often"), "--arrivals often: must be one of"),
        (LoadWords(ramp="1:2", arrivals="gamma"), "--arrivals says how requests spread: give --rate"),
        (LoadWords(rate=1, burstiness=2), "--burstiness is of gamma arrivals"),
        (LoadWords(rate=1, hours=0), "--hours 0: must be above 0"),
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
