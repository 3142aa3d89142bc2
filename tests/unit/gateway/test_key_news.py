"""A change of keys reaches gateway processes, and nothing but the change."""

from __future__ import annotations

from dataclasses import replace

from inferry.core.api_key import ApiKey
from inferry.gateway.key_news import KeyNews
from inferry.gateway.messages import KeysChanged
from inferry.ledger.keyring import KeyRing


def key(number: int) -> ApiKey:
    return ApiKey(f"key_{number}", f"inf-{number:012d}", bytes(32), "t", f"n{number}")


def test_only_what_is_different_is_told() -> None:
    """Of 10,000 keys: the one that is new, the one that was changed, and the name of the one that is gone."""
    told: list[KeysChanged] = []
    news = KeyNews(told.append)
    keys = [key(number) for number in range(10_000)]
    news.on_keys(keys)
    assert told.pop() == KeysChanged(keys, [])
    disabled = replace(keys[5], disabled=True)
    news.on_keys([key(10_000), *keys[1:5], disabled, *map(replace, keys[6:])])
    assert told == [KeysChanged([key(10_000), disabled], [keys[0].prefix])]


def test_nothing_new_is_no_news() -> None:
    """Keys that were read again, and are as before, are told to nobody."""
    told: list[KeysChanged] = []
    news = KeyNews(told.append)
    news.on_keys([key(1), key(2)])
    news.on_keys([key(2), key(1)])
    assert len(told) == 1


def test_a_ring_that_hears_the_news_has_the_keys() -> None:
    """After any row of changes, a process that heard all of them has exactly the keys of the last."""
    ring = KeyRing()
    news = KeyNews(lambda message: ring.change(message.put, message.gone))
    for numbers in (range(5), range(3, 8), range(0), range(2)):
        news.on_keys(key(number) for number in numbers)
        assert ring.keys() == {key(number).prefix.encode(): key(number) for number in numbers}
