"""The report's page: that it stands alone, says what is so, and holds whatever servers send."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import msgspec
import pytest

from inferry.bench.capacity import Found, Goal
from inferry.bench.plan import Closed, Price, Slo, Target
from inferry.bench.plot_svg import HEIGHT, WIDTH
from inferry.bench.records import RequestRecord, RunRecord, Verdict
from inferry.bench.report import Capacity, Report, ReportedRun
from inferry.bench.report_html import page
from inferry.bench.report_load_plots import at_loads
from inferry.bench.resilience import Resilience
from inferry.bench.summary import summarise
from inferry.bench.validity import Validity, judge

from .made_up_runs import NASTY, made_up_plan, made_up_run

EVERY_FAILURE = [verdict for verdict in Verdict if verdict is not Verdict.OK]
VOID = {"meta", "br"}


def report(*runs: ReportedRun, found: Found | None = None) -> Report:
    capacity = None if found is None else Capacity(goal=Goal(share=0.99), found=found)
    return Report(runs=runs, capacity=capacity)


def of_requests(*requests: RequestRecord, **plan: object) -> ReportedRun:
    asked = msgspec.structs.replace(made_up_plan(), warmup_s=0.0, **plan)
    record = RunRecord(api="chat", started_wall_s=0, duration_s=1, requests=requests)
    summary = summarise(asked, record)
    return ReportedRun(plan=asked, record=record, summary=summary, validity=judge(asked, record, summary))


@cache
def a_sweep() -> tuple[ReportedRun, ...]:
    """The made-up queue carries about 23 requests/s: 32 slots, and 1.4 s for an answer."""
    return tuple(made_up_run(rate, 8, seed=5) for rate in (4.0, 16.0, 40.0))


FOUND = Found(rate=20.0, low=16.0, high=25.0, sure=True, why="it holds below, and does not above")


class Reader(HTMLParser):
    """Complains about tags that don't match, and collects what a browser would fetch and what a person reads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.said.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.said))


def drawings(text: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(found) for found in re.findall(r'<svg class="plot".*?</svg>', text, re.S)]


@pytest.fixture(scope="module")
def failing() -> ReportedRun:
    return made_up_run(duration_s=15, failures=EVERY_FAILURE)


def test_the_page_stands_alone(failing: ReportedRun) -> None:
    """A browser would fetch nothing: no script, style, font or picture is from elsewhere, and the HTML is whole."""
    text = page(report(failing))
    reader = Reader(text)
    assert reader.fetched == []
    assert not {"link", "img", "iframe", "object"} & set(reader.tags)
    assert reader.tags.count("script") == 1
    assert not re.search(r"@import|url\(|@font-face|XMLHttpRequest|fetch\(", text)


def test_cost_has_a_table_where_a_price_is_known(failing: ReportedRun) -> None:
    """With what was given as its currency as text; without a price, the page has no word of cost."""
    plan = msgspec.structs.replace(failing.plan, price=Price(per_hour=2.5, currency="<b>"))
    priced = msgspec.structs.replace(failing, plan=plan, summary=summarise(plan, failing.record))
    said = Reader(page(report(priced))).text
    assert "costs 2.5 <b> an hour" in said
    assert "A million output tokens of good answers" in said
    assert not {"Cost and energy", "A million"} & set(Reader(page(report(failing))).said)
    assert "Cost and energy" in Reader(page(report(priced))).said


def test_what_servers_say_stays_text(failing: ReportedRun) -> None:
    """A script in an error message is shown and never run, in tables, in plots and in notes."""
    text = page(report(failing))
    assert NASTY not in text
    assert text.count("<script") == 1
    assert f"503 {NASTY}" in Reader(text).text
    model = msgspec.structs.replace(failing.plan, target=Target(base_url="http://h/v1", model=NASTY))
    assert NASTY not in page(report(msgspec.structs.replace(failing, plan=model)))


def test_secrets_of_an_address_are_left_out(failing: ReportedRun) -> None:
    """A password in the URL is on no page."""
    target = Target(base_url="http://user:hunter2@h/v1?key=swordfish", model="m")
    text = page(
        report(msgspec.structs.replace(failing, plan=msgspec.structs.replace(failing.plan, target=target)))
    )
    assert "hunter2" not in text
    assert "swordfish" not in text


def test_the_same_report_has_the_same_bytes(failing: ReportedRun) -> None:
    """Nothing of the hour, the machine or chance is in it."""
    assert page(report(failing)) == page(report(made_up_run(duration_s=15, failures=EVERY_FAILURE)))


