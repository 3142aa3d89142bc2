"""Reading the deployment file: YAML, lines, and references to the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from inferry.core import config_file
from inferry.core.config_file import FILE_BYTES_MAX, KeyPath, LoadedFile, load_file, parse_text
from inferry.core.config_wording import dotted
from inferry.core.errors import ConfigError
from inferry.core.gateway_settings import Tls
from inferry.core.local_engines import LlamaCppDeployment, SimulatedDeployment
from inferry.core.remote_engines import OpenAIDeployment

CHAT = "deployments:\n  chat:\n    engine: simulated\n"
OUTSIDE = "deployments:\n  out:\n    engine: openai\n    model: m\n    endpoints: [http://h:1/v1]\n"


def parse(text: str, **environ: str) -> LoadedFile:
    return parse_text(text, Path("/srv/inferry.yaml"), environ)


def problem(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, **environ)
    return caught.value.message


def simulated(loaded: LoadedFile, name: str = "chat") -> SimulatedDeployment:
    deployment = loaded.config.deployments[name]
    assert isinstance(deployment, SimulatedDeployment)
    return deployment


# --- the file itself ----------------------------------------------------------------------------------


def test_small_file_gets_every_default() -> None:
    """An engine is all that a deployment needs; the gateway listens on loopback."""
    config = parse(CHAT).config
    assert (config.gateway.host, config.gateway.port) == ("127.0.0.1", 8000)
    assert not config.gateway.allow_unauthenticated
    assert simulated(parse(CHAT)).replicas == 1


def test_lines_are_of_the_keys() -> None:
    """Each key's line is known, in flow style and in lists too."""
    lines = parse(CHAT + "    aliases:\n      - a\n      - b\ngateway: {listen: localhost:1}\n").lines
    assert lines["deployments", "chat", "engine"] == 3
    assert lines["deployments", "chat", "aliases"] == 4
    assert lines["deployments", "chat", "aliases", 1] == 6
    assert lines["gateway", "listen"] == 7


def test_byte_order_mark_is_ignored() -> None:
    """A file saved by an editor that puts a mark at the start is read like any other."""
    assert simulated(parse("\ufeff" + CHAT)).engine == "simulated"


def test_alias_is_a_copy_with_lines_of_its_own_keys() -> None:
    """`*name` repeats a group of keys, and an error in it points to the text that is wrong."""
    twins = "deployments:\n  a: &one\n    engine: simulated\n    replicas: {}\n  b: *one\n"
    config = parse(twins.format(3)).config
    assert config.deployments["a"] == config.deployments["b"]
    assert problem(twins.format(0)).splitlines() == [
        "inferry.yaml:4: deployments.a.replicas: must be at least 1, not 0",
        "inferry.yaml:4: deployments.b.replicas: must be at least 1, not 0",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "/srv/inferry.yaml is empty. 'inferry init' writes an example."),
        ("# only a comment\n", "/srv/inferry.yaml is empty. 'inferry init' writes an example."),
        ("hello", "/srv/inferry.yaml must hold keys such as 'deployments:', not 'hello'"),
        ("- a", "/srv/inferry.yaml must hold keys such as 'deployments:', not a list"),
        ("a: b: c\n", "inferry.yaml:1: this is not YAML: mapping values are not allowed here"),
        (
            "a:\n\tb: c\n",
            "inferry.yaml:2: this is not YAML: while scanning for the next token found character '\\t' "
            "that cannot start any token",
        ),
        (
            CHAT + "---\n" + CHAT,
            "inferry.yaml:4: this is not YAML: expected a single document in the stream but found another document",
        ),
        (
            CHAT + "    model: a\0b\n",
            "inferry.yaml: this is not YAML: unacceptable character #x0000: special characters are not allowed "
            'in "<unicode string>", position 55',
        ),
        (
            CHAT + "    model: 2026-02-30\n",
            "inferry.yaml:4: deployments.chat.model: '2026-02-30' can't be read: day is out of range for month",
        ),
        (
            CHAT + "    replicas: !!int many\n",
            "inferry.yaml:4: deployments.chat.replicas: 'many' can't be read: "
            "invalid literal for int() with base 10: 'many'",
        ),
        (
            CHAT + "    replicas: 1\n    replicas: 2\n",
            "inferry.yaml:5: deployments.chat.replicas stands here twice (first in line 4)",
        ),
        (
            CHAT + "gateway: {}\n'gateway': {}\n",
            "inferry.yaml:5: gateway stands here twice (first in line 4)",
        ),
        (
            "deployments: {1: {}, '1': {}}",
            "inferry.yaml:1: deployments.1 stands here twice (first in line 1)",
        ),
        (CHAT + "    model: " + "[" * 5000, "inferry.yaml: nested too deeply"),
        (
            "a: &a [*a]\n",
            f"inferry.yaml:1: a{'.0' * 20}: nested too deeply, or an alias that contains itself",
        ),
    ],
)
def test_what_is_not_a_deployment_file(text: str, message: str) -> None:
    """Whatever stands in the file, it is answered with its place and what is wrong, never with a traceback."""
    assert problem(text) == message


