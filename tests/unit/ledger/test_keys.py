"""The key store, over SQLite and over a real PostgreSQL."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update
from structlog.testing import capture_logs

from inferry.core.api_key import ApiKey
from inferry.core.deployment import DeploymentFile
from inferry.core.errors import BadKeySetting, InferryError, KeyNameTaken, LedgerError, UnknownKey
from inferry.core.limits import Limits
from inferry.ledger.database import Database
from inferry.ledger.key_rows import check_key
from inferry.ledger.key_text import digest_of, prefix_of
from inferry.ledger.keyring import KeyRing
from inferry.ledger.keys import KeyStore
from inferry.ledger.tables import key_changes, keys
from inferry.testing.manual_clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(database: Database, clock: ManualClock) -> KeyStore:
    return KeyStore(database, clock)


@pytest.fixture
def sqlite_store(sqlite_database: Database, clock: ManualClock) -> KeyStore:
    return KeyStore(sqlite_database, clock)


def test_a_key_is_kept_whole(store: KeyStore, clock: ManualClock) -> None:
    """What was asked for at the beginning is what comes back from the store."""
    made = store.create(
        "acme",
        name="ci",
        scopes=frozenset({"inference", "read-only"}),
        deployments=frozenset({"chat", "embed"}),
        limits=Limits(requests_per_minute=60, cost_per_month=12.5),
        priority="high",
        expires_wall_s=clock.wall_s() + 0.25,
    )
    assert made.key == ApiKey(
        id=made.key.id,
        prefix=prefix_of(made.text),
        digest=digest_of(made.text),
        tenant="acme",
        name="ci",
        scopes=frozenset({"inference", "read-only"}),
        deployments=frozenset({"chat", "embed"}),
        limits=Limits(requests_per_minute=60, cost_per_month=12.5),
        priority="high",
        created_wall_s=clock.wall_s(),
        expires_wall_s=clock.wall_s() + 0.25,
        disabled=False,
    )
    assert store.get("ci") == made.key
    assert store.list() == store.all() == [made.key]


def test_defaults(store: KeyStore) -> None:
    """A key that only names its tenant may infer, on all deployments, for ever, and has a name of its own."""
    key = store.create("acme").key
    assert (key.scopes, key.deployments, key.expires_wall_s) == (frozenset({"inference"}), None, None)
    assert (key.limits, key.priority, key.disabled) == (Limits(), "normal", False)
    assert [store.create("acme").key.name, store.create("other").key.name] == ["acme-2", "other-1"]
    assert store.get(key.id).deployments is None


def test_made_names_are_free(store: KeyStore) -> None:
    """The number goes on after removed keys and over names that are taken."""
    first = store.create("acme").key
    store.create("acme", name="acme-3")
    assert store.create("acme").key.name == "acme-4"
    store.remove(first.id)
    assert store.create("acme").key.name == "acme-5"


def test_a_key_is_found_by_what_a_person_has(store: KeyStore) -> None:
    """Id, name and prefix."""
    key = store.create("acme", name="ci").key
    assert store.get(key.id) == store.get("ci") == store.get(key.prefix) == key


def test_an_unknown_key(store: KeyStore) -> None:
    """The message has what was asked for, and a near name if there is one."""
    store.create("acme", name="nightly")
    with pytest.raises(UnknownKey, match=r"no key 'nightyl'\. Did you mean 'nightly'"):
        store.get("nightyl")


def test_a_name_of_two_tenants(store: KeyStore) -> None:
    """A name that does not say which key is meant is refused, and the ids are named."""
    ours, theirs = store.create("acme", name="ci").key, store.create("other", name="ci").key
    with pytest.raises(UnknownKey, match="Several keys are called 'ci'") as caught:
        store.get("ci")
    assert ours.id in caught.value.message
    assert theirs.id in caught.value.message


def test_a_name_twice_in_a_tenant(store: KeyStore) -> None:
    """Neither made nor changed into."""
    store.create("acme", name="ci")
    other = store.create("acme").key
    with pytest.raises(KeyNameTaken, match="tenant 'acme' has a key called 'ci' already"):
        store.create("acme", name="ci")
    with pytest.raises(KeyNameTaken):
        store.change(other.id, name="ci")
    assert store.get(other.id) == other


def test_a_secret_text_is_not_searched_for(store: KeyStore) -> None:
    """Who names a key by its text is told not to, and the text is not repeated."""
    made = store.create("acme")
    with pytest.raises(UnknownKey, match="secret text of a key") as caught:
        store.get(made.text)
    assert made.text[8:] not in caught.value.message


def test_lists_are_in_order(store: KeyStore, clock: ManualClock) -> None:
    """By tenant, then by age; or one tenant's only."""
    names = []
    for tenant in ("b", "a", "b"):
        names.append(store.create(tenant).key.name)
        clock.advance(1)
    assert [key.name for key in store.list()] == ["a-1", "b-1", "b-2"]
    assert [key.name for key in store.list("b")] == ["b-1", "b-2"]
    assert store.list("c") == []


