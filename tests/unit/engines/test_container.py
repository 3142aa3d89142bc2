"""`docker run` of an engine, without Docker: its words, their grouping, and what must never be in them."""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from inferry.engines.container import (
    ContainerModel,
    Mount,
    docker_argv,
    docker_words,
    grouped,
    mounted_model,
    place_inside,
    size_text,
)

from .container_plans import FROM_HUB, FULL, PLAIN


def option(argv: tuple[str, ...], name: str) -> list[str]:
    return [value for word, value in itertools.pairwise(argv) if word == name]


def mounts(argv: tuple[str, ...]) -> list[dict[str, str]]:
    """As Docker reads them: CSV of key=value."""
    rows = [next(csv.reader(io.StringIO(text))) for text in option(argv, "--mount")]
    return [{key: value for key, _, value in (field.partition("=") for field in row)} for row in rows]


def test_the_entrypoint_is_said_and_the_arguments_follow_the_image() -> None:
    """An image's own entrypoint is never relied on: its first word is --entrypoint, the rest goes before the args."""
    argv = docker_argv(FULL)
    assert option(argv, "--entrypoint") == ["engine"]
    image = argv.index("example/engine:1.0")
    assert argv[image + 1 :] == ("--quiet", *FULL.command.args)


def test_the_port_is_on_loopback() -> None:
    """The published port can't be reached from other machines."""
    assert option(docker_argv(PLAIN), "--publish") == ["127.0.0.1:8001:8001"]


def test_only_names_of_secrets_are_written() -> None:
    """Keys and variables that the file took from outside are passed by name; no value of theirs is in the command."""
    argv = docker_argv(FULL)
    assert option(argv, "--env") == ["LEVEL=a b$", "ENGINE_API_KEY", "REGISTRY_TOKEN"]
    assert not any("t0ken-of-the-file" in word for word in argv)


def test_chosen_gpus_become_dockers_devices() -> None:
    """The GPUs of the file are given by index, quoted for Docker's CSV, and not once more by CUDA's variable,
    which inside would count from 0."""
    argv = docker_argv(FULL)
    assert option(argv, "--gpus") == ['"device=2,3"']
    assert not any("CUDA_VISIBLE_DEVICES" in word for word in argv)


def test_gpus_that_nobody_chose_are_counted() -> None:
    """Without indexes, as many GPUs as the engine needs; on the CPU, or with an empty list in the file, none."""
    two = replace(PLAIN, needs=replace(PLAIN.needs, gpus=2))
    assert option(docker_argv(two), "--gpus") == ["2"]
    assert option(docker_argv(PLAIN), "--gpus") == []
    assert option(docker_argv(replace(two, gpu_indexes=())), "--gpus") == []


def test_the_model_is_mounted_for_reading_only() -> None:
    """Model, adapters and files are bind mounts that the engine can't write; a comma in a path does no harm."""
    model, adapter, files, cache = mounts(docker_argv(FULL))
    assert model == {"type": "bind", "source": "/srv/models/big, new", "target": "/model", "readonly": ""}
    assert adapter["source"] == adapter["target"] == "/srv/adapters/law"
    assert files["source"] == "/srv/run/chat.files"
    assert files["target"] == "/inferry"
    assert all("readonly" in each for each in (adapter, files))
    assert cache == {"type": "volume", "source": "inferry-chat-cache", "target": "/var/cache/engine"}


def test_shared_memory_stop_time_and_user() -> None:
    """What the deployment and the engine want of the container is said in Docker's words."""
    argv = docker_argv(FULL)
    assert option(argv, "--shm-size") == ["8g"]
    assert option(argv, "--stop-timeout") == ["31"]
    assert option(argv, "--user") == ["1000:1000"]
    assert option(docker_argv(PLAIN), "--user") == []


def test_the_name_is_one_that_docker_takes() -> None:
    """Also for a deployment of one letter, which Docker would refuse as it is."""
    assert option(docker_argv(replace(PLAIN, name="m")), "--name") == ["inferry-m"]


@pytest.mark.parametrize(("policy", "words"), [("always", {"--detach", "--restart"}), (None, {"--rm"})])
def test_restart_policy(policy: str | None, words: set[str]) -> None:
    """With a policy the container stays and runs behind; without one it goes when the engine ends."""
    argv = docker_argv(replace(PLAIN, restart=policy))
    assert {"--detach", "--restart", "--rm"} & set(argv) == words


def test_the_hubs_token_is_passed_where_the_hub_is_asked() -> None:
    """An engine that fetches from the hub may have the token, by name; others are not given it."""
    assert option(docker_argv(FROM_HUB), "--env") == ["HF_TOKEN"]
    assert option(docker_argv(PLAIN), "--env") == []
    library = replace(PLAIN, model=ContainerModel("llama3.2:1b", None))
    assert option(docker_argv(library), "--env") == []


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/m/folder", ContainerModel("/model", Mount(Path("/m/folder"), "/model"))),
        ("/m/a.gguf", ContainerModel("/model/a.gguf", Mount(Path("/m/a.gguf"), "/model/a.gguf"))),
        (
            "/m/a-00001-of-00003.gguf",
            ContainerModel("/model/a-00001-of-00003.gguf", Mount(Path("/m"), "/model")),
        ),
    ],
)
def test_how_a_model_is_mounted(path: str, model: ContainerModel) -> None:
    """A folder as a folder, a file as a file, and of a file in parts the folder with all of them."""
    assert mounted_model(Path(path)) == model


def test_inside_it_listens_for_all() -> None:
    """In a container the engine listens on every address: otherwise nothing outside would reach it."""
    place = place_inside(PLAIN.model, 8001, "chat", 2)
    assert (place.host, place.port, place.model, place.folder) == ("0.0.0.0", 8001, "/model", "/inferry")


def test_groups_are_the_whole_command() -> None:
    """The lines of the readable form, put together, are the command."""
    assert sum(docker_words(FULL), ()) == docker_argv(FULL)


def test_a_flag_has_its_values_beside_it() -> None:
    """A negative number is a value, not a flag."""
    words = ("serve", "m", "--chunk", "-1", "--fast", "--lora", "a=b", "c=d", "-x", "-0.5")
    assert grouped(words) == [
        ("serve", "m"), ("--chunk", "-1"), ("--fast",), ("--lora", "a=b", "c=d"), ("-x", "-0.5")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "text"), [(8 * 1024**3, "8g"), (64 * 1024**2, "64m"), (1536, "1536"), (2048, "2k")]
)
def test_sizes(size: int, text: str) -> None:
    """Sizes are exact: the largest unit that divides them."""
    assert size_text(size) == text