def test_python_objects_are_not_built() -> None:
    """A YAML tag can't make the reader run code."""
    assert "could not determine a constructor for the tag" in problem(
        CHAT + "    model: !!python/object/apply:os.getcwd []\n".replace("[]", "x")
    )


def test_aliases_of_aliases_end() -> None:
    """A few lines that would unfold to ten thousand million values are refused at once."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert problem("\n".join(lines)).endswith("the file holds more than 100000 values, aliases followed")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, not UTF-8, too long: each names the path and says what to do or what it is."""
    missing, wrong, long = tmp_path / "no.yaml", tmp_path / "latin.yaml", tmp_path / "long.yaml"
    wrong.write_bytes(b"model: caf\xe9\n")
    long.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    said = {}
    for path in (missing, tmp_path, wrong, long):
        with pytest.raises(ConfigError) as caught:
            load_file(path, {})
        said[path] = caught.value.message
    assert said[missing].startswith(f"{missing} does not exist. Write one with 'inferry init'")
    assert said[tmp_path] == f"{tmp_path} is a folder: name the file in it"
    assert said[wrong].startswith(f"{wrong} can't be read: 'utf-8' codec can't decode byte 0xe9")
    assert said[long] == f"{long} is larger than {FILE_BYTES_MAX} bytes: that is no deployment file"


def test_relative_paths_are_below_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`file:` models and binaries with a slash are found from the file's folder, wherever one stands."""
    monkeypatch.setenv("HOME", "/home/ann")
    path = tmp_path / "inferry.yaml"
    path.write_text(
        "deployments:\n"
        "  rel: {engine: llamacpp, model: 'file:m/a.gguf', binary: bin/llama-server}\n"
        "  abs: {engine: llamacpp, model: 'file:/m/a.gguf', binary: llama-server}\n"
        "  home: {engine: llamacpp, model: 'file:~/a.gguf', binary: ~/llama-server}\n"
    )
    found = {}
    for name, deployment in load_file(path, {}).config.deployments.items():
        assert isinstance(deployment, LlamaCppDeployment)
        found[name] = (deployment.model, deployment.binary)
    assert found == {
        "rel": (f"file:{tmp_path}/m/a.gguf", f"{tmp_path}/bin/llama-server"),
        "abs": ("file:/m/a.gguf", "llama-server"),
        "home": ("file:/home/ann/a.gguf", "/home/ann/llama-server"),
    }


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_ordinary_files_are_read(tmp_path: Path, kind: str) -> None:
    """A pipe, which would block, and a device, which may never end, are refused at once."""
    path = Path("/dev/zero")
    if kind == "pipe":
        path = tmp_path / "inferry.yaml"
        os.mkfifo(path)
    with pytest.raises(ConfigError, match="is no ordinary file"):
        load_file(path, {})


