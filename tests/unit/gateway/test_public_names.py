"""Names and whom they lead to: what keys may call, what they see, and who is the same caller."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from inferry.core.api_key import ANONYMOUS, SHADOW, ApiKey, Caller
from inferry.core.errors import (
    ContentFiltered,
    DeploymentNotAllowed,
    EngineTimeout,
    InvalidRequest,
    NoReadyReplica,
    QueueFull,
    RateLimited,
    UnknownModel,
    UnsupportedRoute,
)
from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.core.gateway_settings import Tenant
from inferry.core.leases import KIND_OF, Bucket, Measure, bucket_id
from inferry.core.limits import Limits
from inferry.core.public_names import PublicName
from inferry.core.request import CHAT, EMBEDDINGS, InferenceRequest
from inferry.gateway.account import Account
from inferry.gateway.callers import Callers
from inferry.gateway.course import Course
from inferry.gateway.edge import Edge
from inferry.gateway.fronts.front_exchange import CallersModels
from inferry.gateway.gateway import Gateway
from inferry.gateway.limit_errors import spent_error
from inferry.gateway.limit_rules import Estimate
from inferry.gateway.public_names import user_of
from inferry.gateway.served import ServedDeployment, ServedSpec
from inferry.testing.manual_clock import ManualClock

from .stand import served
from .test_admission import Stand

NAMES = {
    "chat": PublicName.model_validate(
        {"split": [{"deployment": "v1"}, {"deployment": "v2"}], "fallbacks": ["v1", "small"]}
    ),
    "solo": PublicName.model_validate({"split": [{"deployment": "v1"}]}),
}


def gateway_specs() -> list[ServedSpec]:
    return [served("v1", "gpt-4o"), served("v2"), served("small")]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with asyncio.Runner() as runner:
        yield Gateway(
            GatewaySettings(),
            gateway_specs(),
            clock=ManualClock(),
            loop=runner.get_loop(),
            names=NAMES,
        )


def key(*deployments: str) -> ApiKey:
    return ApiKey("key_1", "ik-1", bytes(32), "acme", "k", deployments=frozenset(deployments))


def account(gateway: Gateway, model: str, its_key: ApiKey | None = None) -> Account:
    """A request that has just been decoded."""
    made = Account(CHAT, gateway.edge.arrive(b"POST", [], None))
    made.caller = Caller(ANONYMOUS, its_key)
    made.request = InferenceRequest("r", CHAT, model, False, False, None, 1, b"{}")
    return made


def sent_to(gateway: Gateway, model: str, its_key: ApiKey | None = None) -> str:
    return gateway.public_names.destination(account(gateway, model, its_key)).name


# --- keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "seen"),
    [
        (("v1", "v2"), ["chat", "solo", "v1", "gpt-4o", "v2"]),
        (("chat",), ["chat"]),
        (("v1",), ["solo", "v1", "gpt-4o"]),
        (("small",), ["small"]),
        ((), []),
    ],
)
def test_a_key_sees_names_that_it_may_call(
    gateway: Gateway, allowed: tuple[str, ...], seen: list[str]
) -> None:
    """A name is for keys that name it, or every deployment of its split; one of them alone is not enough."""
    assert list(gateway.names_for(key(*allowed))) == seen


@pytest.mark.parametrize("allowed", [("v1",), ("v2", "small"), ()])
def test_a_key_for_one_member_may_not_call_the_name(gateway: Gateway, allowed: tuple[str, ...]) -> None:
    """Else every other request would pass, and every other one be refused."""
    with pytest.raises(DeploymentNotAllowed, match="may not call 'chat'"):
        sent_to(gateway, "chat", key(*allowed))


def test_a_key_for_the_name_may_call_no_member_by_its_own_name(gateway: Gateway) -> None:
    """Who was given `chat` gets the split, and can't choose the canary."""
    assert {sent_to(gateway, "chat", key("chat")) for _ in range(2)} == {"v1", "v2"}
    with pytest.raises(DeploymentNotAllowed, match="may not call 'v2'"):
        sent_to(gateway, "v2", key("chat"))


def test_a_key_falls_back_only_to_what_it_may_call(gateway: Gateway) -> None:
    """A key that names deployments never gets an answer of another one; one that names the name gets all behind it."""

    def fallbacks(its_key: ApiKey | None) -> list[str]:
        request = account(gateway, "chat", its_key)
        chosen: ServedDeployment | None = gateway.public_names.destination(request)
        assert request.course is not None
        assert chosen is not None
        found = [chosen.name]
        while chosen := request.course.next_after(chosen, NoReadyReplica("none")):
            found.append(chosen.name)
        return found

    assert fallbacks(None) == ["v1", "small"]
    assert fallbacks(None) == ["v2", "v1", "small"]
    assert fallbacks(key("v1", "v2")) == ["v1"]
    assert fallbacks(key("v1", "v2")) == ["v2", "v1"]
    assert fallbacks(key("chat")) == ["v1", "small"]


