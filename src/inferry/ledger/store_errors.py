"""The border to the database drivers: their failures in our words, and never with a password or a value in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from inferry.core.errors import ConfigError, LedgerError, LedgerUnavailable

# What drivers say, and what an operator can do about it. The first match counts.
_OPERATOR_MUST_ACT = (
    ("no such table", "it is not prepared, or no Inferry store"),
    ("undefinedtable", "it is not prepared, or no Inferry store"),
    ("undefinedcolumn", "it was made by another version of Inferry"),
    ("no such column", "it was made by another version of Inferry"),
    ("file is not a database", "that file is something else than a SQLite database"),
    ("malformed", "the file is damaged; bring back a copy of it"),
    (
        "unable to open database file",
        "the file is not there, or can't be opened; look at its permissions and its folder's",
    ),
    ("password authentication failed", "the user or password is wrong"),
    ("no password supplied", "it asks for a password, and the URL has none"),
    ("does not exist", "the database, user or table is not there; create it first"),
    (
        "permission denied",
        "this user may not do that there; grant it CREATE, SELECT, INSERT, UPDATE and DELETE",
    ),
    ("insufficientprivilege", "this user may not do that there"),
)
_MAY_PASS = (
    ("readonly database", "it is read-only"),
    ("readonlysqltransaction", "it is read-only, maybe a standby"),
    ("database or disk is full", "its disk is full"),
    ("diskfull", "its disk is full"),
    ("no space left", "its disk is full"),
    ("disk i/o error", "its disk fails"),
    ("database is locked", "another program holds it locked"),
    ("locknotavailable", "another program holds it locked"),
    ("lock timeout", "another program holds it locked"),
    ("too many clients", "it has too many connections"),
    ("toomanyconnections", "it has too many connections"),
    ("deadlock", "two programs wanted the same rows; try again"),
)


@contextmanager
def map_store_errors(shown_store: str) -> Iterator[None]:
    """Turns every error of SQLAlchemy and its drivers into ConfigError, LedgerUnavailable or LedgerError.

    `shown_store` names the store in the message, without its password. IntegrityError passes: only the caller
    knows what a duplicate means.
    """
    try:
        yield
    except exc.IntegrityError:
        raise
    except exc.TimeoutError as error:
        raise LedgerUnavailable(f"The store {shown_store} is too busy: no connection became free.") from error
    except exc.DBAPIError as error:
        raise _in_our_words(shown_store, error) from error
    except exc.SQLAlchemyError as error:
        # Its text may quote statements and values: only its kind is told.
        raise LedgerError(f"The store {shown_store} failed: {type(error).__name__}.") from error


def _in_our_words(shown_store: str, error: exc.DBAPIError) -> ConfigError | LedgerError:
    # Drivers' own texts quote the offending row or the connection string in places, so they are matched, not shown.
    said = f"{type(error.orig).__name__} {error.orig}".lower()
    for part, meaning in _MAY_PASS:
        if part in said:
            return LedgerUnavailable(f"The store {shown_store} can't be used now: {meaning}.")
    for part, meaning in _OPERATOR_MUST_ACT:
        if part in said:
            return ConfigError(f"The store {shown_store} can't be used: {meaning}.")
    if type(error.orig).__module__.startswith("psycopg") and isinstance(error, exc.OperationalError):
        return LedgerUnavailable(
            f"The store {shown_store} can't be reached. Does the server run there, and is its name right?"
        )
    return LedgerError(f"The store {shown_store} failed: {type(error.orig).__name__}.")
