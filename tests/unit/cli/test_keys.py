"""`inferry keys`, as a person and as a program see it."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from inferry.cli.key_options import option_of
from inferry.cli.key_table import SHORT_LIMITS
from inferry.core.clock import SystemClock
from inferry.core.errors import InferryError
from inferry.core.limits import Limits
from inferry.ledger.database import default_url, open_database
from inferry.ledger.key_text import TEXT_PATTERN
from inferry.ledger.keyring import KeyRing
from inferry.ledger.keys import KeyStore

from .conftest import Run, Shown

FILE = """\
gateway:
  auth: {auth}
{ledger}
tenants:
  acme: {{}}
deployments:
  chat:
    engine: simulated
  embed:
    engine: simulated
"""


def write_file(path: Path, *, auth: str = "keys", ledger: str = "") -> None:
    path.write_text(FILE.format(auth=auth, ledger=ledger))


def ring(url: str | None = None) -> KeyRing:
    """What a gateway on that store would know; the default store of the test's home if none is named."""
    database = open_database(default_url(Path("home").absolute()) if url is None else url)
    try:
        return KeyRing(KeyStore(database, SystemClock()).all())
    finally:
        database.close()


def opens(text: str, url: str | None = None) -> bool:
    try:
        ring(url).find(text.encode(), SystemClock().wall_s())
    except InferryError:
        return False
    return True


def as_json(shown: Shown) -> Any:
    assert shown.code == 0, shown.err
    return json.loads(shown.out)


def create(run: Run, *more: str) -> dict[str, Any]:
    made: dict[str, Any] = as_json(run("keys", "create", "--tenant", "acme", *more, "--json"))
    return made


def test_create_for_programs(run: Run) -> None:
    """One object with the text as `key`; the text works, and the key is as it was asked for."""
    made = create(
        run,
        *("--name", "ci", "--scope", "inference", "--scope", "read-only", "--deployment", "chat"),
        *(
            "--requests-per-minute",
            "60",
            "--cost-per-day",
            "2.5",
            "--priority",
            "low",
            "--expires",
            "2100-01-31",
        ),
    )
    text, identity = made.pop("key"), made.pop("id")
    assert re.fullmatch(TEXT_PATTERN, text)
    assert opens(text)
    assert identity.startswith("key_")
    assert made.pop("created_at")
    assert made == {
        "tenant": "acme",
        "name": "ci",
        "state": "active",
        "prefix": text[:16],
        "scopes": ["inference", "read-only"],
        "deployments": ["chat"],
        "limits": {"requests_per_minute": 60, "cost_per_day": 2.5},
        "priority": "low",
        "expires_at": "2100-01-31 00:00:00Z",
    }


def test_create_for_people(run: Run) -> None:
    """The text is on stdout, and stderr says that it is not shown again."""
    shown = run("keys", "create", "--tenant", "acme")
    assert shown.code == 0
    [text] = re.findall(TEXT_PATTERN, shown.out)
    assert opens(text)
    assert "Keep the key now" in shown.err
    assert text not in run("keys", "list").out + run("keys", "show", "acme-1").out


def test_the_text_is_not_in_the_home(run: Run) -> None:
    """After create and rotate, no file below INFERRY_HOME has a text, neither in clear nor in hexadecimal."""
    texts = [create(run)["key"]]
    texts.append(as_json(run("keys", "rotate", "acme-1", "--grace", "1h", "--json"))["key"])
    kept = b"".join(path.read_bytes() for path in Path("home").rglob("*") if path.is_file())
    assert b"acme-1" in kept
    for text in texts:
        assert text[16:].encode() not in kept
        assert text.encode().hex().encode() not in kept


def test_every_limit_has_an_option(run: Run) -> None:
    """A limit of core/limits.py can be set with create, lifted with change, and has a short name in the list."""
    assert set(SHORT_LIMITS) == set(Limits.model_fields)
    flags = [part for name in Limits.model_fields for part in (option_of(name), "7")]
    assert create(run, *flags)["limits"] == dict.fromkeys(Limits.model_fields, 7)
    listed = run("keys", "list").out
    assert [
        short
        for short in SHORT_LIMITS.values()
        if f"7 {short}" not in listed and f"7.0 {short}" not in listed
    ] == []
    for name in Limits.model_fields:
        left = as_json(run("keys", "change", "acme-1", option_of(name), "none", "--json"))["limits"]
        assert name not in left
    assert left == {}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--requests-per-minute", "many"), "--requests-per-minute many: input should be a valid integer"),
        (("--choices-max", "0"), "--choices-max 0: input should be greater than or equal to 1"),
        (("--cost-per-day", "nan"), "--cost-per-day nan"),
        (("--scope", "admn"), "'admn' is no scope. Did you mean 'admin'?"),
        (("--name", "a b"), "'a b' can't be a key's name"),
        (("--deployment", "Chat"), "'Chat' can't be a deployment's name"),
        (("--expires", "soon"), "'soon' is no time"),
        (("--expires", "2020-01-01"), "expired at once"),
    ],
)
def test_bad_settings(run: Run, flags: tuple[str, ...], words: str) -> None:
    """The message has the option and the value, and no key is made."""
    shown = run("keys", "create", "--tenant", "acme", *flags)
    assert (shown.code, shown.out) == (1, "")
    assert words in shown.err
    assert as_json(run("keys", "list", "--json")) == []


