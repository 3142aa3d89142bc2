"""The error tree: stable codes, statuses by who must act."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from inferry.core.errors import ConfigError, EngineError, InferryError, LedgerError, Rejected


def tree(root: type[InferryError]) -> list[type[InferryError]]:
    return [root, *(below for child in root.__subclasses__() for below in tree(child))]


ALL = [kind for kind in tree(InferryError) if kind.__module__ == "inferry.core.errors"]
BRANCHES = (ConfigError, Rejected, EngineError, LedgerError)


def test_four_branches() -> None:
    """The root has one branch for each who may have to act."""
    assert set(InferryError.__subclasses__()) == set(BRANCHES)


def test_a_code_belongs_to_one_class() -> None:
    """A class has a code of its own, or its parent's; no two unrelated ones share a code."""
    own = Counter(kind.code for kind in ALL if "code" in vars(kind))
    assert {code: count for code, count in own.items() if count > 1} == {}
    assert all("code" in vars(branch) for branch in BRANCHES)


@pytest.mark.parametrize("kind", ALL)
def test_codes_are_stable_words(kind: type[InferryError]) -> None:
    """Codes are for programs: lower-case words."""
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)


@pytest.mark.parametrize(
    ("branch", "statuses"),
    [
        (ConfigError, {500}),
        (Rejected, {400, 401, 403, 404, 405, 408, 409, 413, 422, 429}),
        (EngineError, {502, 503, 504}),
        (LedgerError, {500, 503}),
    ],
)
def test_status_says_who_must_act(branch: type[InferryError], statuses: set[int]) -> None:
    """4xx is the client's, 502 to 504 the engine's, 500 ours; 503 also where our store is away for a while."""
    assert {kind.status for kind in tree(branch)} <= statuses


def test_what_an_engine_could_not_do_may_be_tried_again() -> None:
    """The same request can succeed later where the engine failed, or where the client asks too
    much at once, and never where the request is wrong."""
    assert {kind.retryable for kind in tree(EngineError)} == {True}
    assert {kind.retryable for kind in tree(Rejected) if kind.status != 429} == {False}


@pytest.mark.parametrize("kind", ALL)
def test_an_error_carries_its_message(kind: type[InferryError]) -> None:
    """Every class takes the same arguments, and prints as its message."""
    error = kind("the way out", param="model", retry_after_s=2.5)
    assert str(error) == error.message == "the way out"
    assert (error.param, error.retry_after_s) == ("model", 2.5)
    assert kind.__doc__