def test_changes_take_only_what_is_named(store: KeyStore) -> None:
    """The rest stays, each limit among it; a limit that is named None is lifted."""
    before = store.create("acme", limits=Limits(requests_per_minute=60, tokens_per_day=1000)).key
    after = store.change(before.id, limits=Limits(requests_per_minute=None, choices_max=2), priority="low")
    assert after == replace(before, limits=Limits(tokens_per_day=1000, choices_max=2), priority="low")
    assert store.get(before.id) == after


def test_deployments_can_be_given_back(store: KeyStore) -> None:
    """None means all of them, in the store too."""
    key = store.create("acme", deployments=frozenset({"chat"})).key
    store.change(key.id, deployments=None)
    assert store.get(key.id).deployments is None


def test_disabled_and_back(store: KeyStore) -> None:
    """Switching off keeps everything else."""
    key = store.create("acme").key
    assert store.set_disabled(key.id, True) == store.get(key.id) == replace(key, disabled=True)
    assert store.set_disabled(key.id, False) == store.get(key.id) == key


def test_rotation_replaces_the_text(store: KeyStore, clock: ManualClock) -> None:
    """Same key, new text; without grace the old one is unknown from then on."""
    old = store.create("acme", limits=Limits(choices_max=1))
    new = store.rotate(old.key.id)
    assert new.key == replace(old.key, prefix=prefix_of(new.text), digest=digest_of(new.text))
    ring = KeyRing(store.all())
    assert ring.find(new.text.encode(), clock.wall_s()) == new.key
    with pytest.raises(InferryError, match="not known here"):
        ring.find(old.text.encode(), clock.wall_s())


def test_rotation_with_grace(store: KeyStore, clock: ManualClock) -> None:
    """Both texts are the same key until the grace is over; then only the new one."""
    old = store.create("acme")
    new = store.rotate(old.key.id, grace_s=60)
    ring = KeyRing(store.all())
    found = [ring.find(made.text.encode(), clock.wall_s() + 59) for made in (old, new)]
    assert [key.id for key in found] == [old.key.id] * 2
    with pytest.raises(InferryError, match="expired"):
        ring.find(old.text.encode(), clock.wall_s() + 60)
    assert ring.find(new.text.encode(), clock.wall_s() + 60) == new.key
    assert store.list() == [new.key]


def test_grace_does_not_outlive_the_key(store: KeyStore, clock: ManualClock) -> None:
    """The old text ends with the key itself, and is disabled with it."""
    key = store.create("acme", expires_wall_s=clock.wall_s() + 10).key
    store.rotate(key.id, grace_s=60)
    assert {form.expires_wall_s for form in store.all()} == {clock.wall_s() + 10}
    store.set_disabled(key.id, True)
    assert [form.disabled for form in store.all()] == [True, True]


def test_only_the_last_text_has_grace(store: KeyStore) -> None:
    """A second rotation ends the grace of the first."""
    first = store.create("acme")
    second = store.rotate(first.key.id, grace_s=60)
    third = store.rotate(first.key.id, grace_s=60)
    assert {key.prefix for key in store.all()} == {second.key.prefix, third.key.prefix}


def test_a_removed_key_is_gone(store: KeyStore) -> None:
    """Under all its texts."""
    key = store.create("acme").key
    store.rotate(key.id, grace_s=60)
    removed = store.remove(key.id)
    assert removed.id == key.id
    assert store.all() == []
    with pytest.raises(UnknownKey):
        store.remove(key.id)


def test_each_change_counts(store: KeyStore) -> None:
    """The version is another one after every change and the same after every look."""
    versions = [store.version()]
    made = store.create("acme")
    versions.append(store.version())
    for change in (
        lambda: store.change(made.key.id, priority="low"),
        lambda: store.set_disabled(made.key.id, True),
        lambda: store.rotate(made.key.id),
        lambda: store.remove(made.key.id),
    ):
        change()
        versions.append(store.version())
    store.list()
    store.all()
    assert len(set(versions)) == len(versions) == 6
    assert store.version() == versions[-1]


def test_a_refused_change_does_not_count(store: KeyStore) -> None:
    """Nothing was changed, so nobody needs to read again."""
    before = store.version()
    with pytest.raises(BadKeySetting):
        store.create("acme", name="no spaces")
    with pytest.raises(UnknownKey):
        store.remove("nobody")
    assert store.version() == before


