"""The simulated engine's routes: vLLM's, and `/simulate/fault` to break things on command."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inferry.core.clock import Clock
from inferry.simulate.timing import EngineTiming
from inferry.simulate.timing_of_simulated import timing_of_simulated
from inferry.testing.simulated_dialects import MessagesFormat, ResponsesFormat, error_body
from inferry.testing.simulated_faults import (
    Fault,
    FaultBoard,
    FaultError,
    FaultKind,
    read_fault_header,
)
from inferry.testing.simulated_formats import AnswerFormat, ChatFormat, CompletionFormat, Tally, to_json
from inferry.testing.simulated_generation import Generation, Generator, Powers
from inferry.testing.simulated_http import Exchange
from inferry.testing.simulated_metrics import metrics_page
from inferry.testing.simulated_plain import PlainAnswers
from inferry.testing.simulated_record import RequestRecord
from inferry.testing.simulated_requests import Ask, BadRequest, RequestReader, read_object
from inferry.testing.simulated_words import TokenTable

VERSION = "0.0.0+inferry.simulated"
# Faults are commanded by a person, who can't know the key that Inferry made up for this process; and they are
# off unless that person asked for them.
_OPEN_PATHS = frozenset({"/health", "/simulate/fault"})


@dataclass(frozen=True, slots=True)
class Options:
    """How the simulated engine shall behave. Defaults as in the deployment file."""

    served_name: str = "simulated"
    context_tokens: int = 8192
    parallel: int = 64
    ttft_s: float = 0.05
    itl_s: float = 0.005
    step_s_per_sequence: float = 0.0
    """For these and the next, see simulate/timing_of_simulated.py."""
    prefill_tokens_per_s: float | None = None
    step_tokens_max: int | None = None
    kv_tokens: int | None = None
    start_s: float = 0.0
    faults: bool = False
    seed: int = 0
    record_folder: Path | None = None
    """Where each request is recorded, for tests of what others count; see simulated_record.py."""
    key: str | None = None
    """Asked for as `Authorization: Bearer KEY` on every route but /health and /simulate/fault."""

    @property
    def timing(self) -> EngineTiming:
        """The same as a simulation's."""
        return timing_of_simulated(
            context_tokens=self.context_tokens,
            parallel=self.parallel,
            ttft_s=self.ttft_s,
            itl_s=self.itl_s,
            step_s_per_sequence=self.step_s_per_sequence,
            prefill_tokens_per_s=self.prefill_tokens_per_s,
            step_tokens_max=self.step_tokens_max,
            kv_tokens=self.kv_tokens,
            start_s=self.start_s,
        )


