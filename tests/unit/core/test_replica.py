"""Replica states: the table says who may go where."""

from __future__ import annotations

import pytest

from inferry.core import replica
from inferry.core.replica import TRANSITIONS, Endpoint, ReplicaState

S = ReplicaState


def test_table_is_complete() -> None:
    """Every state has its row, and every row leads somewhere: no state is a trap."""
    assert set(TRANSITIONS) == set(S)
    assert all(TRANSITIONS.values())


def test_no_state_follows_itself() -> None:
    """Coming into a state again is no transition."""
    assert [state for state in S if state in TRANSITIONS[state]] == []


def test_every_state_is_reachable_from_the_first() -> None:
    """From `pending`, a replica can come into each state."""
    reached, new = {S.PENDING}, {S.PENDING}
    while new:
        new = set().union(*(TRANSITIONS[state] for state in new)) - reached
        reached |= new
    assert reached == set(S)


@pytest.mark.parametrize("state", sorted(set(S) - {S.FAILED, S.STOPPED}))
def test_engines_die_at_any_moment(state: ReplicaState) -> None:
    """From every live state a replica can fail, and can end as wished."""
    assert TRANSITIONS[state] >= {S.FAILED, S.STOPPED}


def test_requests_come_only_after_a_probe() -> None:
    """`ready` comes after `warming` or `suspect`, and `suspect` only after `ready`."""
    before = {target: {state for state in S if target in TRANSITIONS[state]} for target in S}
    assert before[S.READY] == {S.WARMING, S.SUSPECT}
    assert before[S.SUSPECT] == {S.READY}
    assert before[S.STARTING] == {S.PENDING}
    assert before[S.WARMING] == {S.STARTING}


def test_draining_never_comes_back() -> None:
    """A draining replica ends; only a restart, from `pending`, makes it serve again."""
    assert TRANSITIONS[S.DRAINING] == {S.STOPPED, S.FAILED}
    assert TRANSITIONS[S.STOPPED] == {S.PENDING}
    assert TRANSITIONS[S.FAILED] == {S.PENDING, S.STOPPED}


def test_docstring_describes_every_state() -> None:
    """The table that people read has a row for each state, in the code's order."""
    rows = [line.split()[0] for line in (replica.__doc__ or "").splitlines()[2:] if "  " in line]
    assert rows == ["state", *S]


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (Endpoint("127.0.0.1", 81), "http://127.0.0.1:81"),
        (Endpoint("h", 443, tls=True, base_path="/a"), "https://h:443/a"),
        (Endpoint("::1", 9), "http://[::1]:9"),
    ],
)
def test_endpoint_url(endpoint: Endpoint, url: str) -> None:
    """An endpoint prints as a URL that a person can paste."""
    assert endpoint.url == url


def test_endpoint_keeps_its_secret() -> None:
    """A key that travels in a header is in neither the URL nor the repr."""
    endpoint = Endpoint("h", 1, headers=(("authorization", "Bearer hunter2"),))
    assert "hunter2" not in f"{endpoint.url} {endpoint!r} {endpoint}"


@pytest.mark.parametrize(
    ("endpoint", "path", "address"),
    [
        (Endpoint("h", 1), "/v1/models", "http://h:1/v1/models"),
        (Endpoint("h", 1, base_path="/p"), "/v1/models", "http://h:1/p/v1/models"),
        (Endpoint("h", 1, base_path="/p"), "/tokenize", "http://h:1/p/tokenize"),
        (Endpoint("h", 1, query="api-version=1"), "/v1/models", "http://h:1/v1/models?api-version=1"),
        (
            Endpoint("h", 443, True, "/p", root="/openai/deployments/big", query="api-version=2024-10-21"),
            "/v1/chat/completions",
            "https://h:443/p/openai/deployments/big/chat/completions?api-version=2024-10-21",
        ),
        (Endpoint("h", 1, root="/x"), "/v1", "http://h:1/v1"),
    ],
)
def test_endpoint_addresses(endpoint: Endpoint, path: str, address: str) -> None:
    """Routes are found below the base path, with the endpoint's own root for `/v1`, and its query behind."""
    assert endpoint.address(path) == address
    assert address.endswith(endpoint.target(path))
