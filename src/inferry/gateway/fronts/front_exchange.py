"""An exchange whose client speaks another server's API: its body is translated first, its answer last.

All between is the exchange's: limits, filters, routing and the ledger know the inner route only.
"""

from __future__ import annotations

from collections.abc import Iterable

from inferry.core.api_key import ApiKey
from inferry.core.errors import InferryError, InvalidRequest, NoReadyReplica, Rejected
from inferry.core.outcome import Ending
from inferry.core.request import Route
from inferry.gateway.edge import Arrival
from inferry.gateway.exchange import Exchange
from inferry.gateway.fronts.front import Front, Moments, Wakes
from inferry.gateway.fronts.translating_sink import TranslatingSink
from inferry.gateway.host import Host
from inferry.gateway.sink import ClientSink

MODEL_HEADER = b"x-inferry-model"
"""Names the deployment for APIs whose requests name none."""
_LATEST = ":latest"


def open_exchange(
    entrance: Route | Front,
    gateway: Host,
    sink: ClientSink,
    arrival: Arrival,
    headers: Iterable[tuple[bytes, bytes]],
) -> Exchange:
    """The exchange for a request whose head is here. `headers`: names in lower case."""
    if isinstance(entrance, Front):
        return FrontExchange(gateway, sink, entrance, arrival, model_header(headers))
    return Exchange(gateway, sink, entrance, arrival)


def model_header(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == MODEL_HEADER:
            return value.decode("utf-8", "replace")
    return None


class FrontExchange(Exchange):
    """One request by a front."""

    __slots__ = ("_client", "_front", "_header", "_translating", "_wakes")

    def __init__(
        self, gateway: Host, sink: ClientSink, front: Front, arrival: Arrival, header: str | None
    ) -> None:
        self._translating = TranslatingSink(sink, front.errors)
        super().__init__(gateway, self._translating, front.route, arrival)
        self._client = sink
        self._front = front
        self._header = header
        self._wakes: Wakes | None = None
        """It only wants its model to be there."""

    def begin(self, body: bytes) -> None:
        gateway, caller = self._gateway, self.caller
        assert caller is not None
        models = CallersModels(gateway, caller.key, self._header)
        try:
            asked = self._front.translate(body, models, Moments(gateway.now_s, gateway.wall_s))
        except Rejected as error:
            self.reject(error)
            return
        except RecursionError:  # what could just be read need not fit a level deeper
            self.reject(InvalidRequest("The request body is nested too deeply."))
            return
        self.route = asked.route
        if isinstance(asked, Wakes):
            self._wakes = asked
            self._stamp()
            gateway.active.add(self)
            self._say_awake(asked)
            return
        self._translating.writer = asked.writer
        super().begin(asked.body)

    def _say_awake(self, asked: Wakes) -> None:
        gateway, caller = self._gateway, self.caller
        assert caller is not None
        try:
            deployment = self.deployment = gateway.public_names.permitted(asked.model, caller.key)
            deployment.require_route(asked.route, asked.model)
            if deployment.awaits_model:
                if (full := deployment.parked.add(self, gateway.now_s())) is not None:
                    raise full
                return
            if not deployment.balancer.usable():
                raise gateway.no_replica(deployment, "none is ready")
        except InferryError as error:
            self._fail(error, Ending.REJECTED if isinstance(error, Rejected) else Ending.FAILED)
            return
        lines = b"content-type: application/json\r\n" + self.arrival.id_line
        lines += gateway.edge.answer_lines(self.arrival)
        self._end(Ending.COMPLETED, 200, None)
        self._client.start(200, lines, len(asked.answer))
        self._client.end(asked.answer)

    def on_loaded(self) -> None:
        assert self._wakes is not None
        self._say_awake(self._wakes)

    def on_not_loaded(self, error: NoReadyReplica) -> None:
        self._fail(error, Ending.FAILED)

    def _end(self, ending: Ending, status: int, error_code: str | None) -> None:
        if self._wakes is not None and self.deployment is not None:
            self.deployment.parked.leave(self)
        super()._end(ending, status, error_code)

    def on_entered(self) -> None:
        request = self.request
        assert request is not None
        request.client_wants_usage = False  # it may have entered another deployment before
        super().on_entered()
        # The gateway has asked the engine for usage, if this engine may be asked: leave it in, for the writer.
        request.client_wants_usage = True


class CallersModels:
    """The models that this caller may know of."""

    def __init__(self, gateway: Host, key: ApiKey | None, header: str | None) -> None:
        self._gateway = gateway
        self._key = key
        self._header = header

    def names(self) -> Iterable[str]:
        return self._gateway.names_for(self._key)

    def known(self, name: str) -> str:
        if name.endswith(_LATEST):
            names = list(self.names())
            stem = name.removesuffix(_LATEST)
            if name not in names and stem in names:
                return stem
        return name

    def chosen(self, route: Route) -> str:
        if self._header is not None:
            return self.known(self._header)
        public = self._gateway.public_names
        able = {public.main(name) for name in self.names() if route.path in public.routes(name)}
        if len(able) == 1:
            return able.pop()
        if len(split := able & public.splits.keys()) == 1:  # its deployments are behind it
            return split.pop()
        if not able:
            raise InvalidRequest(f"No deployment here serves this: none has {route.path}.", param="model")
        raise InvalidRequest(
            f"Several deployments serve this, so name one: {', '.join(sorted(able))}. In the header "
            f"'{MODEL_HEADER.decode()}', in 'model', or in 'parameters.adapter_id'.",
            param="model",
        )
