"""`inferry batch` against a stand-in service: a small loopback server with prepared answers."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inferry.batch.journal import Header, Journal, journal_path
from inferry.batch.record import Record, Tally
from inferry.cli.batch_lifeline import LIFELINE, run_sending_process
from inferry.cli.batch_prices import prices_of
from inferry.cli.batch_report import BatchProgress
from inferry.gateway.usage import Usage
from inferry.testing.manual_clock import ManualClock

from .conftest import Run

Reply = tuple[int, dict[str, str], Any]


@dataclass
class Service:
    """Answers with the request's text in capitals, unless `replies` has something else for it."""

    url: str
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    """By text; taken one by one, then it is answered well."""
    models: Reply = (200, {}, {"data": [{"id": "chat"}]})
    on_text: dict[str, Callable[[], None]] = field(default_factory=dict)
    """By text; called before it is answered."""
    seen: list[str] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)


@pytest.fixture
def service() -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(*state.models)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            text = body["prompt"]
            state.seen.append(text)
            state.keys.add(self.headers["authorization"])
            state.on_text.get(text, lambda: None)()
            good = {
                "choices": [{"text": text.upper()}],
                "usage": {"prompt_tokens": 4, "completion_tokens": 2},
            }
            replies = state.replies.get(text)
            self.reply(*(replies.pop(0) if replies else (200, {}, good)))

        def reply(self, status: int, headers: dict[str, str], body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state = Service(f"http://127.0.0.1:{running.server_address[1]}/v1")
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield state
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def lifeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is the one that sends, and the command lives."""
    theirs, ours = os.pipe()
    monkeypatch.setenv(LIFELINE, str(theirs))
    yield
    os.close(ours)
    os.close(theirs)


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    """`in.jsonl` asks for these."""
    texts = ["one", "two", "three", "four"]
    write_input(tmp_path, texts)
    return texts


def write_input(folder: Path, texts: list[str]) -> None:
    (folder / "in.jsonl").write_text("")
    for text in texts:
        append(folder, text)


def append(folder: Path, text: str) -> None:
    body = {"model": "chat", "prompt": text}
    line = {"custom_id": f"id-{text}", "method": "POST", "url": "/v1/completions", "body": body}
    with (folder / "in.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def answers(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def refusal(status: int, message: str, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, {"error": {"message": message}}


def test_a_file_of_requests(run: Run, service: Service, texts: list[str], tmp_path: Path) -> None:
    """Answers in order under their ids, a summary on stdout, how far it is on stderr, exit code 0."""
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url)
    assert shown.code == 0
    assert shown.err == "4 requests to send\n"
    told = shown.out.splitlines()
    assert told[0] == "4 requests: 4 answered, 0 failed"
    assert told[1] == "  tokens    prompt 16 (cached 0), completion 8"
    assert told[2] == "  cost      not known (name a deployment file with --prices)"
    assert told[3].startswith("  this run  4 requests in ")
    assert told[4:] == ["  output    out.jsonl"]
    got = answers(tmp_path / "out.jsonl")
    assert [each["custom_id"] for each in got] == [f"id-{text}" for text in texts]
    assert [each["response"]["body"]["choices"][0]["text"] for each in got] == [
        text.upper() for text in texts
    ]
    assert not (tmp_path / "out.jsonl.journal").exists()


def test_prices_of_a_file(run: Run, service: Service, texts: list[str], tmp_path: Path) -> None:
    """With a deployment file, the cost is in its currency; for programs as text, to the billionth."""
    (tmp_path / "inferry.yaml").write_text(
        "ledger: {currency: EUR}\ndeployments:\n  chat:\n    engine: simulated\n"
        "    price: {prompt_per_mtok: 1, completion_per_mtok: 10}\n"
    )
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url, "--prices", "inferry.yaml", "--json")
    summary = json.loads(shown.out)
    assert (summary["cost"], summary["currency"], summary["without_price"]) == ("0.000096000", "EUR", 0)
    assert (summary["completed"], summary["failures"], summary["left"]) == (4, {}, 0)
    assert summary["output"] == "out.jsonl"
    assert summary["journal"] is None


def test_failures_stand_in_their_place(run: Run, service: Service, texts: list[str], tmp_path: Path) -> None:
    """A request that fails for good has its line, the others theirs; the exit code says that some have failed."""
    service.replies["two"] = [refusal(400, "too rude")]
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url)
    assert shown.code == 3
    assert shown.out.startswith(
        "4 requests: 3 answered, 1 failed (400: 1)\n  failed    first: line 2 (id-two): 400: too rude\n"
    )
    got = answers(tmp_path / "out.jsonl")
    assert [each["response"]["status_code"] for each in got] == [200, 400, 200, 200]
    assert got[1]["response"]["body"]["error"]["message"] == "too rude"


def test_one_request(run: Run, service: Service, tmp_path: Path) -> None:
    """It is one request, wherever it is counted; programs are told what failed first, too."""
    write_input(tmp_path, ["one"])
    shown = run("batch", "in.jsonl", "--dry-run")
    assert "in.jsonl is well-formed: 1 request. Nothing was sent." in shown.out
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url)
    assert shown.err == "1 request to send\n"
    assert shown.out.startswith("1 request: 1 answered, 0 failed\n")
    assert "  this run  1 request in " in shown.out
    service.replies["one"] = [refusal(400, "too\nrude \x1b[2J")]
    shown = run("batch", "in.jsonl", "again.jsonl", "--url", service.url, "--json")
    assert (
        json.loads(shown.out)["first_failure"]
        == "line 1 (id-one): 400: too rude \N{REPLACEMENT CHARACTER}[2J"
    )


def test_failures_in_a_file_of_their_own(
    run: Run, service: Service, texts: list[str], tmp_path: Path
) -> None:
    """With --errors, OUT holds answers only."""
    service.replies["two"] = [refusal(400, "too rude")]
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url, "--errors", "bad.jsonl")
    assert shown.code == 3
    assert [each["custom_id"] for each in answers(tmp_path / "out.jsonl")] == [
        "id-one",
        "id-three",
        "id-four",
    ]
    assert [each["custom_id"] for each in answers(tmp_path / "bad.jsonl")] == ["id-two"]


def test_what_passes_is_tried_again(run: Run, service: Service, texts: list[str]) -> None:
    """A failure that passes shows nowhere but in the time."""
    service.replies["three"] = [refusal(502, "restarting")]
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url)
    assert shown.code == 0
    assert service.seen.count("three") == 2


def test_a_service_that_stops_taking_requests(
    run: Run, service: Service, texts: list[str], tmp_path: Path
) -> None:
    """The run ends with the service's words and keeps what it has; the same command goes on, and sends only the rest."""
    service.replies["three"] = [refusal(429, "the budget is spent", retry_after="9000")]
    call = ("batch", "in.jsonl", "out.jsonl", "--url", service.url, "-c", "1")
    shown = run(*call)
    assert shown.code == 1
    assert shown.out.startswith("4 requests: 2 answered, 0 failed, 2 left\n")
    assert "kept in   out.jsonl.journal: the same command goes on" in shown.out
    assert "error: The service takes no requests now. 429: the budget is spent" in shown.err
    assert not (tmp_path / "out.jsonl").exists()
    shown = run(*call)
    assert shown.code == 0
    assert "Going on: 2 of 4 requests are over already." in shown.err
    assert service.seen == ["one", "two", "three", "three", "four"]
    assert len(answers(tmp_path / "out.jsonl")) == 4


def test_an_input_that_grows_during_a_run(
    run: Run, service: Service, texts: list[str], tmp_path: Path
) -> None:
    """What was there when it began is answered and written; what was appended is another batch's."""
    service.on_text["two"] = lambda: append(tmp_path, "five")
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url, "-c", "1")
    assert shown.code == 0
    assert service.seen == texts
    assert len(answers(tmp_path / "out.jsonl")) == 4