def test_a_bad_tenant(run: Run) -> None:
    """The message says what a tenant may be called."""
    shown = run("keys", "create", "--tenant", "a b")
    assert shown.code == 1
    assert "'a b' can't be a tenant's name: use letters, digits and . _ - @" in shown.err


def test_the_list(run: Run) -> None:
    """State, tenant, name, id, prefix, scopes, deployments, limits, created, expires; each whole."""
    assert "There are no keys yet. 'inferry keys create --tenant NAME'" in run("keys", "list").out
    made = create(run, "--tokens-per-day", "1000000", "--deployment", "chat", "--deployment", "embed")
    run("keys", "create", "--tenant", "zoo", "--scope", "admin", "--expires", "2100-01-31")
    run("keys", "disable", "zoo-1")
    head, first, second = run("keys", "list").out.splitlines()
    assert head.split() == [
        "STATE",
        "TENANT",
        "NAME",
        "ID",
        "PREFIX",
        "SCOPES",
        "DEPLOYMENTS",
        "LIMITS",
        "CREATED",
        "EXPIRES",
    ]
    assert first.split()[:7] == [
        "active",
        "acme",
        "acme-1",
        made["id"],
        made["prefix"],
        "inference",
        "chat,embed",
    ]
    assert "1,000,000 tok/day" in first
    assert second.split()[:3] == ["disabled", "zoo", "zoo-1"]
    assert second.endswith("2100-01-31 00:00:00Z")
    assert [key["name"] for key in as_json(run("keys", "list", "--tenant", "zoo", "--json"))] == ["zoo-1"]
    assert "no keys of tenant 'nobody' yet" in run("keys", "list", "--tenant", "nobody").out


def test_an_expired_key_is_shown_as_such(run: Run) -> None:
    """In list and show."""
    create(run, "--expires", "1d")
    with sqlite3.connect("home/ledger/ledger.sqlite") as connection:
        connection.execute("UPDATE keys SET expires_wall_s = 1")
    connection.close()
    assert run("keys", "list").out.splitlines()[1].startswith("expired")
    assert as_json(run("keys", "show", "acme-1", "--json"))["state"] == "expired"


def test_change_keeps_the_rest(run: Run) -> None:
    """What is not named stays; --all-deployments and `never` take limits away."""
    made = create(run, "--deployment", "chat", "--requests-per-minute", "5", "--expires", "1d")
    changed = as_json(
        run(
            "keys",
            "change",
            "acme-1",
            "--choices-max",
            "2",
            "--all-deployments",
            "--expires",
            "never",
            "--json",
        )
    )
    assert changed["limits"] == {"requests_per_minute": 5, "choices_max": 2}
    assert (changed["deployments"], changed["expires_at"], changed["id"]) == (None, None, made["id"])
    assert opens(made["key"])


def test_change_needs_something_to_change(run: Run) -> None:
    """Nothing named, or two things that contradict each other."""
    create(run)
    assert "Nothing to change" in run("keys", "change", "acme-1").err
    both = run("keys", "change", "acme-1", "--deployment", "chat", "--all-deployments")
    assert (both.code, "contradict" in both.err) == (1, True)


def test_disable_and_enable(run: Run) -> None:
    """Off and on again, for people and programs."""
    made = create(run)
    assert run("keys", "disable", "acme-1").out == f"{made['id']} (acme-1) of acme is disabled.\n"
    assert not opens(made["key"])
    assert as_json(run("keys", "enable", made["id"], "--json"))["state"] == "active"
    assert opens(made["key"])


