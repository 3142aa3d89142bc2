"""Arrivals come as their sources say: in order, at the rates and with the lengths of files, the same by the same seed."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev

import msgspec
import pytest

from inferry.core.load_traces import TraceError
from inferry.core.outcome import Ending, Outcome
from inferry.ledger.database import open_database
from inferry.ledger.journal import JournalWriter
from inferry.ledger.loader import Loader
from inferry.simulate.arrivals import Arrival, merged, read_trace, until
from inferry.simulate.arrivals_drawn import diurnal, drawn, exponential, fixed, lognormal, ramp, steps
from inferry.simulate.arrivals_journal import read_journals
from inferry.simulate.arrivals_servegen import read_lengths, read_rates, servegen

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:40.0,374,44
2023-11-16 18:15:44.0,396,0
2023-11-16 18:15:42.0,879,55
"""


def rates_file(folder: Path, *rows: str) -> Path:
    path = folder / "rates.csv.gz"
    head = "client,window_start_s,rate_rps,cv,interarrival_dist,param1,param2"
    path.write_bytes(gzip.compress("\n".join((head, *rows)).encode()))
    return path


def test_a_trace_comes_in_order_faster_and_again(tmp_path: Path) -> None:
    """Twice as fast: half the distances; the second round follows the first by a mean distance."""
    path = tmp_path / "azure.csv"
    path.write_text(AZURE)
    arrivals = list(read_trace(path, speed=2.0, repeat=2, tenant="t"))
    assert [each.at_s for each in arrivals] == pytest.approx([0, 1, 2, 3, 4, 5])
    assert [each.answer_tokens for each in arrivals[:3]] == [44, 55, 1]
    assert {each.tenant for each in arrivals} == {"t"}


def test_a_trace_without_requests_is_refused(tmp_path: Path) -> None:
    """A head alone is no load; the error names the file."""
    path = tmp_path / "empty.csv"
    path.write_text(AZURE.splitlines()[0])
    with pytest.raises(TraceError, match=r"empty\.csv has no requests"):
        read_trace(path)


def test_sources_are_joined_in_order_of_time_and_cut() -> None:
    """Two sources by turns; a span of time begins at 0."""
    first = [Arrival(float(at), 1, 1, tenant="a") for at in (0, 2, 4)]
    second = [Arrival(float(at), 1, 1, tenant="b") for at in (1, 2, 5)]
    joined = list(merged([first, second]))
    assert [(each.at_s, each.tenant) for each in joined] == [
        (0, "a"), (1, "b"), (2, "a"), (2, "b"), (4, "a"), (5, "b"),
    ]  # fmt: skip
    assert [each.at_s for each in until(joined, 5.0, begin_s=2.0)] == [0, 0, 2]


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 2.0])
def test_gaps_have_the_rate_and_the_spread_that_were_asked_for(cv: float) -> None:
    """20,000 gaps at 10 a second: their mean within 3 %, their coefficient of variation within 5 %."""
    times_s = [each.at_s for each in drawn(10.0, 2000, prompt=fixed(1), answer=fixed(1), cv=cv, seed=1)]
    gaps_s = [after - before for before, after in pairwise(times_s)]
    assert fmean(gaps_s) == pytest.approx(0.1, rel=0.03)
    assert pstdev(gaps_s) / fmean(gaps_s) == pytest.approx(cv, rel=0.05, abs=1e-6)


def test_a_rate_that_moves_is_followed() -> None:
    """A ramp from 0 to 20 a second has its requests where the rate is; steps and days likewise."""
    climbing = [e.at_s for e in drawn(ramp([(0, 0.0), (1000, 20.0)]), 1000, prompt=fixed(1), answer=fixed(1))]
    assert len(climbing) == pytest.approx(10_000, rel=0.05)
    assert sum(at_s < 500 for at_s in climbing) / len(climbing) == pytest.approx(0.25, rel=0.05)
    stepping = [e.at_s for e in drawn(steps([(100, 5.0), (200, 0.0)]), 400, prompt=fixed(1), answer=fixed(1))]
    assert 100 <= stepping[0] <= stepping[-1] <= 201
    day = diurnal(1.0, 3.0)
    assert (day(54_000), day(54_000 + 43_200)) == pytest.approx((3.0, 1.0))


def test_lengths_have_the_means_that_were_asked_for() -> None:
    """Geometric and log-normal lengths: the mean within 3 %, and never below one token."""
    for draw in (exponential(200), lognormal(200, 1.0)):
        arrivals = list(drawn(10.0, 2000, prompt=draw, answer=draw, seed=2))
        assert fmean(each.prompt_tokens for each in arrivals) == pytest.approx(200, rel=0.03)
        assert min(each.answer_tokens for each in arrivals) >= 1