def test_an_input_that_has_grown_since(run: Run, service: Service, texts: list[str], tmp_path: Path) -> None:
    """The run goes on with what it began with, says what it leaves out, and refuses any other change."""
    service.replies["three"] = [refusal(429, "spent", retry_after="9000")]
    call = ("batch", "in.jsonl", "out.jsonl", "--url", service.url, "-c", "1")
    assert run(*call).code == 1
    before = (tmp_path / "in.jsonl").read_text()
    (tmp_path / "in.jsonl").write_text(before.replace("four", "vier"))
    assert "is of another input" in run(*call).err
    (tmp_path / "in.jsonl").write_text(before + '{"custom_id": "half a li')
    shown = run(*call)
    assert shown.code == 0
    assert (
        "note: in.jsonl has grown since this run began; what stands behind line 4 is left out." in shown.err
    )
    assert service.seen == ["one", "two", "three", "three", "four"]
    assert len(answers(tmp_path / "out.jsonl")) == 4


def test_a_damaged_journal(run: Run, service: Service, tmp_path: Path) -> None:
    """A bad line in its middle is named, and the other answers are kept: only what has none is sent."""
    texts = [f"text {number}" for number in range(31)]
    write_input(tmp_path, texts)
    service.replies[texts[-1]] = [refusal(429, "spent", retry_after="9000")]
    call = ("batch", "in.jsonl", "out.jsonl", "--url", service.url, "-c", "1")
    assert run(*call).code == 1
    journal = tmp_path / "out.jsonl.journal"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:4], "garbage", *lines[4:], ""]))
    service.seen.clear()
    shown = run(*call)
    assert shown.code == 0
    assert "warning: out.jsonl.journal: damaged in line 5. An answer that stood there is lost" in shown.err
    assert service.seen == texts[-1:]
    assert len(answers(tmp_path / "out.jsonl")) == 31


