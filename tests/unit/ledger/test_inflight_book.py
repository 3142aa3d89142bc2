"""The inflight book: what was under way comes back, and nothing else."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from inferry.core.outcome import Ending, UsageFrom
from inferry.ledger import inflight_book
from inferry.ledger.inflight_book import BODY_BYTES, InflightBook, recover

from .inflight import a_begun


def test_an_open_request_is_recovered_with_its_count(tmp_path: Path) -> None:
    """A request under way becomes a failed outcome: tokens as relayed, the prompt as estimated, the cost of both."""
    book = InflightBook(tmp_path, "gateway-0")
    slot = book.begin(a_begun("a"))
    for _ in range(30):
        book.counts[slot] += 1
    (outcome,) = recover(book.path).outcomes
    assert (outcome.id, outcome.ending, outcome.error_code) == ("a", Ending.FAILED, "gateway_crashed")
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (20, 30)
    assert outcome.usage_from is UsageFrom.COUNTED
    assert outcome.cost_nano == 20 * 1000 + 30 * 2000
    assert (outcome.tenant, outcome.key_id, outcome.replica_id) == ("acme", "key_a", "chat-0")
    book.close()


def test_a_request_that_relayed_nothing_costs_nothing(tmp_path: Path) -> None:
    """Cut off before its first token, whatever the engine did: an outcome, but no tokens."""
    book = InflightBook(tmp_path, "gateway-0")
    book.begin(a_begun("a"))
    (outcome,) = recover(book.path).outcomes
    assert (outcome.prompt_tokens, outcome.completion_tokens, outcome.cost_nano) == (None, None, 0)
    assert outcome.usage_from is UsageFrom.NONE
    book.close()


def test_ended_requests_are_not_recovered(tmp_path: Path) -> None:
    """A freed slot leaves nothing, and the next request in it begins at 0."""
    book = InflightBook(tmp_path, "gateway-0")
    slot = book.begin(a_begun("a"))
    book.counts[slot] += 5
    book.end(slot)
    book.end(slot)
    assert recover(book.path).outcomes == []
    assert book.open_slots == 0
    first, second = book.begin(a_begun("b")), book.begin(a_begun("c"))
    assert first == slot != second
    assert [outcome.completion_tokens for outcome in recover(book.path).outcomes] == [None, None]
    book.close()


def test_a_move_keeps_the_count_and_one_outcome(tmp_path: Path) -> None:
    """A request that goes on at another replica keeps its tokens, also if the process dies in between."""
    book = InflightBook(tmp_path, "gateway-0")
    slot = book.begin(a_begun("a"))
    book.counts[slot] += 5
    moved = book.move(slot, a_begun("a", replica_id="chat-1"))
    book.counts[moved] += 2
    (outcome,) = recover(book.path).outcomes
    assert (outcome.replica_id, outcome.completion_tokens) == ("chat-1", 7)
    book.begin(a_begun("a"))  # as if it died after opening a slot, before freeing the other
    assert [outcome.completion_tokens for outcome in recover(book.path).outcomes] == [7]
    book.close()


def test_a_move_from_the_spare_slot_takes_no_count_along(tmp_path: Path) -> None:
    """What other requests without a slot counted is not billed to the one that finds a slot now."""
    book = InflightBook(tmp_path, "gateway-0")
    spare = book._spare
    book.counts[spare] += 100
    moved = book.move(spare, a_begun("a"))
    book.counts[moved] += 2
    assert [outcome.completion_tokens for outcome in recover(book.path).outcomes] == [2]
    book.close()


def test_who_comes_after_the_end_harms_nobody(tmp_path: Path) -> None:
    """A closed book gives out its spare slot only, and its file stays as it was."""
    book = InflightBook(tmp_path, "gateway-0")
    slot = book.begin(a_begun("a"))
    book.counts[slot] += 5
    book.close()
    book.close()
    late = book.begin(a_begun("b"))
    book.counts[late] += 7
    book.end(book.move(late, a_begun("b")))
    book.end(slot)
    assert late == book._spare
    assert [(outcome.id, outcome.completion_tokens) for outcome in recover(book.path).outcomes] == [("a", 5)]


def test_a_cut_at_any_store_is_harmless(tmp_path: Path) -> None:
    """Whatever part of a new record was written when the process died, its slot is not taken for one in use."""
    book = InflightBook(tmp_path, "gateway-0")
    slot = book.begin(a_begun("before"))
    book.end(slot)
    begun = a_begun("torn")
    for size in range(0, len(begun), 7):
        at = inflight_book._BODIES_AT + BODY_BYTES * slot
        book._map[at : at + size] = begun[:size]
        assert recover(book.path) == inflight_book.Recovered([], 0)
    book.close()


def test_a_damaged_record_is_counted_and_passed_over(tmp_path: Path) -> None:
    """A slot that can't be read costs itself alone."""
    book = InflightBook(tmp_path, "gateway-0")
    slot = book.begin(a_begun("a"))
    book.begin(a_begun("b"))
    book._map[inflight_book._BODIES_AT + BODY_BYTES * slot] = 0
    recovered = recover(book.path)
    assert [outcome.id for outcome in recovered.outcomes] == ["b"]
    assert recovered.unreadable == 1
    book.close()