def test_changes_from_many_threads_are_all_counted(store: KeyStore) -> None:
    """Keys made at once all exist, under names of their own, and each was a change."""

    def make() -> None:
        for _ in range(5):
            store.create("acme")

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({key.name for key in store.list()}) == store.version() == 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tenant": "a b"}, "tenant's name"),
        ({"tenant": ""}, "tenant's name"),
        ({"tenant": "x" * 65}, "tenant's name"),
        ({"name": "key_1"}, "begin with neither"),
        ({"name": "inf-1"}, "begin with neither"),
        ({"name": "a/b"}, "key's name"),
        ({"scopes": frozenset()}, "needs a scope"),
        ({"scopes": frozenset({"inferense"})}, "'inferense' is no scope. Did you mean 'inference'"),
        ({"deployments": frozenset()}, "needs a deployment"),
        ({"deployments": frozenset({"Chat"})}, "'Chat' can't be a deployment's name"),
        ({"priority": "hihg"}, "'hihg' is no priority. Did you mean 'high'"),
    ],
)
def test_malformed_settings(change: dict[str, object], words: str) -> None:
    """Each is refused with the field, the value and the way out."""
    key = ApiKey(id="key_1", prefix="inf-x", digest=b"", tenant="acme", name="n")
    check_key(key)
    with pytest.raises(BadKeySetting, match=words) as caught:
        check_key(replace(key, **change))  # type: ignore[arg-type]
    assert caught.value.param in change


@pytest.mark.parametrize("name", ["a", "A.b-c_d@e", "a" * 64, "a" * 65, "", "a b", "ü", "a/b"])
def test_tenants_are_called_as_in_the_file(name: str) -> None:
    """A tenant that can stand in the deployment file can own keys, and no other."""

    def accepted(settings: dict[str, object]) -> bool:
        try:
            DeploymentFile.model_validate({"deployments": {"x": {"engine": "simulated"}}, **settings})
        except ValueError:
            return False
        return True

    try:
        check_key(ApiKey(id="key_1", prefix="inf-x", digest=b"", tenant=name, name="n"))
    except BadKeySetting:
        assert not accepted({"tenants": {name: {}}})
    else:
        assert accepted({"tenants": {name: {}}})


@pytest.mark.parametrize("name", ["a", "a.b-c_d", "a" * 63, "a" * 64, "-a", "A", "ü", "a/b"])
def test_deployments_are_called_as_in_the_file(name: str) -> None:
    """A deployment that can stand in the file can be allowed, and no other."""
    file = {"deployments": {name: {"engine": "simulated"}}}
    key = ApiKey(id="key_1", prefix="inf-x", digest=b"", tenant="t", name="n", deployments=frozenset({name}))
    try:
        check_key(key)
    except BadKeySetting:
        with pytest.raises(ValueError):
            DeploymentFile.model_validate(file)
    else:
        assert name in DeploymentFile.model_validate(file).deployments


def test_an_expiry_must_be_to_come(sqlite_store: KeyStore, clock: ManualClock) -> None:
    """It is refused when it is given, and does not keep an expired key from being changed otherwise."""
    with pytest.raises(BadKeySetting, match="expired at once"):
        sqlite_store.create("acme", expires_wall_s=clock.wall_s())
    key = sqlite_store.create("acme", expires_wall_s=clock.wall_s() + 1).key
    clock.advance(2)
    assert sqlite_store.change(key.id, name="old").name == "old"
    assert sqlite_store.change(key.id, expires_wall_s=None).expires_wall_s is None


def test_grace_cannot_be_negative(sqlite_store: KeyStore) -> None:
    """A rotation into the past would be one without grace."""
    key = sqlite_store.create("acme").key
    with pytest.raises(BadKeySetting, match="can't be negative"):
        sqlite_store.rotate(key.id, grace_s=-1)


def test_the_first_admin_key(store: KeyStore) -> None:
    """It is made once, for the control API only, and opens it."""
    made = store.ensure_admin_key()
    assert made is not None
    assert (made.key.tenant, made.key.scopes) == ("admin", frozenset({"admin"}))
    version = store.version()
    assert store.ensure_admin_key() is None
    assert len(store.list()) == 1
    assert KeyRing(store.all()).find(made.text.encode(), 0) == made.key
    assert version != 0