def test_a_name_that_is_not_there_is_answered_with_those_that_are(gateway: Gateway) -> None:
    """To a key, only those that it may call."""
    with pytest.raises(UnknownModel, match=r"Did you mean 'chat'\? Known: chat\."):
        sent_to(gateway, "chatt", key("chat"))


def test_what_is_refused_is_counted_at_its_deployment(gateway: Gateway) -> None:
    """The outcome of a request without leave, or by a route that nobody has, still says whom it was for."""
    refused = account(gateway, "chat", key("small"))
    with pytest.raises(DeploymentNotAllowed):
        gateway.public_names.destination(refused)
    assert refused.deployment is not None
    assert refused.deployment.name == "v1"
    only_chat = [replace(served(name), routes=frozenset({CHAT.path})) for name in ("v1", "v2", "small")]
    gateway.configure(gateway.settings, only_chat, {}, 2, {}, NAMES)
    other = account(gateway, "chat")
    assert other.request is not None
    other.request.route = other.route = EMBEDDINGS
    with pytest.raises(UnsupportedRoute, match="'chat' runs on openai, which does not serve /v1/embeddings"):
        gateway.public_names.destination(other)
    assert other.deployment is not None


# --- the course ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [InvalidRequest("x"), ContentFiltered("x"), DeploymentNotAllowed("x")])
def test_the_clients_own_errors_lead_nowhere_else(gateway: Gateway, error: Exception) -> None:
    """What is wrong with the request is wrong at the next deployment, too."""
    assert isinstance(error, InvalidRequest | ContentFiltered | DeploymentNotAllowed)
    course = Course("chat", [gateway.deployments["small"]])
    assert course.next_after(gateway.deployments["v1"], error) is None
    assert course.goes_on


@pytest.mark.parametrize(("scope", "elsewhere"), [("key", False), ("tenant", False), ("deployment", True)])
def test_only_a_deployments_own_limits_lead_elsewhere(scope: str, elsewhere: bool) -> None:
    """A key's or a tenant's limit stands over every deployment: another one is no way around it."""
    bucket = Bucket(
        bucket_id(scope, "x", Measure.REQUESTS_PER_MINUTE), KIND_OF[Measure.REQUESTS_PER_MINUTE], 1
    )
    assert spent_error(bucket, 1, 1.0).elsewhere is elsewhere


def test_the_headers_tell_the_whole_way(gateway: Gateway) -> None:
    """Who answered, who did not, and why."""
    v1, v2, small = (gateway.deployments[name] for name in ("v1", "v2", "small"))
    course = Course("chat", [v2, small])
    assert course.header_lines(v1) == b"x-inferry-deployment: v1\r\n"
    assert course.next_after(v1, QueueFull("x")) is v2
    assert course.next_after(v2, EngineTimeout("x")) is small
    assert course.next_after(small, NoReadyReplica("x")) is None
    assert course.header_lines(small) == (
        b"x-inferry-deployment: small\r\nx-inferry-fallback: v1 (queue_full), v2 (engine_timeout)\r\n"
    )


# --- who it is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "user"),
    [
        (b'{"user":"anna"}', "anna"),
        (b'{"user":"","safety_identifier":"hash"}', "hash"),
        (b'{"metadata":{"user_id":"ben","more":1}}', "ben"),
        (b'{"messages":[{"user":"inner"}]}', None),
        (b'{"user":null,"metadata":null}', None),
        (b'{"user":7}', None),
        (b'{"metadata":"text"}', None),
        (b"[" * 100_000, None),
        (b'{"user":"\xff"}', None),
    ],
)
def test_the_user_is_where_the_apis_have_it(body: bytes, user: str | None) -> None:
    """And nothing that a client writes there is an error here."""
    assert user_of(body) == user


def test_kept_headers_are_kept_and_nothing_more() -> None:
    """What callers are told apart by goes no further: not to the engine, and no other header is remembered."""
    edge = Edge(GatewaySettings(), 1, frozenset({b"x-session"}))
    arrival = edge.arrive(b"POST", [(b"x-session", b"s-1"), (b"x-other", b"o"), (b"traceparent", b"t")], None)
    assert arrival.kept == {b"x-session": b"s-1"}
    assert b"s-1" not in arrival.forward
    assert b"traceparent: t\r\n" in arrival.forward