def test_long_names_are_cut_and_the_rest_is_whole(tmp_path: Path) -> None:
    """What a client may make long does not push out whose request it is."""
    book = InflightBook(tmp_path, "gateway-0")
    book.begin(a_begun("a", request_id="r" * 5000, model="ü" * 500))
    (outcome,) = recover(book.path).outcomes
    assert (outcome.request_id, outcome.model, outcome.tenant) == ("r" * 64, "ü" * 64, "acme")
    book.close()


def test_hostile_names_never_stop_a_request(tmp_path: Path) -> None:
    """Signs that JSON needs six bytes for are cut shorter; what still does not fit runs without a slot, counted."""
    book = InflightBook(tmp_path, "gateway-0")
    slot = book.begin(a_begun("a", request_id="\x01" * 5000, model="\x02" * 5000))
    book.counts[slot] += 1
    (outcome,) = recover(book.path).outcomes
    assert (outcome.id, outcome.completion_tokens, outcome.request_id[:1]) == ("a", 1, "\x01")
    book.end(book.begin(a_begun("b", tenant="t" * 2000)))
    assert (book.overflowed, book.open_slots) == (1, 1)
    book.close()


def test_the_book_grows(tmp_path: Path) -> None:
    """More requests at once than slots at first: all of them are recovered."""
    book = InflightBook(tmp_path, "gateway-0")
    ids = {f"{number}" for number in range(5000)}
    slots = {book.begin(a_begun(id)) for id in ids}
    assert len(slots) == 5000
    assert {outcome.id for outcome in recover(book.path).outcomes} == ids
    assert book.overflowed == 0
    book.close()


def test_a_full_book_counts_what_it_has_no_slot_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for more slots, requests run all the same: counted, and not taken for anybody else's."""
    book = InflightBook(tmp_path, "gateway-0")
    slots = [book.begin(a_begun(f"{number}")) for number in range(book._slots)]

    def no_room(handle: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(inflight_book, "_take_blocks", no_room)
    over = [book.begin(a_begun(f"over-{number}")) for number in range(2)]
    for slot in over:
        book.counts[slot] += 9
        book.end(slot)
    assert book.overflowed == 2
    assert not set(over) & set(slots)
    assert {outcome.completion_tokens for outcome in recover(book.path).outcomes} == {None}
    book.end(slots[0])
    assert book.begin(a_begun("again")) == slots[0]
    book.close()


def test_blocks_are_there_before_they_are_used(tmp_path: Path) -> None:
    """No store into the map can meet a full disk: the blocks of all free slots are the file's already."""
    book = InflightBook(tmp_path, "gateway-0")
    needed = inflight_book._BODIES_AT + BODY_BYTES * book._slots
    assert book.path.stat().st_blocks * 512 >= needed
    book.close()


def test_a_book_of_a_maker_that_died_early_is_empty(tmp_path: Path) -> None:
    """A file that never got its header holds no requests."""
    path = tmp_path / "early"
    path.touch()
    assert recover(path) == inflight_book.Recovered([], 0)


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_steps_leaves_what_is_open(tmp_path: Path, seed: int) -> None:
    """After any sequence of begin, count, move and end, the open requests come back with their counts."""
    rng = random.Random(seed)
    book = InflightBook(tmp_path, "gateway-0")
    open_requests: dict[str, tuple[int, int]] = {}
    for step in range(2000):
        if not open_requests or rng.random() < 0.4:
            open_requests[str(step)] = (book.begin(a_begun(str(step))), 0)
            continue
        id = rng.choice(list(open_requests))
        slot, count = open_requests.pop(id)
        if rng.random() < 0.3:
            book.end(slot)
        elif rng.random() < 0.2:
            open_requests[id] = (book.move(slot, a_begun(id, replica_id="chat-1")), count)
        else:
            book.counts[slot] += 3
            open_requests[id] = (slot, count + 3)
    recovered = {outcome.id: outcome.completion_tokens for outcome in recover(book.path).outcomes}
    assert recovered == {id: count or None for id, (_, count) in open_requests.items()}
    book.close()
