"""One suite over every adapter: what the fleet, the runtime and the gateway rely on, whichever the engine."""

from __future__ import annotations

import json
import os
import signal

import pytest

from inferry.core.launch import LaunchSpec
from inferry.core.request import CHAT, ROUTES
from inferry.engines.adapter import EngineMetrics, LaunchableAdapter, RemoteAdapter, Verdict
from inferry.engines.continuation import continuation_of

from .engine_cases import CASES, NAME, SECRET, Case, context

LAUNCHABLE = [case for case in CASES if case.engine != "openai"]
over_all = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
over_launchable = pytest.mark.parametrize("case", LAUNCHABLE, ids=lambda case: case.id)

GARBAGE_PAGES = (
    "",
    "<html>502 Bad Gateway</html>",
    "\x00\xff\ufffd{}{}{",
    "vllm:num_requests_running{ 3\nllamacpp:requests_processing\n",
    "vllm:num_requests_running NaN\nllamacpp:requests_processing +Inf\n",
    "vllm:generation_tokens_total many\nllamacpp:tokens_predicted_total {} {}\n",
)


def launched(case: Case, port: int = 8123, host: str = "127.0.0.1") -> LaunchSpec:
    adapter = case.adapter()
    assert isinstance(adapter, LaunchableAdapter)
    return adapter.launch(context(port, host), {"PATH": os.environ.get("PATH", "")})


@over_all
def test_it_says_what_it_is(case: Case) -> None:
    """Its name is the file's, only the simulated engine is simulated, and it is launched or remote, not both."""
    adapter = case.adapter()
    assert adapter.engine == case.engine
    assert adapter.simulated == (case.engine == "simulated")
    assert isinstance(adapter, LaunchableAdapter) != isinstance(adapter, RemoteAdapter)


@over_all
def test_routes_and_pages_are_known(case: Case) -> None:
    """It serves chat, and nothing that the gateway doesn't know; probe and metrics are absolute paths."""
    adapter = case.adapter()
    assert CHAT.path in adapter.routes
    assert adapter.routes <= set(ROUTES)
    assert adapter.probe_path.startswith("/")
    assert adapter.metrics_path is None or adapter.metrics_path.startswith("/")


@over_all
def test_the_warm_up_is_small_and_its_own(case: Case) -> None:
    """It asks a route that the engine has, by the engine's name for the model, for a token at most."""
    adapter = case.adapter()
    if isinstance(adapter, RemoteAdapter):
        assert not adapter.warmups  # what others run is not ours to load
        return
    warmup = adapter.warmups[-1]
    body = json.loads(warmup.body)
    assert warmup.path in adapter.routes
    assert body["model"] == adapter.served_name
    assert body["max_tokens"] == 1


@over_launchable
def test_no_secret_can_be_seen(case: Case) -> None:
    """The key is in the child's environment or files, never in argv, a repr or the URL."""
    spec = launched(case)
    assert SECRET not in " ".join(spec.argv)
    assert (SECRET in " ".join([*spec.env.values(), *spec.files.values()])) != case.keyless
    for shown in (repr(spec), repr(spec.endpoint), spec.endpoint.url, repr(context())):
        assert SECRET not in shown


@over_launchable
@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 8123), ("::1", 65535)])
def test_host_and_port_are_passed_and_known(case: Case, host: str, port: int) -> None:
    """The engine is told where to listen, and the endpoint is that place, with the key to get in."""
    spec = launched(case, port, host)
    if case.by_environment:
        assert (f"[{host}]:{port}" if ":" in host else f"{host}:{port}") in spec.env.values()
    else:
        assert spec.argv[spec.argv.index(case.host_flag) + 1] == host
        assert spec.argv[spec.argv.index("--port") + 1] == str(port)
        assert case.unnamed or case.adapter().served_name in spec.argv
    assert (spec.endpoint.host, spec.endpoint.port, spec.endpoint.tls) == (host, port, False)
    if not case.keyless:
        assert ("authorization", f"Bearer {SECRET}") in [(k.lower(), v) for k, v in spec.endpoint.headers]
    assert spec.replica_id == f"{NAME}-0"


@over_launchable
def test_argv_is_plain_words(case: Case) -> None:
    """A program that exists, and words without line ends: it can be run and shown as it is."""
    spec = launched(case)
    assert os.access(spec.argv[0], os.X_OK)
    assert all(isinstance(word, str) and word and "\n" not in word for word in spec.argv)