def test_clients_send_at_the_rates_of_their_windows(tmp_path: Path) -> None:
    """ServeGen's files: each window has its rate, within four standard deviations, and empty ones have nothing."""
    path = rates_file(tmp_path, "0,0,10,1,Gamma,1,0.1", "0,600,0,0,,0,0", "0,1200,5,2,Weibull,0.54,0.1",
                      "1,0,2,1,Gamma,1,0.5")  # fmt: skip
    arrivals = list(servegen(read_rates(path), prompt=fixed(7), answer=fixed(8), seed=3))
    assert [each.at_s for each in arrivals] == sorted(each.at_s for each in arrivals)
    counts = [
        sum(begin <= each.at_s < begin + 600 for each in arrivals if each.tenant == "0")
        for begin in (0, 600, 1200)
    ]
    assert abs(counts[0] - 6000) < 4 * 6000**0.5
    assert counts[1] == 0
    assert abs(counts[2] - 3000) < 4 * 2 * 3000**0.5
    assert {(each.prompt_tokens, each.answer_tokens) for each in arrivals} == {(7, 8)}


def test_a_share_of_clients_requests_is_as_bursty_as_it_should_be(tmp_path: Path) -> None:
    """One request in twenty of a process with cv 3: the rate is a twentieth, and cv^2 = thin x 9 + 1 - thin."""
    rows = [f"0,{600 * number},40,3,Gamma,0.11,0.225" for number in range(60)]
    clients = read_rates(rates_file(tmp_path, *rows))
    times_s = [each.at_s for each in servegen(clients, prompt=fixed(1), answer=fixed(1), thin=0.05, seed=4)]
    gaps_s = [after - before for before, after in pairwise(times_s)]
    assert len(times_s) == pytest.approx(36_000 * 40 * 0.05, rel=0.02)
    assert (pstdev(gaps_s) / fmean(gaps_s)) ** 2 == pytest.approx(0.05 * 9 + 0.95, rel=0.06)


def test_lengths_of_clients_are_drawn_from_their_own(tmp_path: Path) -> None:
    """By client and window; a client that the file does not know gets the lengths that were given."""
    rates = rates_file(tmp_path, "0,0,5,1,Gamma,1,0.2", "1,0,5,1,Gamma,1,0.2")
    path = tmp_path / "lengths.jsonl"
    path.write_text(
        '{"client":0,"windows":{"0":{"input_tokens":"{}","output_tokens":"{}"},'
        '"21600":{"input_tokens":"{9: 0.25, 12: 0.75}","output_tokens":"{3: 1.0}"}}}\n'
    )
    found = servegen(read_rates(rates), prompt=fixed(7), answer=fixed(8), lengths=read_lengths(path), seed=5)
    sizes: dict[str, list[tuple[int, int]]] = {"0": [], "1": []}
    for each in found:
        sizes[each.tenant].append((each.prompt_tokens, each.answer_tokens))
    assert set(sizes["1"]) == {(7, 8)}
    assert set(sizes["0"]) == {(9, 3), (12, 3)}
    assert sizes["0"].count((12, 3)) / len(sizes["0"]) == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["0,0,fast,1,Gamma,1,1"], "line 2: no window"),
        (["0,0,0,0,,0,0"], "no client has a window"),
        (["0,0,nan,1,Gamma,1,1"], "line 2: no window of a client: rate_rps is nan"),
        (["0,0,1,nan,Gamma,1,1"], "cv is nan, not from 0 to 1000"),
        (["0,0,1,inf,Gamma,1,1"], "cv is inf"),
        (["0,0,1,1,Weibull,0.001,1"], "param1 is 0.001, not from 0.1"),
        (["0,inf,1,1,Gamma,1,1"], "window_start_s is inf"),
        (["0,600,1,1,Gamma,1,1", "0,0,1,1,Gamma,1,1"], "not in order of window_start_s"),
    ],
)
def test_what_is_no_file_of_rates_is_said_with_its_line(tmp_path: Path, rows: list[str], says: str) -> None:
    """A person finds what to mend: the file, the line, the cause."""
    with pytest.raises(TraceError, match=says):
        read_rates(rates_file(tmp_path, *rows))