@pytest.mark.parametrize("kind", ["run", "sweep", "capacity", "side by side"])
def test_drawings_are_whole_and_inside_their_frame(kind: str, failing: ReportedRun) -> None:
    """Each SVG is well-formed, says in words what it shows, and draws nothing beyond its edges."""
    runs = {
        "run": report(failing),
        "sweep": report(*a_sweep()),
        "capacity": report(*a_sweep(), found=FOUND),
        "side by side": report(made_up_run(5, 8, name="gateway"), made_up_run(5, 8, name="direct")),
    }[kind]
    found = drawings(page(runs))
    assert len(found) >= 10
    for svg in found:
        assert svg.get("role") == "img"
        assert len(svg.get("aria-label") or "") > 20
        for path in svg.iter("path"):
            for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.get("d") or ""):
                assert 0 <= float(x) <= WIDTH
                assert 0 <= float(y) <= HEIGHT
        places = [
            float(each.get("x") or 0) for each in svg.iter("text") if each.get("class") == "tick middle"
        ]
        assert all(right - left > 25 for left, right in pairwise(places))


@pytest.mark.parametrize("verdict", ["valid", "suspect", "invalid"])
def test_whether_it_can_be_trusted_comes_first(verdict: str, failing: ReportedRun) -> None:
    """The verdict and its reasons stand before any figure, in words and with a sign, not by colour alone."""
    judged = Validity(verdict=verdict, reasons=("the client ran out of CPU",) * (verdict != "valid"))  # type: ignore[arg-type]
    said = Reader(page(report(msgspec.structs.replace(failing, validity=judged)))).text
    assert verdict.upper() in said[: said.index("requests answered whole")]
    assert ("the client ran out of CPU" in said) == (verdict != "valid")
    assert {"valid": "✓ ", "suspect": "? ", "invalid": "✗ "}[verdict] + verdict.upper() in said


def test_a_client_that_was_the_limit_elsewhere_is_named() -> None:
    """In a sweep, the run at the answer may be right while a heavier one was spoilt: the page says which, and why."""
    *lighter, last = a_sweep()
    spoilt = msgspec.structs.replace(last, validity=Validity(verdict="invalid", reasons=("no CPU left",)))
    said = Reader(page(report(*lighter, spoilt))).text
    assert "the client was the limit in 1 of 3 runs: 40 requests/s" in said[: said.index("How much")]
    assert "no CPU left" in said


def test_every_failure_is_in_the_table(failing: ReportedRun) -> None:
    """Each verdict that occurred has a line with its count, its meaning and an example of what was said."""
    text = page(report(failing))
    counts = failing.summary.requests.by_verdict
    assert set(counts) == {verdict.value for verdict in Verdict}
    for verdict, count in counts.items():
        assert f'<th scope="row">{verdict}</th><td>{count:,}</td>' in text
    assert "made up: truncated (" in text
    assert "∞" in Reader(text).text


def test_the_answer_of_a_search_is_a_sentence() -> None:
    """How much it carries, between what, under which limits; and at the run below, the latency and who waits."""
    said = Reader(page(report(*a_sweep(), found=FOUND))).text
    assert (
        "Carries 20 requests/s (between 16 and 25) with 99 % of requests answered whole, first token within 300 ms,"
        " tokens on average within 50 ms, end within 10 s." in said
    )
    assert re.search(
        r"At 16 requests/s \([\d.]+/s sent\): 100 % of \d+ requests are good, the first token", said
    )
    assert "requests are under way at once" in said


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            Found(rate=20, low=16, high=25, sure=False, why="too few trials"),
            "Carries about 20 requests/s (between 16 and 25)",
        ),
        (Found(rate=20, low=16, high=25, sure=False, why="too few trials"), "This is not sure: too few trials."),
        (Found(rate=40, low=40, high=None, sure=False, why="all held"), "Carries at least 40 requests/s with"),
        (Found(rate=0, low=0, high=4, sure=True, why="not even 4 holds"), "No load was found at which 99 %"),
    ],
)  # fmt: skip
def test_doubt_is_said(found: Found, words: str) -> None:
    """An answer that is not sure, is only a bound, or is none, reads like that."""
    assert words in Reader(page(report(*a_sweep(), found=found))).text


def test_a_sweep_is_about_the_highest_load_that_held() -> None:
    """The figures on top are not those of the overload at its end."""
    runs = report(*a_sweep())
    assert runs.main.load == 16
    said = Reader(page(runs)).text
    assert "Of the loads that were tried, 16 requests/s is the highest with 99 % of requests" in said
    assert all(f"{load} requests/s" in said for load in (4, 40))