def test_finished_early(run: Run, service: Service, texts: list[str], tmp_path: Path) -> None:
    """--finish writes what there is, with an error for each request that was not answered, and sends nothing."""
    service.replies["three"] = [refusal(429, "spent", retry_after="9000")]
    run("batch", "in.jsonl", "out.jsonl", "--url", service.url, "-c", "1")
    shown = run("batch", "in.jsonl", "out.jsonl", "--finish")
    assert shown.code == 3
    assert shown.out.startswith("4 requests: 2 answered, 2 failed (batch_cancelled: 2)\n")
    assert "this run" not in shown.out
    assert service.seen == ["one", "two", "three"]
    errors = [each["error"] and each["error"]["code"] for each in answers(tmp_path / "out.jsonl")]
    assert errors == [None, None, "batch_cancelled", "batch_cancelled"]


def test_nothing_to_finish(run: Run, texts: list[str], tmp_path: Path) -> None:
    """--finish before any answer is a mistake, and leaves nothing behind."""
    shown = run("batch", "in.jsonl", "out.jsonl", "--finish")
    assert shown.code == 1
    assert "nothing was answered yet" in shown.err
    assert [each.name for each in tmp_path.glob("out*")] == []


def test_the_key_comes_from_the_environment(
    run: Run, service: Service, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """INFERRY_KEY goes along with each request."""
    monkeypatch.setenv("INFERRY_KEY", "sk-secret")
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url)
    assert service.keys == {"Bearer sk-secret"}
    assert "sk-secret" not in shown.out + shown.err


def test_a_refused_key(run: Run, service: Service, texts: list[str], tmp_path: Path) -> None:
    """It is said before anything is sent, with the way out, and no journal is left."""
    service.models = refusal(401, "Who are you?")
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url)
    assert shown.code == 1
    assert "error: Who are you? Put the key into the environment variable INFERRY_KEY." in shown.err
    assert service.seen == []
    assert [each.name for each in tmp_path.glob("out*")] == []


def test_another_model_for_all(run: Run, service: Service, texts: list[str]) -> None:
    """--model stands in for each request's own; a model that is not listed is noted, since lists may be short."""
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url, "--model", "other")
    assert shown.code == 0
    assert "note: Not among the models that are served there: other (4 requests). Served: chat." in shown.err