def test_a_header_that_engines_are_told_can_be_kept_too() -> None:
    """`sticky: header:traceparent` takes nothing away from the engine."""
    edge = Edge(GatewaySettings(), 1, frozenset({b"traceparent", b"x-request-id"}))
    arrival = edge.arrive(b"POST", [(b"traceparent", b"t"), (b"x-request-id", b"r-1")], None)
    assert arrival.kept == {b"traceparent": b"t", b"x-request-id": b"r-1"}
    assert arrival.forward == b"traceparent: t\r\nx-request-id: r-1\r\n"


def test_copies_go_last_and_have_the_limits_of_their_tenant() -> None:
    """An operator bounds them in the file, under the tenant `shadow`."""
    callers = Callers(ManualClock())
    limits = Limits(requests_per_minute=5)
    callers.configure(GatewaySettings(), {"shadow": Tenant(limits=limits)})
    assert callers.shadow == Caller(SHADOW, tenant_limits=limits, priority="low")


def test_a_deployment_that_was_left_has_counted_nothing() -> None:
    """One request a minute, 100 tokens, one at a time: what a request gives back when it goes elsewhere is whole
    again a tick later, for the next one."""
    stand = Stand()
    limits = Limits(requests_per_minute=1, tokens_per_minute=100, requests_in_flight=1)
    who, wanted = Caller("acme", None, tenant_limits=limits), Estimate(40, 60)
    for _ in range(3):
        stand.admission.withdraw(stand.admitted(who, wanted))
        stand.wait(0.1)
    stand.admission.settle(stand.admitted(who, wanted), 100, 0)
    stand.wait(0.1)
    assert isinstance(stand.refused(who, wanted), RateLimited)


def test_routes_that_come_and_go_are_noticed(gateway: Gateway) -> None:
    """A change of the file may give a deployment another engine: the split follows, and turns of others go on."""
    assert [sent_to(gateway, "chat") for _ in range(3)] == ["v1", "v2", "v1"]
    without = [replace(served("v1"), routes=frozenset({EMBEDDINGS.path})), served("v2"), served("small")]
    gateway.configure(gateway.settings, without, {}, 2, {}, NAMES)
    assert [sent_to(gateway, "chat") for _ in range(2)] == ["v2", "v2"]
    gateway.configure(gateway.settings, [served("v1"), served("v2"), served("small")], {}, 3, {}, NAMES)
    assert [sent_to(gateway, "chat") for _ in range(2)] == ["v2", "v1"]


def test_a_name_of_the_file_comes_before_a_live_adapters(gateway: Gateway) -> None:
    """The file may take the name of an adapter that is loaded already: whom it leads to and whose key may call it are
    the file's then, and the engine is asked for its own model. Taken out again, it is the adapter's."""
    gateway.set_adapters({"v1": {"v1/law": "law"}})
    names = {"v1/law": PublicName.model_validate({"split": [{"deployment": "v2"}, {"deployment": "v1"}]})}
    gateway.configure(gateway.settings, gateway_specs(), {}, 2, {}, names)
    assert sent_to(gateway, "v1/law", key("v1/law")) == "v2"
    with pytest.raises(DeploymentNotAllowed):
        sent_to(gateway, "v1/law", key("v1"))
    assert gateway.deployments["v1"].lora_models == {}
    assert list(gateway.names).count("v1/law") == 1
    gateway.configure(gateway.settings, gateway_specs(), {}, 3, {}, NAMES)
    assert sent_to(gateway, "v1/law", key("v1")) == "v1"
    assert gateway.deployments["v1"].lora_models == {"v1/law": "law"}


def test_requests_that_name_no_model_go_to_the_name(gateway: Gateway) -> None:
    """TGI's API has no `model`: where one name has all deployments behind it, it is that one; a key that is bound to
    the name is never led past it."""

    def chosen(its_key: ApiKey | None) -> str:
        return CallersModels(gateway, its_key, None).chosen(CHAT)

    assert chosen(key("chat")) == "chat"
    assert chosen(key("v2")) == "v2"
    with pytest.raises(InvalidRequest, match="so name one: chat, small, solo, v1, v2"):
        chosen(None)
    gateway.configure(gateway.settings, gateway_specs(), {}, 2, {}, {"chat": NAMES["chat"]})
    assert chosen(None) == "chat"


def test_a_name_with_a_simulated_member_says_so() -> None:
    """Where some of the answers are made up, the list of models does not look as if none were."""
    with asyncio.Runner() as runner:
        specs = [served("v1"), replace(served("v2"), simulated=True), served("small")]
        gateway = Gateway(GatewaySettings(), specs, clock=ManualClock(), loop=runner.get_loop(), names=NAMES)
        names = gateway.public_names
        assert [name for name in names.all if names.is_simulated(name)] == ["chat", "v2"]