def test_rotate(run: Run) -> None:
    """A new text for the same id; the old one works only with a grace."""
    made = create(run)
    new = as_json(run("keys", "rotate", "acme-1", "--json"))
    assert new["id"] == made["id"]
    assert (opens(made["key"]), opens(new["key"])) == (False, True)
    graced = run("keys", "rotate", "acme-1", "--grace", "10m", "--json")
    assert re.fullmatch(r"The old text works until \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ\.\n", graced.err)
    newer = as_json(graced)
    assert (opens(new["key"]), opens(newer["key"])) == (True, True)
    assert "'soon' is no time span" in run("keys", "rotate", "acme-1", "--grace", "soon").err


def test_rm_asks(run: Run) -> None:
    """A no leaves the key, a yes or --yes deletes it."""
    made = create(run)
    assert run("keys", "rm", "acme-1", typed="n\n").code == 1
    assert opens(made["key"])
    assert run("keys", "rm", "acme-1", typed="y\n").out.endswith(
        f"{made['id']} (acme-1) of acme is deleted.\n"
    )
    assert not opens(made["key"])
    create(run)
    assert as_json(run("keys", "rm", "acme-1", "--yes", "--json"))["name"] == "acme-1"
    assert as_json(run("keys", "list", "--json")) == []


def test_an_unknown_key(run: Run) -> None:
    """Named, with a near one; a secret text is not repeated."""
    made = create(run, "--name", "nightly")
    assert "no key 'nigthly'. Did you mean 'nightly'?" in run("keys", "show", "nigthly").err
    typed = run("keys", "show", made["key"])
    assert typed.code == 1
    assert "secret text of a key" in typed.err
    assert made["key"][8:] not in typed.err


def test_the_store_of_a_file(run: Run, tmp_path: Path) -> None:
    """--file names the deployment file; without it inferry.yaml here; without that, the home's store."""
    write_file(tmp_path / "inferry.yaml", ledger=f"ledger:\n  url: sqlite:///{tmp_path}/here.sqlite")
    write_file(tmp_path / "other.yaml", ledger=f"ledger:\n  url: sqlite:///{tmp_path}/other.sqlite")
    here = create(run)["key"]
    other = create(run, "--file", "other.yaml")["key"]
    (tmp_path / "inferry.yaml").unlink()
    home = create(run)["key"]
    stores = (f"sqlite:///{tmp_path}/here.sqlite", f"sqlite:///{tmp_path}/other.sqlite", None)
    assert [[opens(text, url) for url in stores] for text in (here, other, home)] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


def test_a_file_without_a_store_means_the_home(run: Run, tmp_path: Path) -> None:
    """As it does for `inferry up`."""
    write_file(tmp_path / "inferry.yaml")
    assert opens(create(run)["key"])


def test_a_file_that_is_not_there(run: Run) -> None:
    """A wrong --file is an error, not the default store."""
    shown = run("keys", "list", "--file", "nowhere.yaml")
    assert shown.code == 1
    assert "nowhere.yaml" in shown.err


def test_warnings(run: Run, tmp_path: Path) -> None:
    """What the file does not know or ask for is said on stderr; the key is made all the same."""
    write_file(tmp_path / "inferry.yaml", auth="none")
    shown = run(
        "keys", "create", "--tenant", "acmee", "--deployment", "chatt", "--deployment", "embed", "--json"
    )
    assert opens(as_json(shown)["key"])
    assert shown.err.splitlines() == [
        "warning: inferry.yaml does not ask for keys yet; write 'auth: keys' under 'gateway:'.",
        "warning: inferry.yaml has no tenant 'acmee', so no limits for all its keys together. Did you mean 'acme'?",
        "warning: inferry.yaml has no deployment 'chatt'. Did you mean 'chat'?",
    ]
    changed = run("keys", "change", "acmee-1", "--deployment", "embd")
    assert changed.err == "warning: inferry.yaml has no deployment 'embd'. Did you mean 'embed'?\n"


def test_no_warning_where_all_is_well(run: Run, tmp_path: Path) -> None:
    """A key for what the file has makes no noise, nor does one that no tenant's limits are about."""
    write_file(tmp_path / "inferry.yaml")
    for flags in (("--tenant", "acme", "--deployment", "chat"), ("--tenant", "ops", "--scope", "admin")):
        shown = run("keys", "create", *flags, "--json")
        assert (shown.code, shown.err) == (0, "")


def test_a_broken_store(run: Run, tmp_path: Path) -> None:
    """A message with the store's path, and no traceback."""
    (tmp_path / "home" / "ledger").mkdir(parents=True)
    (tmp_path / "home" / "ledger" / "ledger.sqlite").write_text("not a database" * 100)
    shown = run("keys", "list")
    assert shown.code == 1
    assert f"{tmp_path}/home/ledger/ledger.sqlite can't be used" in shown.err