def test_a_dry_run(run: Run, texts: list[str], tmp_path: Path) -> None:
    """The input is checked, and nothing is sent or written."""
    shown = run("batch", "in.jsonl", "--dry-run")
    assert shown.code == 0
    assert shown.out.splitlines() == [
        "in.jsonl is well-formed: 4 requests. Nothing was sent.",
        "  url    /v1/completions  4",
        "  model  chat  4",
    ]
    told = json.loads(run("batch", "in.jsonl", "out.jsonl", "--dry-run", "--json").out)
    assert told == {
        "input": "in.jsonl",
        "requests": 4,
        "urls": {"/v1/completions": 4},
        "models": {"chat": 4},
    }
    assert [each.name for each in tmp_path.iterdir() if each.name != "home"] == ["in.jsonl"]


def test_a_wrong_input(run: Run, tmp_path: Path) -> None:
    """Line, field and way out; exit code 1, in a dry run too."""
    (tmp_path / "in.jsonl").write_text('{"custom_id": "a", "method": "GET"}\n')
    for words in (["--dry-run"], ["out.jsonl"]):
        shown = run("batch", "in.jsonl", *words)
        assert shown.code == 1
        assert "line 1: method: 'GET' can't be run; only 'POST' can" in shown.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["in.jsonl"], "OUT is missing"),
        (["in.jsonl", "in.jsonl"], "OUT and IN are the same file, in.jsonl"),
        (["in.jsonl", "out.jsonl", "--errors", "./out.jsonl"], "--errors and OUT are the same file"),
        (["in.jsonl", "no/out.jsonl"], "there is no folder no. Name a file in a folder that is there"),
        (["in.jsonl", "home"], "home is a folder"),
        (["in.jsonl", "out.jsonl"], "Nothing is running here"),
        (["in.jsonl", "out.jsonl", "--url", "host/v1"], "--url host/v1: begin it with http://"),
        (["in.jsonl", "out.jsonl", "--url", "http://127.0.0.1:1/v1"], "Nobody answers at http://127.0.0.1:1"),
        (["in.jsonl", "out.jsonl", "--url", "http://x/v1", "--port", "1"], "Say one of --url and --port"),
        (
            ["in.jsonl", "out.jsonl", "--url", "http://x/v1", "--prices", "no.yaml"],
            "--prices: no.yaml does not exist. Name the deployment file that has the prices.\n",
        ),
        (["in.jsonl", "out.jsonl", "--url", "http://x/v1", "--prices", "done.jsonl"], "--prices: "),
        (["in.jsonl", "done.jsonl"], "done.jsonl is there already, and whole."),
        (["in.jsonl", "out.jsonl", "--errors", "done.jsonl"], "done.jsonl is there already, and whole."),
    ],
)
def test_what_can_not_be_run(run: Run, texts: list[str], tmp_path: Path, words: list[str], said: str) -> None:
    """Each mistake is named with its way out, before anything is sent, and nothing is left behind."""
    (tmp_path / "home").mkdir()
    (tmp_path / "done.jsonl").write_text("{}\n")
    shown = run("batch", *words)
    assert shown.code == 1
    assert said in shown.err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["done.jsonl", "home", "in.jsonl"]
    assert (tmp_path / "done.jsonl").read_text() == "{}\n"


def test_prices_go_by_every_name(tmp_path: Path) -> None:
    """An alias costs what its deployment costs; a price that nobody has set is not known, which is not free."""
    file = tmp_path / "inferry.yaml"
    file.write_text(
        "deployments:\n  a:\n    engine: simulated\n    aliases: [gpt]\n    price: {completion_per_mtok: 2}\n"
        "  b:\n    engine: simulated\n"
    )
    prices = prices_of(file, {})
    used = Usage(10, 5)
    assert [prices.cost_nano(name, used) for name in ("a", "gpt", "b")] == [10_000, 10_000, None]
    assert prices.cost_nano("a", Usage()) is None