# --- references ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "environ", "model"),
    [
        ("${M}", {"M": "x"}, "x"),
        ("a-${M}-${N}", {"M": "x", "N": "y"}, "a-x-y"),
        ("${M:-d}", {}, "d"),
        ("${M:-d}", {"M": ""}, "d"),
        ("${M:-d}", {"M": "x"}, "x"),
        ("${M:-}", {}, ""),
        ("${M}", {"M": ""}, ""),
        ("${M}", {"M": "${N}", "N": "y"}, "${N}"),
        ("$${M}", {"M": "x"}, "${M}"),
        ("$${M}-${M}", {"M": "x"}, "${M}-x"),
        ("$M {M} ${1} $", {"M": "x"}, "$M {M} ${1} $"),
    ],
)
def test_references_are_replaced_once(written: str, environ: Mapping[str, str], model: str) -> None:
    """`${M}`, `${M:-default}` and `$${M}` mean what they mean in a shell; what comes in is not read again."""
    loaded = parse(CHAT + f"    model: '{written}'\n", **environ)
    assert simulated(loaded).model == model


def test_reference_keeps_its_text_and_never_its_value() -> None:
    """`LoadedFile.references` holds what the file says, for every value that used the environment."""
    text = CHAT + "    model: ${M}-${N:-d}\n    aliases: [a, '${A}']\n    replicas: ${R}\n"
    loaded = parse(text, M="secret-m", A="secret-a", R="4")
    assert loaded.references == {
        ("deployments", "chat", "model"): "${M}-${N:-d}",
        ("deployments", "chat", "aliases", 1): "${A}",
        ("deployments", "chat", "replicas"): "${R}",
    }
    assert simulated(loaded).replicas == 4


def test_what_the_environment_gave_is_told_from_defaults() -> None:
    """A reference whose default was used did not use the environment; all names are kept."""
    text = "deployments:\n  a: {engine: simulated, model: '${M:-m}', aliases: ['${A}']}\n"
    loaded = parse_text(text, Path("inferry.yaml"), {"A": "x"})
    assert loaded.from_environment == {("deployments", "a", "aliases", 0)}
    assert loaded.variables == {"M", "A"}


@pytest.mark.parametrize("text", ["    model: ${M}\n", "    aliases: [ok, 'a-${M}']\n"])
def test_missing_variable_is_named(text: str) -> None:
    """A variable that is not set fails with its place and both ways out, in lists too."""
    place = "model" if "model" in text else "aliases.1"
    assert problem(CHAT + text) == (
        f"inferry.yaml:4: deployments.chat.{place}: the environment variable M is not set. "
        "Set it, or give a default: ${M:-value}"
    )


def test_all_missing_variables_at_once() -> None:
    """One run names every variable that is missing."""
    said = problem(CHAT + "    model: ${M}${N}\n    replicas: ${R}\n").splitlines()
    assert [line.split(" is not set")[0].rsplit(" ", 1)[1] for line in said] == ["M", "N", "R"]


@pytest.mark.parametrize(
    "text",
    [
        CHAT + "    replicas: ${S}\n",
        CHAT + "    aliases: ['no alias: ${S}']\n",
        CHAT + "gateway: {listen: '${S}'}\n",
        CHAT + "    routing: {policy: '${S}'}\n",
        "deployments: {a: {engine: '${S}'}}",
        "deployments: {a: {engine: llamacpp, model: '${S}'}}",
        "deployments: {a: {engine: openai, model: m, endpoints: [http://h/v1, '${S}']}}",
        "deployments: {a: {engine: openai, model: m, endpoints: ['${S}']}}",
    ],
)
@pytest.mark.parametrize("value", ["hunter2 hunter2", "hunter2", "ftp://u:hunter2@h/v1", "0.0.0.0:hunter2"])
def test_error_shows_the_reference_and_not_the_value(text: str, value: str) -> None:
    """What came from the environment may be a secret: no error message prints it."""
    said = problem(text, S=value)
    assert said.startswith("inferry.yaml:")
    assert "hunter2" not in said


# --- secrets ------------------------------------------------------------------------------------------


def test_key_by_reference_is_kept_secret() -> None:
    """An API key comes in by a reference, and does not show in the config's repr."""
    loaded = parse(OUTSIDE + "    api_key: ${KEY}\n", KEY="sk-hunter2")
    deployment = loaded.config.deployments["out"]
    assert isinstance(deployment, OpenAIDeployment)
    assert deployment.api_key is not None
    assert deployment.api_key.get_secret_value() == "sk-hunter2"
    assert "hunter2" not in repr(loaded)