@over_all
def test_same_inputs_same_answer(case: Case) -> None:
    """Adapters are pure: two of the same deployment describe the same thing, twice."""
    one, other = case.adapter(), case.adapter()
    if isinstance(one, LaunchableAdapter) and isinstance(other, LaunchableAdapter):
        assert launched(case) == launched(case)
        assert one.read_exit(1, ["x"]) == other.read_exit(1, ["x"])
    if isinstance(one, RemoteAdapter) and isinstance(other, RemoteAdapter):
        assert list(one.endpoints()) == list(one.endpoints()) == list(other.endpoints())
    assert one.warmups == other.warmups
    assert one.read_probe(200, b"") == other.read_probe(200, b"")
    assert one.read_metrics(case.busy_page or "") == other.read_metrics(case.busy_page or "")


@over_all
@pytest.mark.parametrize(
    "body", [b"", b'{"status":"ok"}', b"garbage \xff\x00", b'{"object":"list","data":[]}']
)
def test_a_200_is_ready_whatever_its_body(case: Case, body: bytes) -> None:
    """A replica that answers its probe serves."""
    assert case.adapter().read_probe(200, body).verdict is Verdict.READY


@over_all
@pytest.mark.parametrize("status", [200, 401, 404, 429, 500, 502, 503, 504, 599])
@pytest.mark.parametrize("body", [b"", b'{"error":{"code":503,"message":"Loading model"}}', b"\xff{"])
def test_every_reading_has_a_reason(case: Case, status: int, body: bytes) -> None:
    """Whatever comes back, there is a verdict, and words of one line for it."""
    reading = case.adapter().read_probe(status, body)
    assert reading.verdict in Verdict
    assert reading.reason
    assert "\n" not in reading.reason


@over_all
@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_error_is_never_ready(case: Case, status: int) -> None:
    """While loading or behind a dead proxy, nothing is sent there."""
    body = b'{"error":{"code":503,"message":"Loading model"}}'
    assert case.adapter().read_probe(status, body).verdict is not Verdict.READY


@over_launchable
@pytest.mark.parametrize("status", [401, 404, 500])
def test_an_engine_of_ours_that_errs_is_unwell(case: Case, status: int) -> None:
    """We know what our own engines answer; anything else is not well."""
    assert case.adapter().read_probe(status, b"").verdict is Verdict.UNWELL


@pytest.mark.parametrize("case", [case for case in CASES if case.busy_page], ids=lambda case: case.id)
def test_a_real_page_is_read(case: Case) -> None:
    """Running, waiting and tokens come out under our names, whatever else stands on the page."""
    assert case.busy_page is not None
    metrics = case.adapter().read_metrics(case.busy_page)
    assert (metrics.running, metrics.waiting, metrics.tokens_generated) == (3, 2, 1234)
    assert metrics.kv_cache_use is None or 0 <= metrics.kv_cache_use <= 1


@over_all
@pytest.mark.parametrize("page", GARBAGE_PAGES)
def test_garbage_is_no_figure(case: Case, page: str) -> None:
    """What can't be read is None, never a zero that somebody might believe, and never an error."""
    assert case.adapter().read_metrics(page) == EngineMetrics()


@over_launchable
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT])
def test_a_signal_is_named_and_worth_a_retry(case: Case, number: signal.Signals) -> None:
    """An engine that was killed or crashed is started again, and the operator reads by what."""
    reading = case.adapter().read_exit(-number, ["last words", "more"])
    assert reading.retryable
    assert number.name in reading.message


@over_launchable
@pytest.mark.parametrize("code", [0, 1, 3, 75, 255, -64])
def test_other_exits_are_worth_a_retry_and_explained(case: Case, code: int) -> None:
    """Any code and any log, also none: one line that says what happened."""
    for tail in ([], ["one line"], ["\x00\ufffd", ""]):
        reading = case.adapter().read_exit(code, tail)
        assert reading.retryable
        assert reading.message
        assert "\n" not in reading.message


@over_all
def test_remote_endpoints_keep_their_key_to_themselves(case: Case) -> None:
    """Each URL of the file is one endpoint, sent the key, shown without it."""
    adapter = case.adapter()
    if not isinstance(adapter, RemoteAdapter):
        assert isinstance(adapter, LaunchableAdapter)
        return
    first, second = adapter.endpoints()
    assert (first.port, first.base_path, second.tls, second.base_path) == (9001, "", True, "/p")
    for endpoint in (first, second):
        assert ("Authorization", f"Bearer {SECRET}") in endpoint.headers
        assert SECRET not in repr(endpoint) + endpoint.url


@over_all
def test_it_says_how_it_goes_on_with_an_answer(case: Case) -> None:
    """Chats and completions, or a reason why not; nobody continues what runs elsewhere."""
    continuation = case.adapter().continuation
    assert continuation == continuation_of(case.engine)
    assert bool(continuation.why_not) == (continuation.level != "text")
    if case.engine == "openai":
        assert continuation.level == "none"