@pytest.mark.parametrize("why", ["disabled", "expired", "removed", "other scope"])
def test_a_new_admin_key_where_none_works(sqlite_store: KeyStore, clock: ManualClock, why: str) -> None:
    """A key that opens nothing does not count."""
    made = sqlite_store.create("ops", scopes=frozenset({"admin"}), expires_wall_s=clock.wall_s() + 100)
    assert sqlite_store.ensure_admin_key() is None
    if why == "disabled":
        sqlite_store.set_disabled(made.key.id, True)
    elif why == "expired":
        clock.advance(100)
    elif why == "removed":
        sqlite_store.remove(made.key.id)
    else:
        sqlite_store.change(made.key.id, scopes=frozenset({"read-only"}))
    assert sqlite_store.ensure_admin_key() is not None


def test_instances_that_start_together_make_one_admin_key(store: KeyStore) -> None:
    """The store decides who makes it."""
    made: list[object] = []
    threads = [threading.Thread(target=lambda: made.append(store.ensure_admin_key())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert sum(one is not None for one in made) == len(store.list()) == 1


def test_the_text_is_nowhere(sqlite_database: Database, sqlite_store: KeyStore) -> None:
    """Neither in the files of the store, nor in any repr; only its prefix is."""
    made = [sqlite_store.create("acme")]
    made += [sqlite_store.rotate(made[0].key.id, grace_s=60), sqlite_store.rotate(made[0].key.id, grace_s=60)]
    files = list(Path(sqlite_database.shown).parent.iterdir())
    kept = b"".join(path.read_bytes() for path in files)
    for one in made:
        secret = one.text[len(one.key.prefix) :]
        assert one.key.prefix.encode() in kept
        assert secret.encode() not in kept
        assert (
            secret not in f"{one!r} {one.key!r} {sqlite_store!r} {sqlite_database!r} {sqlite_store.all()!r}"
        )
        assert one.key.digest.hex() not in repr(one.key)


@pytest.mark.parametrize("limits", [{"images_per_day": 3}, {"windows": [1, 2]}])
def test_limits_of_another_version(
    sqlite_database: Database, sqlite_store: KeyStore, limits: dict[str, object]
) -> None:
    """A limit that this program does not know can't be kept, so the key is not taken for one without it."""
    key = sqlite_store.create("acme").key
    with sqlite_database.write() as connection:
        connection.execute(update(keys).values(limits=limits))
    with pytest.raises(LedgerError, match=f"limits of key {key.id} can't be read"):
        sqlite_store.get(key.id)
    assert sqlite_store.all() == []


@pytest.mark.parametrize(
    "damage",
    [
        "limits = 'null'",
        "limits = '[]'",
        "limits = '{'",
        "limits = '{\"windows\": 3}'",
        "scopes = 'null'",
        "scopes = 'no JSON'",
        "scopes = '[[]]'",
        "scopes = '[1]'",
        "digest = 'text'",
        "prefix = x'00'",
        "tenant = x'00'",
        "expires_wall_s = 'soon'",
        "former_digest = x'00'",
        "former_digest = x'00', former_until_wall_s = 1",
        "deployments = '3'",
    ],
)
def test_a_row_that_is_damaged_costs_its_own_key_alone(
    sqlite_database: Database, sqlite_store: KeyStore, damage: str
) -> None:
    """Whatever stands in a row: its key is refused, the log names it, and other keys are changed as ever."""
    bad, good, revoked = (sqlite_store.create("acme").key for _ in range(3))
    with sqlite_database.write() as connection:
        connection.exec_driver_sql(f"UPDATE keys SET {damage} WHERE id = '{bad.id}'")
    sqlite_store.set_disabled(revoked.id, True)
    with capture_logs() as logged:
        found = sqlite_store.all()
    KeyRing(found)
    assert {key.id: key.disabled for key in found} == {good.id: False, revoked.id: True}
    assert [(entry["event"], entry["key"]) for entry in logged] == [("key_unreadable", bad.id)]


def test_a_lost_counter(sqlite_database: Database, sqlite_store: KeyStore) -> None:
    """A store whose counter is gone says so, rather than letting changes go unseen."""
    with sqlite_database.write() as connection:
        connection.execute(delete(key_changes))
    with pytest.raises(LedgerError, match="key_changes is empty"):
        sqlite_store.create("acme")
    with sqlite_database.read() as connection:
        assert connection.execute(select(keys)).all() == []


def test_keys_share_what_is_alike(sqlite_store: KeyStore) -> None:
    """Many keys with the same limits hold them once, so that reading and sending thousands of keys stays quick."""
    for _ in range(2):
        sqlite_store.create("acme", limits=Limits(choices_max=1), deployments=frozenset({"chat"}))
    one, other = sqlite_store.all()
    assert one.limits is other.limits
    assert one.scopes is other.scopes
    assert one.deployments is other.deployments