def outcome(id: str, at_s: float, **more: object) -> Outcome:
    fields = {
        "ending": Ending.COMPLETED, "status": 200, "deployment": "chat", "tenant": "a",
        "prompt_tokens": 100, "completion_tokens": 10, **more,
    }  # fmt: skip
    return Outcome(
        id=id, request_id=id, route="", received_wall_s=1e9 + at_s, duration_s=1.0, **fields  # type: ignore[arg-type]
    )  # fmt: skip


def write(folder: Path, name: str, *outcomes: Outcome) -> None:
    writer = JournalWriter(folder, name)
    for each in outcomes:
        writer.append(each)
    writer.close()


def test_a_journal_comes_again_in_the_order_in_which_its_requests_came(tmp_path: Path) -> None:
    """Two gateways' journals: by arrival and not by end, once each, the first one at 0, with the tenants of then."""
    write(tmp_path, "one", outcome("late", 9, prompt_tokens=900), outcome("first", 5, cached_tokens=40))
    write(tmp_path, "two", outcome("mid", 7, tenant="b"), outcome("late", 9, prompt_tokens=900))
    found = read_journals(tmp_path, speed=2.0)
    assert [each.at_s for each in found.arrivals] == [0, 1, 2]
    assert [each.prompt_tokens for each in found.arrivals] == [100, 100, 900]
    assert [each.tenant for each in found.arrivals] == ["a", "b", "a"]
    assert [len(each.blocks) for each in found.arrivals] == [2, 0, 0]
    assert found.begin_wall_s == 1e9 + 5


def test_who_was_sent_away_comes_again_and_who_was_wrong_does_not(tmp_path: Path) -> None:
    """Refused for want of room: as long as its tenant's last answer. A bad request, or another deployment's: left out."""
    full = {"ending": Ending.REJECTED, "status": 429, "prompt_tokens": None, "completion_tokens": None}
    write(
        tmp_path,
        "one",
        outcome("a", 1, prompt_tokens=70, completion_tokens=7),
        outcome("b", 2, **full),
        outcome("c", 3, **{**full, "status": 400}),
        outcome("d", 4, deployment="other"),
    )
    found = read_journals(tmp_path, deployment="chat")
    assert [(each.prompt_tokens, each.answer_tokens) for each in found.arrivals] == [(70, 7), (70, 7)]
    assert (found.guessed, found.wrong) == (1, 1)


def test_lines_that_a_crash_tore_are_counted_and_an_empty_folder_is_said(tmp_path: Path) -> None:
    """Half a line is no reason to refuse the rest; no journal at all is one."""
    write(tmp_path, "one", outcome("a", 1))
    (path,) = tmp_path.glob("*.journal")
    path.write_bytes(path.read_bytes() + b'{"id":"torn')
    assert (len(read_journals(tmp_path).arrivals), read_journals(tmp_path).corrupt) == (1, 1)
    with pytest.raises(TraceError, match="no request of deployment 'nobody'"):
        read_journals(tmp_path, deployment="nobody")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TraceError, match="has no journals"):
        read_journals(tmp_path / "empty")


def test_a_store_comes_again_as_its_journals_would(tmp_path: Path) -> None:
    """Journals that were loaded are deleted: the store has the same requests, and gives the same arrivals."""
    journals = tmp_path / "journal"
    journals.mkdir()
    write(journals, "one", outcome("late", 9, prompt_tokens=900), outcome("first", 5, cached_tokens=40))
    before = read_journals(journals).arrivals
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}")
    database.migrate()
    Loader(database, journals).load_once()
    database.close()
    with pytest.raises(TraceError, match="give the store's file"):
        read_journals(journals)
    assert read_journals(tmp_path / "ledger.db").arrivals == before


def test_only_what_engines_answer_with_text_comes_again(tmp_path: Path) -> None:
    """An embedding and a count of tokens are left out and counted; of an answer that broke off, the prompt is known."""
    nothing = {"completion_tokens": None}
    rows = [
        outcome("a", 1, prompt_tokens=70, completion_tokens=7),
        msgspec.structs.replace(outcome("b", 2, **nothing), route="/v1/embeddings"),
        msgspec.structs.replace(outcome("c", 3, prompt_tokens=None, **nothing), route="/tokenize"),
        outcome("d", 4, ending=Ending.CANCELLED, prompt_tokens=9000, **nothing),
    ]
    write(tmp_path, "one", *rows)
    found = read_journals(tmp_path)
    assert [(each.prompt_tokens, each.answer_tokens) for each in found.arrivals] == [(70, 7), (9000, 7)]
    assert (found.guessed, found.other) == (1, 2)