@pytest.mark.parametrize(
    "written", ["sk-hunter2", "12345", "{a: hunter2}", "${KEY:-sk-hunter2}", "sk-hunter2${KEY}", "$${KEY}"]
)
def test_key_in_the_file_is_refused(written: str) -> None:
    """A key that stands in the file, wholly, in part or as a default, is refused and not repeated."""
    said = problem(OUTSIDE + f"    api_key: {written}\n", KEY="")
    assert said == (
        "inferry.yaml:6: deployments.out.api_key: a key in the file would be stored in clear: "
        "write ${NAME} and set NAME outside"
    )


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "the key is empty"),
        ("abc\n", "the key holds"),
        ("abc\r\nX-Evil: 1", "the key holds"),
        ("schlüssel", "the key holds"),
    ],
)
def test_key_that_fits_no_header(key: str, why: str) -> None:
    """A key with a line break would become a header of its own: it is refused where it comes in."""
    said = problem(OUTSIDE + "    api_key: ${KEY}\n", KEY=key)
    assert said.startswith(f"inferry.yaml:6: deployments.out.api_key: {why}")
    assert "Evil" not in said


def test_relative_certificates_stand_beside_the_file(tmp_path: Path) -> None:
    """Paths below `tls:` are meant from the file's folder, wherever `inferry` is started."""
    path = tmp_path / "inferry.yaml"
    path.write_text(
        "gateway: {tls: {certificate: certs/a.pem, key: /etc/a.key}}\n"
        "admin: {tls: {certificate: b.pem, key: b.key}}\n"
        "deployments: {chat: {engine: simulated}}\n"
    )
    config = load_file(path, {}).config
    assert config.gateway.tls == Tls(certificate=str(tmp_path / "certs/a.pem"), key="/etc/a.key")
    assert config.admin.tls == Tls(certificate=str(tmp_path / "b.pem"), key=str(tmp_path / "b.key"))


def test_messages_get_the_line_of_the_key_that_they_begin_with() -> None:
    """The longest key that is written counts; a sentence that begins with a section's name is left alone."""
    loaded = parse(CHAT + "    routing: {policy: weighted}\nhost: {}\n")
    for line, placed in (
        ("deployments.chat.routing.policy: x", "inferry.yaml:4: "),
        ("deployments.chat.routing.decay_s: x", "inferry.yaml:4: "),
        ("deployments.chat can't be", "inferry.yaml:2: "),
        ("deployments.chat-2 can't be", "inferry.yaml:1: "),
        ("host.memory_budget is", "inferry.yaml:5: "),
        ("host unreachable", ""),
    ):
        assert loaded.placed(f"{line}\nwhat else") == f"{placed}{line}\nwhat else"


def test_messages_name_deployments_with_dots() -> None:
    """The one whose whole name is there, not the one whose name begins alike."""
    loaded = parse("deployments:\n  a: {engine: simulated}\n  a.b:\n    engine: simulated\n")
    assert loaded.placed("deployments.a.b can't be") == "inferry.yaml:3: deployments.a.b can't be"
    assert loaded.placed("deployments.a.b.engine: x") == "inferry.yaml:4: deployments.a.b.engine: x"
    assert loaded.placed("deployments.a: x") == "inferry.yaml:2: deployments.a: x"


def test_a_message_of_many_lines_looks_at_each_key_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at each key for each line, which takes seconds for a file of 500 deployments."""
    loaded = parse("deployments:\n" + "".join(f"  chat-{i}: {{engine: simulated}}\n" for i in range(50)))
    looked_at: list[KeyPath] = []

    def counted(at: KeyPath) -> str:
        looked_at.append(at)
        return dotted(at)

    monkeypatch.setattr(config_file, "dotted", counted)
    lines = [f"deployments.chat-{i}.engine can't be" for i in range(50)]
    assert loaded.placed("\n".join(lines)).splitlines() == [
        f"inferry.yaml:{number}: {line}" for number, line in enumerate(lines, 2)
    ]
    assert sorted(map(str, looked_at)) == sorted(map(str, loaded.lines))