def test_runs_at_one_load_are_taken_together() -> None:
    """Two runs at 4 requests/s are one line of the table, with the requests of both."""
    twice = [made_up_run(4.0, 8, seed=seed) for seed in (1, 2)]
    text = page(report(*twice, *a_sweep()[1:]))
    of = sum(run.summary.goodput.of for run in twice)
    assert f'<th scope="row">4 requests/s</th><td>VALID</td><td>2</td><td>{of}</td>' in text


def test_few_requests_have_a_slowest_and_no_99th_percentile() -> None:
    """Fourteen requests do not tell a 99th percentile: the answer, the figures on top and the loads don't claim one."""
    text = page(report(made_up_run(2, 8), made_up_run(4, 8)))
    said = Reader(text).text
    top = said[: said.index("Latencies")]
    assert "(slowest " in top
    assert "99th percentile" not in top.replace("99th percentile, or slowest", "")
    assert "† so few values" in top


def test_two_places_are_held_against_each_other() -> None:
    """Runs in turns at a gateway and at its engine: one line per place, and how sure their difference is."""
    turns = [("gateway", 0.02), ("direct", 0.01), ("direct", 0.01), ("gateway", 0.02)]
    runs = [made_up_run(8, 8, seed=n, name=name, gap_s=gap) for n, (name, gap) in enumerate(turns)]
    text = page(report(*runs))
    said = Reader(text).text
    assert re.search(
        r"gateway: the first token comes after \S+ ms .* direct: the first token comes after", said
    )
    assert "4 runs in turns" in said
    assert "gateway is WORSE than direct by" in said


def test_a_replica_lost_on_purpose_is_marked_where_it_was_lost(failing: ReportedRun) -> None:
    """What came of it is a table, and each plot over time has a line where it happened and where all was well again."""
    hit = Resilience(
        kind="kill", replica="m-1", at_s=6.0, under_way=9, under_way_failed=2, after=150, after_failed=4,
        error_share=6 / 159, resume_gap_s=0.8, recovery_s=3.5, replica_back_s=None,
    )  # fmt: skip
    text = page(report(msgspec.structs.replace(failing, resilience=hit)))
    said = Reader(text).text
    assert "m-1, killed at 6 s" in said
    assert "9, of which 2 failed" in said
    assert "3.77 %" in said
    assert "not within the run, or nobody can say" in said
    assert text.count("m-1 killed</li>") == text.count("as before, 3.5 s later</li>") >= 6


def test_loads_that_hardly_differ_are_one_point() -> None:
    """A search tries many rates beside its answer: together they are a point of the line, not a zigzag."""
    near = [made_up_run(rate, 4, seed=int(100 * rate)) for rate in (4.0, 7.9, 8.0, 8.1, 8.4)]
    assert [(each.least, each.most, each.runs) for each in at_loads(report(*near))] == [
        (4.0, 4.0, 1),
        (7.9, 8.1, 3),
        (8.4, 8.4, 1),
    ]
    assert "7.9 to 8.1 requests/s" in page(report(*near))


@pytest.mark.parametrize(
    "run",
    [
        of_requests(),
        of_requests(RequestRecord(number=0, verdict=Verdict.UNSENT, due_s=0.0, reason="no time")),
        of_requests(
            *(
                RequestRecord(number=n, verdict=Verdict.CONNECT, due_s=n / 10, sent_s=n / 10, ended_s=n / 10)
                for n in range(50)
            )
        ),
        of_requests(
            *(
                RequestRecord(
                    number=n, verdict=Verdict.OK, due_s=n / 10, sent_s=n / 10, ended_s=n / 10 + 0.02
                )
                for n in range(50)
            ),
            slo=Slo(),
            arrivals=Closed(1),
        ),
    ],
    ids=["nothing due", "nothing sent", "nothing answered", "answers without tokens"],
)
def test_runs_with_little_in_them_have_a_page(run: ReportedRun) -> None:
    """No request, none that was sent, only failures, and embeddings: a page that says so, and no empty plot."""
    text = page(report(run))
    Reader(text)
    for svg in drawings(text):
        assert [path for path in svg.iter("path") if "line" in (path.get("class") or "")] or [
            path for path in svg.iter("path") if "mark" in (path.get("class") or "")
        ]


def test_a_limit_far_from_everything_is_said_and_not_drawn(failing: ReportedRun) -> None:
    """A limit of ten seconds would press answers of one and a half into a corner."""
    text = page(report(failing))
    assert "The limit of 10 s is far to the right of all of this." in text
    assert "limit 300 ms" in text
