"""The keys in the store: made, changed, rotated, removed. Each change is seen by whoever polls `version`."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, Unpack

import structlog
from sqlalchemy import Connection, Row, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from inferry.core.api_key import ApiKey, Scope
from inferry.core.clock import Clock
from inferry.core.errors import BadKeySetting, KeyNameTaken, LedgerError, UnknownKey
from inferry.core.limits import Limits, Priority
from inferry.core.suggest import did_you_mean
from inferry.ledger.database import Database
from inferry.ledger.key_rows import ID_MARK, check_key, key_of, row_of, usable_forms
from inferry.ledger.key_text import digest_of, looks_like_key, make_key_text, prefix_of
from inferry.ledger.tables import key_changes, keys

log = structlog.get_logger()

ADMIN_TENANT = "admin"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key and its text: the only time that anybody has it."""

    key: ApiKey
    text: str = field(repr=False)


class KeySettings(TypedDict, total=False):
    """What may be chosen about a key. What is left out has its default, or stays as it is."""

    name: str
    scopes: frozenset[Scope]
    deployments: frozenset[str] | None
    limits: Limits
    priority: Priority
    expires_wall_s: float | None


class KeyStore:
    """All keys of a store. Blocks: call it from threads and command lines.

    `which` is a key's id, its prefix, or its name if only one tenant has a key of that name. Raises UnknownKey,
    KeyNameTaken or BadKeySetting for what the caller did wrong, and LedgerError or ConfigError if the store can't
    be used.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # --- to look ---

    def version(self) -> int:
        """Another number after each change of any key. One row is read."""
        with self._database.read() as connection:
            return _version(connection)

    def all(self) -> list[ApiKey]:
        """What a KeyRing needs. A key that is being rotated is there twice: with its new text and with its old one.

        A row that can't be read is left out and logged, so that its key is refused and all others are as they are.
        """
        with self._database.read() as connection:
            return [key for row in _rows(connection) for key in _readable(row)]

    def list(self, tenant: str | None = None) -> list[ApiKey]:
        """The keys, by tenant and age; expired and disabled ones too."""
        wanted = select(keys).order_by(keys.c.tenant, keys.c.created_wall_s, keys.c.id)
        if tenant is not None:
            wanted = wanted.where(keys.c.tenant == tenant)
        with self._database.read() as connection:
            return [key_of(row) for row in connection.execute(wanted)]

    def get(self, which: str) -> ApiKey:
        with self._database.read() as connection:
            return key_of(_find(connection, which))

    # --- to change ---

    def create(self, tenant: str, **settings: Unpack[KeySettings]) -> NewKey:
        """A new key of `tenant`. Without a name it is called TENANT-1, TENANT-2 and so on."""
        with self._changing() as connection:
            return self._insert(connection, tenant, settings)

    def change(self, which: str, **settings: Unpack[KeySettings]) -> ApiKey:
        """The key with other settings. Of `limits`, only the fields that were set when it was made are taken over."""
        with self._changing() as connection:
            key = key_of(_find(connection, which))
            if "limits" in settings:
                merged = {**key.limits.model_dump(), **settings["limits"].model_dump(exclude_unset=True)}
                settings["limits"] = Limits.model_validate(merged)
            return self._update(connection, key, replace(key, **settings))

    def set_disabled(self, which: str, disabled: bool) -> ApiKey:
        """Switch a key off, or on again."""
        with self._changing() as connection:
            key = key_of(_find(connection, which))
            return self._update(connection, key, replace(key, disabled=disabled))

    def rotate(self, which: str, *, grace_s: float = 0.0) -> NewKey:
        """A new text for the same key. The old one is dead at once, or works for `grace_s` more."""
        if grace_s < 0:
            raise BadKeySetting("The grace of a rotation can't be negative", param="grace_s")
        with self._changing() as connection:
            old = key_of(_find(connection, which))
            text = make_key_text()
            new = replace(old, prefix=prefix_of(text), digest=digest_of(text))
            former = (
                (old.prefix, old.digest, self._clock.wall_s() + grace_s) if grace_s else (None, None, None)
            )
            columns = dict(
                zip(("former_prefix", "former_digest", "former_until_wall_s"), former, strict=True)
            )
            connection.execute(update(keys).where(keys.c.id == old.id).values(**row_of(new), **columns))
            return NewKey(new, text)

    def remove(self, which: str) -> ApiKey:
        """The key that was there; its id stays in the records of what it did."""
        with self._changing() as connection:
            key = key_of(_find(connection, which))
            connection.execute(delete(keys).where(keys.c.id == key.id))
            return key

    def ensure_admin_key(self) -> NewKey | None:
        """A new admin key if there is none that works now; else None. Several processes may ask at once."""
        with self._changing() as connection:
            now_s = self._clock.wall_s()
            for key in map(key_of, connection.execute(select(keys).where(keys.c.disabled.is_(False)))):
                if "admin" in key.scopes and (key.expires_wall_s is None or key.expires_wall_s > now_s):
                    return None
            return self._insert(connection, ADMIN_TENANT, {"scopes": frozenset({"admin"})})

    # --- within a transaction ---

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        """One transaction that counts as a change; changes of keys happen one after the other.

        The lock is the counter's row (on SQLite, the whole file), so that what was read stays true until the end.
        """
        with self._database.write() as connection:
            version = _version(connection, lock=True)
            yield connection
            connection.execute(update(key_changes).values(version=version + 1))

    def _insert(self, connection: Connection, tenant: str, settings: KeySettings) -> NewKey:
        text = make_key_text()
        key = ApiKey(
            id=ID_MARK + secrets.token_hex(8),
            prefix=prefix_of(text),
            digest=digest_of(text),
            tenant=tenant,
            name=settings.get("name", _free_name(connection, tenant)),
            created_wall_s=self._clock.wall_s(),
        )
        key = replace(key, **settings)
        self._check(key)
        try:
            connection.execute(insert(keys).values(**row_of(key)))
        except IntegrityError as error:
            raise _name_taken(key) from error
        return NewKey(key, text)

    def _update(self, connection: Connection, old: ApiKey, new: ApiKey) -> ApiKey:
        self._check(new, before=old)
        try:
            connection.execute(update(keys).where(keys.c.id == new.id).values(**row_of(new)))
        except IntegrityError as error:
            raise _name_taken(new) from error
        return new

    def _check(self, key: ApiKey, before: ApiKey | None = None) -> None:
        check_key(key)
        expiry_is_new = before is None or before.expires_wall_s != key.expires_wall_s
        if expiry_is_new and key.expires_wall_s is not None and key.expires_wall_s <= self._clock.wall_s():
            raise BadKeySetting("The key would be expired at once: name a time to come", param="expires")


def _version(connection: Connection, *, lock: bool = False) -> int:
    wanted = select(key_changes.c.version)
    found = connection.execute(wanted.with_for_update() if lock else wanted).scalar_one_or_none()
    if found is None:
        raise LedgerError("The store's counter of key changes is gone: its table key_changes is empty.")
    return int(found)


def _rows(connection: Connection) -> Iterable[Row[Any]]:
    try:
        return connection.execute(select(keys)).all()
    except (ValueError, TypeError):  # JSON that is none, somewhere: all but those rows
        return _rows_one_by_one(connection)


def _rows_one_by_one(connection: Connection) -> Iterator[Row[Any]]:
    for id in connection.execute(select(keys.c.id)).scalars().all():
        try:
            yield from connection.execute(select(keys).where(keys.c.id == id)).all()
        except (ValueError, TypeError) as error:
            log.error("key_unreadable", key=id, error=type(error).__name__)


def _readable(row: Row[Any]) -> Sequence[ApiKey]:
    try:
        return usable_forms(row)
    except LedgerError as error:
        log.error("key_unreadable", key=row.id, error=error.message)
        return ()


def _find(connection: Connection, which: str) -> Row[Any]:
    if looks_like_key(which):
        raise UnknownKey(
            "That is the secret text of a key. It does not belong on a command line or in an address, where others "
            "can read it: rotate that key, and name it by its id."
        )
    wanted = select(keys).where(or_(keys.c.id == which, keys.c.name == which, keys.c.prefix == which))
    found = connection.execute(wanted.order_by(keys.c.id)).all()
    if len(found) > 1:
        owners = ", ".join(f"{row.id} of {row.tenant}" for row in found)
        raise UnknownKey(f"Several keys are called '{which}': {owners}. Name it by its id.")
    if not found:
        known = connection.execute(select(keys.c.name).order_by(keys.c.name).limit(1000)).scalars().all()
        hint = did_you_mean(which, known) if len(known) < 20 else ""
        raise UnknownKey(f"There is no key '{which}'.{hint}")
    return found[0]


def _free_name(connection: Connection, tenant: str) -> str:
    taken = set(connection.execute(select(keys.c.name).where(keys.c.tenant == tenant)).scalars())
    number = len(taken) + 1
    while f"{tenant}-{number}" in taken:
        number += 1
    return f"{tenant}-{number}"


def _name_taken(key: ApiKey) -> KeyNameTaken:
    return KeyNameTaken(f"The tenant '{key.tenant}' has a key called '{key.name}' already.", param="name")