class SimulatedApp:
    """Answers exchanges. Lives in one event loop; nothing here blocks."""

    def __init__(self, options: Options, clock: Clock, powers: Powers) -> None:
        self._options = options
        self._clock = clock
        self._powers = powers
        self._table = TokenTable()
        self._reader = RequestReader(options.served_name, options.context_tokens, self._table)
        self._board = FaultBoard()
        self._loop = asyncio.get_running_loop()
        self._started_s = int(clock.wall_s())
        self._loading_until_s = 0.0
        self._authorization = None if options.key is None else f"Bearer {options.key}"
        self._record = None if options.record_folder is None else RequestRecord(options.record_folder, clock)
        self.generator = Generator(
            options.timing, table=self._table, seed=options.seed, powers=powers, record=self._record
        )
        plain = PlainAnswers(self._reader, self._table, options.served_name, options.context_tokens, clock)
        self._routes: dict[str, dict[str, Callable[[Exchange], None]]] = {
            "/health": {"GET": self._health},
            "/ping": {"GET": self._health, "POST": self._health},
            "/version": {"GET": self._version},
            "/metrics": {"GET": self._metrics},
            "/v1/models": {"GET": self._models},
            "/v1/chat/completions": {"POST": self._chat},
            "/v1/completions": {"POST": self._completions},
            "/v1/responses": {"POST": self._responses},
            "/v1/messages": {"POST": self._messages},
            "/v1/messages/count_tokens": {"POST": self._plain(plain.count_tokens)},
            "/v1/embeddings": {"POST": self._plain(plain.embeddings)},
            "/v1/rerank": {"POST": self._plain(plain.rerank)},
            "/rerank": {"POST": self._plain(plain.rerank)},
            "/tokenize": {"POST": self._plain(plain.tokenize)},
            "/detokenize": {"POST": self._plain(plain.detokenize)},
            "/simulate/fault": {
                "GET": self._show_faults,
                "POST": self._command_fault,
                "DELETE": self._clear_faults,
            },
        }

    def answer(self, exchange: Exchange) -> None:
        """Answer now, or begin to. Raises nothing."""
        methods = self._routes.get(exchange.path)
        authorization = self._authorization
        try:
            if (
                authorization is not None
                and exchange.path not in _OPEN_PATHS
                and exchange.headers.get("authorization") != authorization
            ):
                exchange.reply(401, b'{"error":"Unauthorized"}')
            elif methods is None:
                raise BadRequest("Not Found", status=404, kind="NotFoundError")
            elif exchange.method not in methods:
                raise BadRequest("Method Not Allowed", status=405, kind="MethodNotAllowedError")
            elif self._loop.time() < self._loading_until_s and exchange.path != "/simulate/fault":
                raise BadRequest("Loading model (simulated)", status=503, kind="ServiceUnavailableError")
            else:
                methods[exchange.method](exchange)
        except BadRequest as error:
            anthropic = exchange.path.startswith("/v1/messages")
            body = error_body(anthropic, error.message, error.status, error.kind, error.param)
            exchange.reply(error.status, body)

    def close(self) -> None:
        """After the last answer."""
        if self._record is not None:
            self._record.close()

    # --- the engine's state ---------------------------------------------------------------------------

    def _health(self, exchange: Exchange) -> None:
        exchange.reply(200, b"")

    def _version(self, exchange: Exchange) -> None:
        exchange.reply(200, to_json({"version": VERSION, "simulated": True}))

    def _models(self, exchange: Exchange) -> None:
        name = self._options.served_name
        model = {
            "id": name,
            "object": "model",
            "created": self._started_s,
            "owned_by": "inferry-simulated",
            "root": name,
            "parent": None,
            "max_model_len": self._options.context_tokens,
            "permission": [],
        }
        exchange.reply(200, to_json({"object": "list", "data": [model]}))

    def _metrics(self, exchange: Exchange) -> None:
        generator = self.generator
        page = metrics_page(
            generator.figures,
            generator.batch,
            model=self._options.served_name,
            context_tokens=self._options.context_tokens,
        )
        exchange.reply(200, page, "text/plain; version=0.0.4; charset=utf-8")

    # --- routes that generate -------------------------------------------------------------------------

    def _chat(self, exchange: Exchange) -> None:
        ask = self._reader.chat(read_object(exchange.body))
        tally = _tally(ask)
        self._generate(exchange, ask, tally, ChatFormat(*self._head(exchange, "chatcmpl-"), ask, tally))

    def _completions(self, exchange: Exchange) -> None:
        ask = self._reader.completion(read_object(exchange.body))
        tally = _tally(ask)
        self._generate(exchange, ask, tally, CompletionFormat(*self._head(exchange, "cmpl-"), ask, tally))

    def _responses(self, exchange: Exchange) -> None:
        ask = self._reader.responses(read_object(exchange.body))
        tally = _tally(ask)
        self._generate(exchange, ask, tally, ResponsesFormat(*self._head(exchange, "resp_"), tally))

    def _messages(self, exchange: Exchange) -> None:
        ask = self._reader.messages(read_object(exchange.body))
        tally = _tally(ask)
        request_id, _, model = self._head(exchange, "msg_")
        self._generate(exchange, ask, tally, MessagesFormat(request_id, model, tally))

    def _head(self, exchange: Exchange, prefix: str) -> tuple[str, int, str]:
        request_id = exchange.headers.get("x-request-id") or uuid.uuid4().hex
        return prefix + request_id, int(self._clock.wall_s()), self._options.served_name

    def _generate(self, exchange: Exchange, ask: Ask, tally: Tally, form: AnswerFormat) -> None:
        fault = self._fault_for(exchange)
        self.generator.start(Generation(exchange, ask, form, tally, fault))

    # --- routes that compute at once ------------------------------------------------------------------

    def _plain(self, compute: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Exchange], None]:
        def handle(exchange: Exchange) -> None:
            answer = compute(read_object(exchange.body))
            self._count_plain(exchange, answer)
            body = to_json(answer)
            fault = self._fault_for(exchange)
            if fault is None:
                exchange.reply(200, body)
            elif fault.kind in (FaultKind.STALL, FaultKind.SLOW):
                # The answer to a client that has gone meanwhile goes nowhere.
                self._loop.call_later(fault.seconds, exchange.reply, 200, body)
            else:
                self.generator.break_plain(exchange, fault)

        return handle

    def _count_plain(self, exchange: Exchange, answer: dict[str, Any]) -> None:
        if "usage" in answer:
            tokens = answer["usage"]["prompt_tokens"]
            self.generator.figures.prompt_tokens += tokens
            if self._record is not None:
                for event in ("begun", "finished"):
                    self._record.write(exchange.headers.get("x-request-id"), event, tokens)

    # --- faults ---------------------------------------------------------------------------------------

    def _fault_for(self, exchange: Exchange) -> Fault | None:
        if not self._options.faults:
            return None
        header = exchange.headers.get("x-simulate-fault")
        if header is None:
            return self._board.take()
        try:
            return read_fault_header(header)
        except FaultError as error:
            raise BadRequest(f"x-simulate-fault: {error}", param="x-simulate-fault") from None

    def _allow_faults(self) -> None:
        if not self._options.faults:
            raise BadRequest(
                "Faults are off: start the simulated engine with --faults (in the deployment file: faults: true).",
                status=403,
                kind="ForbiddenError",
            )

    def _show_faults(self, exchange: Exchange) -> None:
        self._allow_faults()
        loading_s = max(self._loading_until_s - self._loop.time(), 0.0)
        exchange.reply(200, to_json({"armed": self._board.listing(), "loading_s": round(loading_s, 3)}))

    def _command_fault(self, exchange: Exchange) -> None:
        self._allow_faults()
        try:
            fault = self._board.arm(read_object(exchange.body))
        except FaultError as error:
            raise BadRequest(str(error)) from None
        exchange.reply(200, to_json({"commanded": asdict(fault)}))
        if fault.kind is FaultKind.LOADING:
            self._loading_until_s = self._loop.time() + fault.seconds
        elif fault.kind is FaultKind.REFUSE:
            self._loop.call_soon(self._powers.refuse, fault.seconds)

    def _clear_faults(self, exchange: Exchange) -> None:
        self._allow_faults()
        self._board.clear()
        self._loading_until_s = 0.0
        exchange.reply(200, to_json({"armed": []}))


def _tally(ask: Ask) -> Tally:
    return Tally(prompt_tokens=sum(map(len, ask.prompts)))
