"""Limits as clients meet them: one key, many clients, several gateway processes, two hosts on one Redis, and what is
left of the bound when Redis or a host is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.contract.limit_server import server_of

from .gateway_harness import Seen, Upstream, json_answer
from .hammer import Asked, Hammer, worst_window
from .inferry_process import Inferry, Up, wait_for
from .live_upstream import live_upstream

PROMPT_TOKENS, COMPLETION_TOKENS = 5, 10
TOKENS = PROMPT_TOKENS + COMPLETION_TOKENS


class Engine:
    """Answers after `slow_s` those whose `user` is slow, and counts how many are here at once."""

    def __init__(self) -> None:
        self.slow_s = 0.03
        self.may_answer = True
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def answer(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        if not seen.body:  # the probe
            writer.write(json_answer(b'{"object":"list","data":[]}'))
            return
        kind = json.loads(seen.body).get("user", "")
        self.running[kind] += 1
        self.most[kind] = max(self.most[kind], self.running[kind])
        try:
            if kind:
                await asyncio.sleep(self.slow_s)
                while not self.may_answer and not seen.closed.is_set():
                    await asyncio.sleep(0.01)
        finally:
            self.running[kind] -= 1
        usage = {
            "prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS, "total_tokens": TOKENS
        }  # fmt: skip
        message = {"role": "assistant", "content": "Yes."}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        body = {"id": "c", "object": "chat.completion", "model": "m", "choices": choices, "usage": usage}
        writer.write(json_answer(json.dumps(body).encode()))
        await writer.drain()


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="module")
def upstream(engine: Engine) -> Iterator[Upstream]:
    with live_upstream(engine.answer) as state:
        yield state


def file(upstream: Upstream, **gateway: Any) -> dict[str, Any]:
    return {
        "gateway": {"auth": "keys", **gateway},
        "deployments": {
            "chat": {"engine": "openai", "model": "m", "endpoints": [f"http://127.0.0.1:{upstream.port}/v1"]}
        },
    }


def key_for(ups: list[tuple[Up, str]], **limits: object) -> str:
    """A new key that every gateway process knows. Looking for that costs none of its limits."""
    key = ups[0][0].new_key("acme", limits=limits)

    def known(client: httpx.Client) -> bool:
        return all(client.get(f"{url}/v1/models").status_code == 200 for _, url in ups for _ in range(8))

    # Each time on a new connection, so that all gateway processes are met.
    with httpx.Client(headers={"x-api-key": key, "connection": "close"}) as client:
        wait_for("the key is known", lambda: known(client), 5.0)
    return key


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[tuple[Up, str]]:
    """Two gateway processes of one host."""
    inferry = Inferry(tmp_path_factory.mktemp("one"))
    inferry.write(yaml.safe_dump(file(upstream, workers=2)))
    with inferry.up() as up:
        yield up, up.wait_ready()


class TwoHosts:
    """Two `inferry up` with homes of their own, one store of keys and one Redis."""

    def __init__(self, folder: Path, upstream: Upstream, when_gone: str) -> None:
        self.redis = server_of("valkey", folder)
        self.redis.start()
        self._stack = contextlib.ExitStack()
        self._stack.callback(self.redis.kill)
        self.ups: list[tuple[Up, str]] = []
        with contextlib.ExitStack() as undo:
            undo.enter_context(self._stack)
            for name in ("a", "b"):
                (folder / name).mkdir()
                inferry = Inferry(folder / name)
                shared = {"redis": self.redis.url, "when_gone": when_gone}
                text = file(upstream, shared_limits=shared)
                text["ledger"] = {"url": f"sqlite:///{folder}/keys.db"}
                inferry.write(yaml.safe_dump(text))
                up = self._stack.enter_context(inferry.up())
                self.ups.append((up, up.wait_ready()))
            undo.pop_all()

    @property
    def urls(self) -> list[str]:
        return [url for _, url in self.ups]

    def __enter__(self) -> TwoHosts:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def ask(url: str, key: str, **fields: object) -> httpx.Response:
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 10, **fields}
    return httpx.post(f"{url}/v1/chat/completions", headers={"x-api-key": key}, json=body, timeout=30)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def codes(asked: list[Asked]) -> set[tuple[int, str]]:
    return {(each.status, each.code) for each in asked}


# --- one host -----------------------------------------------------------------------------------------


def test_fifty_clients_get_what_the_limit_says(one: tuple[Up, str], engine: Engine) -> None:
    """Over two gateway processes at once: not one request, not one token above the limit, and at least nine tenths
    of it; never more in flight at the engine than are allowed. Who is refused hears why and for how long."""
    _, url = one
    key = key_for([one], requests_per_minute=300)
    with Hammer([url], key) as hammer:
        time.sleep(1.5)
    assert 270 <= len(hammer.admitted) <= 300
    assert codes(hammer.refused) == {(429, "rate_limit_exceeded")}
    assert all(0 < int(each.headers["retry-after"]) <= 62 for each in hammer.refused)
    assert {each.headers["x-ratelimit-limit-requests"] for each in hammer.asked} == {"300"}

    key = key_for([one], tokens_per_minute=300 * TOKENS)
    with Hammer([url], key, max_tokens=COMPLETION_TOKENS) as hammer:
        time.sleep(2.0)
    taken = sum(each.tokens for each in hammer.admitted)
    assert 270 * TOKENS <= taken <= 300 * TOKENS
    assert codes(hammer.refused) == {(429, "token_rate_limit_exceeded")}

    key = key_for([one], requests_in_flight=10)
    with Hammer([url], key, user="slow") as hammer:
        time.sleep(1.0)
    assert 9 <= engine.most["slow"] <= 10
    assert len(hammer.admitted) > 50
    assert codes(hammer.refused) == {(429, "too_many_requests_in_flight")}


def test_what_killed_gateway_processes_had_in_flight_is_free_at_once(
    one: tuple[Up, str], engine: Engine
) -> None:
    """Both processes die with every permit in use: their successors admit as many again."""
    up, url = one
    key = key_for([one], requests_in_flight=4)
    engine.may_answer = False
    try:
        with Hammer([url], key, clients=8, user="held") as hammer:
            wait_for("all permits are in use", lambda: engine.running["held"] == 4 and hammer.refused)
            before = set(up.gateway_pids())
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            wait_for("others take their place", lambda: len(set(up.gateway_pids()) - before) == 2)
            wait_for("four are admitted again", lambda: engine.running["held"] == 4, 10.0)
            engine.may_answer = True
            wait_for("they are answered", lambda: len(hammer.admitted) > 20)
    finally:
        engine.may_answer = True
    assert engine.most["held"] <= 8, (
        "four of the dead, whose connections the engine still had, and four new ones"
    )


@pytest.mark.slow
def test_a_day_s_budget_survives_kill_9(tmp_path: Path, upstream: Upstream) -> None:
    """What was used before the kill is read from the ledger: both lives together get the budget, and nine tenths of it
    at least."""
    not_near_midnight()
    inferry = Inferry(tmp_path)
    inferry.write(yaml.safe_dump(file(upstream)))
    with inferry.up() as up:
        key = key_for([(up, up.wait_ready())], tokens_per_day=40 * TOKENS)
        url = up.wait_ready()
        used = sum(ask(url, key).json()["usage"]["total_tokens"] for _ in range(20))
        assert used == 20 * TOKENS
        os.killpg(up.process.pid, signal.SIGKILL)
        up.process.wait()
    with inferry.up() as up, Hammer([up.wait_ready()], key, clients=10) as hammer:
        time.sleep(1.5)
    used += sum(each.tokens for each in hammer.admitted)
    assert 36 * TOKENS <= used <= 40 * TOKENS
    assert codes(hammer.refused) == {(429, "insufficient_quota")}
    until_midnight_s = 86400 - time.time() % 86400
    assert all(abs(int(each.headers["retry-after"]) - until_midnight_s) < 60 for each in hammer.refused)


def not_near_midnight() -> None:
    """A UTC day that ends in the middle of a test begins a new budget."""
    left_s = 86400 - time.time() % 86400
    if left_s < 60:
        time.sleep(left_s + 2)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_minute_is_within_the_limits(one: tuple[Up, str], engine: Engine) -> None:
    """130 s of 50 clients for each of three keys: in every window of 60 s, wherever it begins, not one request and not
    one token above the limit, and never more in flight; and nine tenths of what three windows may have."""
    _, url = one
    requests = key_for([one], requests_per_minute=300)
    tokens = key_for([one], tokens_per_minute=300 * TOKENS)
    flights = key_for([one], requests_in_flight=10)
    with (
        Hammer([url], requests, pause_s=0.1) as by_request,
        Hammer([url], tokens, pause_s=0.1) as by_token,
        Hammer([url], flights, pause_s=0.1, user="minutes") as by_flight,
    ):
        time.sleep(130)
    assert worst_window(by_request.admitted) <= 300
    assert 810 <= len(by_request.admitted) <= 900
    assert worst_window(by_token.admitted, lambda each: each.tokens) <= 300 * TOKENS
    assert 810 <= len(by_token.admitted) <= 900
    assert 9 <= engine.most["minutes"] <= 10
    assert len(by_flight.admitted) > 1000
    assert {each.status for each in by_request.asked + by_token.asked + by_flight.asked} == {200, 429}


# --- two hosts ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_hosts_share_a_limit_and_say_when_they_cannot(tmp_path: Path, upstream: Upstream) -> None:
    """50 clients over both get one limit; without Redis, `closed` refuses what has limits with 503 and nothing else;
    with a new, empty Redis, what was spent stays spent, and other keys go on."""
    with TwoHosts(tmp_path, upstream, "closed") as hosts:
        key, free = key_for(hosts.ups, requests_per_minute=300), key_for(hosts.ups)
        with Hammer(hosts.urls, key) as hammer:
            time.sleep(2.0)
        assert 270 <= len(hammer.admitted) <= 300
        assert codes(hammer.refused) == {(429, "rate_limit_exceeded")}

        hosts.redis.kill()
        for url in hosts.urls:
            wait_for("closed", lambda url=url: refusal(ask(url, key)) == (503, "limits_unavailable"), 5.0)  # type: ignore[misc]
            assert ask(url, key).headers["retry-after"] == "2"
            assert ask(url, free).status_code == 200

        hosts.redis.start()
        other = key_for(hosts.ups, requests_per_minute=300)
        for url in hosts.urls:
            wait_for("open again", lambda url=url: ask(url, other).status_code == 200, 10.0)  # type: ignore[misc]
        with Hammer(hosts.urls, key) as again:
            time.sleep(1.0)
        assert worst_window(hammer.admitted + again.admitted) <= 300
        assert codes(again.refused) == {(429, "rate_limit_exceeded")}


GONE_S, BACK_S, END_S = 8.0, 75.0, 152.0
BOUNDS = {"last": 300, "share": 450, "closed": 300}
"""docs/limits.md: of 300 a minute, on two hosts."""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("when_gone", BOUNDS)
def test_redis_dies_and_comes_back(tmp_path: Path, upstream: Upstream, when_gone: str) -> None:
    """50 clients over two hosts while Redis is killed for a minute and comes back empty: the stated bound in every
    window of 60 s, the stated answers meanwhile, and afterwards the limit as before, with no key stuck."""
    with TwoHosts(tmp_path, upstream, when_gone) as hosts:
        key = key_for(hosts.ups, requests_per_minute=300)
        began_s = time.monotonic()

        def until(after_s: float) -> float:
            time.sleep(began_s + after_s - time.monotonic())
            return time.monotonic()

        with Hammer(hosts.urls, key, pause_s=0.1) as hammer:
            gone_s = until(GONE_S)
            hosts.redis.kill()
            back_s = until(BACK_S)
            hosts.redis.start()
            until(END_S)
        admitted = hammer.admitted
        while_gone = [each for each in hammer.asked if each.sent_s > gone_s + 1 and each.answered_s < back_s]
        worst = worst_window(admitted)
        worst_after = worst_window([each for each in admitted if each.sent_s > back_s])
        assert worst <= BOUNDS[when_gone]
        assert worst_after <= 300
        assert count(admitted, 0, gone_s) >= 270
        assert count(admitted, back_s, back_s + END_S) >= 270
        if when_gone == "closed":
            assert codes(while_gone) == {(503, "limits_unavailable")}
        else:
            assert count(admitted, gone_s, back_s) >= 240
            assert {each.status for each in while_gone} == {200, 429}
        fresh = key_for(hosts.ups, requests_per_minute=300)
        with Hammer(hosts.urls, fresh) as hammer:
            time.sleep(2.0)
        assert 270 <= len(hammer.admitted) <= 300


def count(asked: list[Asked], from_s: float, to_s: float) -> int:
    return sum(from_s <= each.sent_s < to_s for each in asked)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_stays_locked_when_a_host_dies(tmp_path: Path, upstream: Upstream, engine: Engine) -> None:
    """A host is killed with permits and leases in hand: its permits are free after 10 s, and after 61.5 s the whole
    minute's limit is there again."""
    with TwoHosts(tmp_path, upstream, "last") as hosts:
        (dying, dying_url), (_, other_url) = hosts.ups
        flights = key_for(hosts.ups, requests_in_flight=4)
        requests = key_for(hosts.ups, requests_per_minute=300)
        engine.may_answer = False
        try:
            with Hammer([dying_url], flights, clients=8, user="dying") as holding:
                wait_for("all permits are in use", lambda: engine.running["dying"] == 4 and holding.refused)
                with Hammer([dying_url], requests, clients=2, pause_s=0.1) as leasing:
                    wait_for("it has leases", lambda: len(leasing.admitted) > 5)
                    os.killpg(dying.process.pid, signal.SIGKILL)
                    dying.process.wait()
            killed_s = time.monotonic()
            assert refusal(ask(other_url, flights)) == (429, "too_many_requests_in_flight")
            with Hammer([other_url], flights, clients=8, pause_s=0.1, user="next"):
                wait_for("the permits are free", lambda: engine.running["next"] == 4, 15.0)
                engine.may_answer = True
        finally:
            engine.may_answer = True
        time.sleep(killed_s + 62 - time.monotonic())
        with Hammer([other_url], requests) as hammer:
            time.sleep(2.0)
        assert 297 <= len(hammer.admitted) <= 300