def test_prices_that_can_not_be_read(tmp_path: Path) -> None:
    """A file that is wrong here (a variable that is not set) costs the batch nothing but the prices."""
    file = tmp_path / "inferry.yaml"
    file.write_text("deployments:\n  a:\n    engine: simulated\n    model: ${NOT_SET}\n")
    prices = prices_of(file, {})
    assert prices.cost_nano("a", Usage(1, 1)) is None
    assert f"{file} can't be read here" in prices.source


def test_a_bar_on_a_terminal(
    run: Run, service: Service, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where stderr is a terminal there is a bar with how many are over and have failed, and no plain lines."""
    service.replies["two"] = [refusal(400, "too rude")]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url)
    assert shown.code == 3
    assert "4/4" in shown.err
    assert "1 failed" in shown.err
    assert "requests to send" not in shown.err


def test_plain_lines_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Elsewhere a line at most every ten seconds says how far it is and how fast it went."""
    clock, tally = ManualClock(), Tally()
    with BatchProgress(200, tally, clock) as progress:
        for number in range(1, 101):
            record = Record(number, msgspec.Raw(b"{}"), "400" if number == 5 else None)
            tally.add(record)
            clock.advance(0.25)
            progress.advance(record)
    assert capsys.readouterr().err.splitlines() == [
        "200 requests to send",
        "40 of 200 (20 %), 1 failed, 4.0/s",
        "80 of 200 (40 %), 1 failed, 4.0/s",
    ]


def held_journal(folder: Path) -> Journal:
    """The journal of a run that was killed, still open in the process that finishes what is under way."""
    sha256 = hashlib.sha256((folder / "in.jsonl").read_bytes()).hexdigest()
    return Journal(journal_path(folder / "out.jsonl"), Header("run1", sha256, None, None), 4)


def test_a_killed_runs_last_answers_are_waited_for(
    run: Run, service: Service, texts: list[str], tmp_path: Path
) -> None:
    """The next run begins when they are in the journal, and does not send those requests."""
    held = held_journal(tmp_path)

    def finish() -> None:
        held.append(Record(1, msgspec.Raw(b'{"custom_id":"id-one"}')))
        held.close()

    timer = threading.Timer(0.3, finish)
    timer.start()
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url)
    timer.join()
    assert shown.code == 0
    assert "Waiting for another run into out.jsonl, which has requests under way." in shown.err
    assert sorted(service.seen) == ["four", "three", "two"]


def test_a_run_that_came_to_its_end_meanwhile(
    run: Run, service: Service, texts: list[str], tmp_path: Path
) -> None:
    """What another run has written while this one waited is not sent again."""
    held = held_journal(tmp_path)

    def finish() -> None:
        (tmp_path / "out.jsonl").write_text("{}\n")
        held.discard()

    timer = threading.Timer(0.3, finish)
    timer.start()
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url)
    timer.join()
    assert shown.code == 1
    assert "out.jsonl is there already, and whole: another run has just written it." in shown.err
    assert service.seen == []
    assert not (tmp_path / "out.jsonl.journal").exists()


def test_a_run_that_does_not_end(
    run: Run, service: Service, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits longer than a killed run may take: then the command says who is in the way."""
    monkeypatch.setattr("inferry.cli.batch.SPARE_S", 0.0)
    held = held_journal(tmp_path)
    shown = run("batch", "in.jsonl", "out.jsonl", "--url", service.url, "--deadline", "0.1")
    held.close()
    assert shown.code == 1
    assert "out.jsonl.journal is in use: another 'inferry batch' writes the same output" in shown.err


def test_the_sending_process_says_how_it_ended(capfd: pytest.CaptureFixture[str]) -> None:
    """Its exit code is the command's, and so is what it prints."""
    assert run_sending_process(["--version"]) == 0
    assert capfd.readouterr().out.startswith("inferry ")
    assert run_sending_process(["no-such-verb"]) == 2


def test_the_sending_process_takes_no_modules_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A random.py where the command is typed is not run."""
    (tmp_path / "random.py").write_text("print('not ours')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    assert run_sending_process(["batch", "--help"]) == 0
    assert "not ours" not in capfd.readouterr().out
