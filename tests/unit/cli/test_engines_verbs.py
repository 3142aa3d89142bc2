"""`inferry engines list`, `compare`, `command` and `doctor`, as a person meets them. No engine is started."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferry.cli import machine_readings
from inferry.cli.engines_here import PROGRAMS
from inferry.engines.facts import ORDER
from inferry.engines.flag_lint import lint
from inferry.engines.flag_table import table_for
from inferry.engines.presets import _TABLE

from .conftest import Run

SEVEN = tuple(PROGRAMS)
WITH_PROCESS_FLAGS = tuple(engine for engine in SEVEN if engine != "ollama")
"""Ollama's server takes everything by variables."""
PRESET_CASES = [(preset, engine) for preset, engines in _TABLE.items() for engine in engines]


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a bare system has is on the PATH, so that no engine of this machine changes what is shown."""
    monkeypatch.setenv("PATH", f"/usr/bin{os.pathsep}/bin")


def model_of(engine: str) -> str:
    return {"ollama": "llama3.2:1b", "llamacpp": "/models/m.gguf"}.get(engine, "/models/org-name")


def install(engine: str, folder: Path, version: str | None = None) -> Path:
    """A stand-in for the engine's program where `inferry engines install` puts one, with its version beside it."""
    program, distribution = PROGRAMS[engine]
    path = folder / "home" / "engines" / engine / "bin" / program
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    if version is not None and distribution is not None:
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        info = path.parents[1] / "lib" / python / "site-packages" / f"{distribution}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    return path


# --- list, compare ------------------------------------------------------------------------------------


def test_list_shows_every_engine_and_what_is_here(run: Run, tmp_path: Path) -> None:
    """A line per engine; those that are installed with their version."""
    install("vllm", tmp_path, "0.32.0")
    shown = run("engines", "list", "--json")
    by_name = {each["engine"]: each for each in json.loads(shown.out)}
    assert tuple(by_name) == ORDER
    assert by_name["vllm"]["here"]["version"] == "0.32.0"
    assert by_name["sglang"]["here"] is None
    assert by_name["tgi"]["state"].startswith("maintenance")
    text = run("engines", "list").out
    assert re.search(r"^vllm +0\.32\.0 +active", text, re.M)
    assert re.search(r"^sglang +- +active", text, re.M)


def test_compare_gives_each_line_its_source(run: Run) -> None:
    """Facts stand topic by topic with a number in brackets, and each number is explained below."""
    text = " ".join(run("engines", "compare", "vllm", "tgi").out.split())
    facts, _, sources = text.partition(" SOURCES ")
    used, explained = set(re.findall(r"\[(\d+)\]", facts)), set(re.findall(r"\[(\d+)\]", sources))
    assert used == explained
    assert len(used) >= 4
    assert "maintenance since 2025-12-11" in facts
    assert "sglang" not in facts.replace("SGLang", "").partition("MEASURED")[0]


def test_compare_for_programs(run: Run) -> None:
    """As JSON each fact and each figure carries its whole source."""
    engines = json.loads(run("engines", "compare", "--json").out)
    assert [each["engine"] for each in engines] == list(ORDER)
    for each in engines:
        for told in (*each["facts"].values(), *each["figures"]):
            assert set(told["source"]) == {"what", "address", "date"}


def test_an_unknown_engine_is_answered_with_a_near_one(run: Run) -> None:
    """A slip of the keyboard is set right."""
    for verb in ("compare", "command"):
        for word in ("vlm", "VLLM"):
            shown = run("engines", verb, word)
            assert shown.code == 1
            assert "Did you mean 'vllm'?" in shown.err


# --- command ------------------------------------------------------------------------------------------


def command_json(run: Run, *words: str) -> Any:
    shown = run("engines", "command", *words, "--json")
    assert shown.code == 0, shown.err
    return json.loads(shown.out)


@pytest.mark.parametrize("engine", SEVEN)
def test_three_forms_of_seven_engines(engine: str, run: Run) -> None:
    """Each engine has a process, a container and a pod, all about the same model and port."""
    words = (engine, "--model", model_of(engine), "--port", "8123")
    shell, docker = run("engines", "command", *words), run("engines", "command", *words, "--docker")
    pod = run("engines", "command", *words, "--pod")
    assert (shell.code, docker.code, pod.code) == (0, 0, 0), shell.err + docker.err + pod.err
    assert shell.err == docker.err == pod.err == ""
    assert ("inferry.engines.llamacpp_child" if engine == "llamacpp" else PROGRAMS[engine][0]) in shell.out
    assert "--publish 127.0.0.1:8123:8123" in docker.out
    manifest = yaml.safe_load(pod.out)
    [container] = manifest["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == 8123
    assert container["image"] in shlex.split(docker.out, comments=True)
    assert re.search(r"(?<!\d)8123(?!\d)", shell.out)


@pytest.mark.parametrize(("preset", "engine"), PRESET_CASES)
def test_presets_give_flags_that_the_engine_knows(preset: str, engine: str, run: Run) -> None:
    """With each preset, each flag of each form is in the table read from the engine's own source."""
    words: tuple[str, ...] = (engine, "--model", model_of(engine), "--preset", preset)
    if engine == "llamacpp":
        words += ("--set", "binary=llama-server")
    process = command_json(run, *words)
    pod = command_json(run, *words, "--pod")
    if engine not in WITH_PROCESS_FLAGS:
        return
    for args in (process["argv"][1:], pod["spec"]["containers"][0]["args"]):
        flags = [word for word in args if word.startswith("--")]
        assert flags
        first = args.index(flags[0])
        if engine == "sglang":
            # Read by `sglang serve` itself, before it hands the rest to the server's parser.
            assert args[first : first + 2] == ["--model-type", "llm"]
            first += 2
        lint(engine, args[first:], table_for(engine, None), {})


def test_what_a_preset_sets_is_told_and_options_win(run: Run) -> None:
    """Each of its keys is in the comments with its reason; an option and --set stand above it."""
    words = ("vllm", "--model", "org/name", "--preset", "development")
    shown = run("engines", "command", *words, "--context-tokens", "1234", "--set", "parallel=3")
    assert "# development: context_tokens: 4096  # " in shown.out
    assert "# development: extra_args: [--enforce-eager]  # " in shown.out
    assert re.search(r"--max-model-len 1234\b", shown.out)
    assert re.search(r"--max-num-seqs 3\b", shown.out)


def test_the_installed_version_decides_the_flags(run: Run, tmp_path: Path) -> None:
    """The process is the one that `up` would start: the installed program, with flags for its version."""
    program = install("vllm", tmp_path, "0.11.0")
    shown = run("engines", "command", "vllm", "--model", "/models/m")
    assert shown.out.startswith("# vllm 0.11.0\n")
    assert str(program) in shown.out
    docker = run("engines", "command", "vllm", "--model", "/models/m", "--docker", "--version", "0.11.0")
    assert "vllm/vllm-openai:v0.11.0" in docker.out


def test_the_embedded_llama_cpp(run: Run, tmp_path: Path) -> None:
    """In a file without 'binary', the process is the embedded engine's, and the container a llama-server."""
    (tmp_path / "inferry.yaml").write_text(
        "deployments:\n  chat: {engine: llamacpp, model: 'file:/m.gguf'}\n"
    )
    shell = run("engines", "command", "--file", "inferry.yaml").out
    assert "inferry.engines.llamacpp_child" in shell
    assert "export INFERRY_ENGINE_KEY=" in shell
    docker = run("engines", "command", "--file", "inferry.yaml", "--docker").out
    assert "source=/m.gguf,target=/model/m.gguf,readonly" in docker
    assert "--model /model/m.gguf" in docker


def test_llama_cpp_by_options_is_what_up_would_start(run: Run) -> None:
    """Without 'binary' the embedded engine, with it that server; a container runs llama-server, and says so."""
    words = ("llamacpp", "--model", "/m.gguf")
    embedded = run("engines", "command", *words).out
    assert "inferry.engines.llamacpp_child" in embedded
    assert "can't be started" not in embedded
    own = run("engines", "command", *words, "--set", "binary=llama-server").out
    assert "llamacpp_child" not in own
    assert "llama-server" in own
    for form in ("--docker", "--pod"):
        shown = run("engines", "command", *words, form, "--set", "extra_args=[--no-mmproj]").out
        assert "# A container runs llama-server" in shown
        assert "--no-mmproj" in shown


def test_how_ollama_fetches_its_model(run: Run) -> None:
    """The command in the comment asks the server that was started, not one at Ollama's own port."""
    words = ("ollama", "--model", "llama3.2:1b", "--port", "8123")
    assert "'OLLAMA_HOST=127.0.0.1:8123 ollama pull llama3.2:1b'" in run("engines", "command", *words).out
    assert (
        "inside the container, 'ollama pull llama3.2:1b'" in run("engines", "command", *words, "--docker").out
    )


def test_a_model_as_people_write_it(run: Run, tmp_path: Path) -> None:
    """A hub's name is fetched by the engine and said so; a path is absolute; a folder beside us is found."""
    hub = run("engines", "command", "vllm", "--model", "org/name", "--docker").out
    assert "serve org/name" in hub
    assert "org/name is not in Inferry's store" in hub
    assert "--env HF_TOKEN" in hub
    (tmp_path / "mine").mkdir()
    here = run("engines", "command", "vllm", "--model", "mine", "--docker").out
    assert f"type=bind,source={tmp_path}/mine,target=/model,readonly" in here
    assert "HF_TOKEN" not in here
    pinned = run("engines", "command", "vllm", "--model", "hf:org/name@main")
    assert pinned.code == 1
    assert "inferry models pull hf:org/name@main" in pinned.err


def test_adapters_and_draft_models_are_mounted(run: Run) -> None:
    """Folders that the command names besides the model are in the container under the same path."""
    words = ("vllm", "--model", "/m", "--docker", "--set", "lora={law: /srv/law, hub: org/lora}")
    shown = run("engines", "command", *words, "--set", "speculative={method: eagle, model: /srv/draft}")
    assert "source=/srv/law,target=/srv/law,readonly" in shown.out
    assert "source=/srv/draft,target=/srv/draft,readonly" in shown.out
    assert "source=org/lora" not in shown.out


def test_a_container_without_gpus(run: Run) -> None:
    """With --cpu neither Docker nor Kubernetes is asked for a GPU; without it, for as many as the engine needs."""
    words = ("vllm", "--model", "/m", "--tp", "2")
    assert "--gpus 2 " in run("engines", "command", *words, "--docker").out
    assert "--gpus" not in run("engines", "command", *words, "--docker", "--cpu").out
    assert "nvidia.com/gpu: 2" in run("engines", "command", *words, "--pod").out
    assert "nvidia.com/gpu" not in run("engines", "command", *words, "--pod", "--cpu").out


def test_a_deployment_of_a_file(run: Run, tmp_path: Path) -> None:
    """With --file the command is about the file's deployment, with its port, name and grace."""
    (tmp_path / "inferry.yaml").write_text(
        "deployments:\n"
        "  chat: {engine: vllm, model: 'file:/m', stop_grace_s: 77, aliases: [gpt]}\n"
        "  other: {engine: ollama, model: 'llama3.2:1b'}\n"
    )
    shown = run("engines", "command", "--file", "inferry.yaml", "chat", "--docker")
    assert "--name inferry-chat" in shown.out
    assert "--stop-timeout 77" in shown.out
    for words, said in (
        ((), "say which one: chat, other"),
        (("cha",), "Did you mean 'chat'?"),
        (("chat", "--tp", "2"), "With --file everything comes from inferry.yaml"),
    ):
        wrong = run("engines", "command", "--file", "inferry.yaml", *words)
        assert wrong.code == 1
        assert said in wrong.err


@pytest.mark.parametrize("form", ["--shell", "--docker", "--pod"])
@pytest.mark.parametrize("as_json", [False, True])
def test_no_secret_of_the_file_is_shown(
    form: str, as_json: bool, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable whose value the file takes from outside is passed by its name; the value is nowhere."""
    install("vllm", tmp_path, "0.32.0")
    monkeypatch.setenv("REGISTRY_SECRET", "s3cret-value")
    (tmp_path / "inferry.yaml").write_text(
        "deployments:\n  chat:\n    engine: vllm\n    model: file:/m\n"
        "    env: {TOKEN_OF_MINE: 'x-${REGISTRY_SECRET}', PLAIN: 'yes'}\n"
    )
    shown = run("engines", "command", "--file", "inferry.yaml", form, *(["--json"] if as_json else []))
    assert shown.code == 0, shown.err
    assert "s3cret-value" not in shown.out
    assert "TOKEN_OF_MINE" in shown.out
    assert "PLAIN" in shown.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Name an engine"),
        (("vllm",), "--model org/name"),
        (("ollama",), "--model llama3.2:1b"),
        (
            ("vllm", "--model", "/m", "--version", "abc"),
            "deployments.vllm.version: write it as in 0.32.0, not 'abc'",
        ),
        (("vllm", "--model", "/m", "--pod", "--claim", "Bad_Name"), "--claim Bad_Name: Kubernetes takes"),
        (("llamacpp", "--model", "/m.gguf", "--set", "extra_args=[--no-mmproj]"), "name it in 'binary'"),
        (("--file", "no.yaml"), "no.yaml does not exist. Write one with 'inferry init', or name another one"),
        (("openai", "--model", "m"), "run by others"),
        (("simulated",), "'inferry up' starts it"),
        (("vllm", "--model", "/m", "--set", "paralel=3"), "Did you mean 'parallel'?"),
        (("vllm", "--model", "/m", "--set", "parallel"), "write key=value"),
        (("vllm", "--model", "/m", "--set", "model.x=1"), "no group of keys"),
        (("vllm", "--model", "/m", "--set", "extra_args=[--max-model-length=4]"), "--max-model-len"),
        (("vllm", "--model", "/m", "--set", "lora=[}"), "no YAML"),
        (("tgi", "--model", "/m", "--pp", "2"), "pipeline_parallel"),
        (("vllm", "--model", "/m", "--preset", "produktion"), "Did you mean 'production'?"),
        (("vllm", "--model", "/m", "--docker", "--pod"), "one of --shell, --docker and --pod"),
        (("vllm", "--model", "/m", "--docker", "--user", "root"), "write numbers"),
        (("vllm", "--model", "/m", "--docker", "--restart", "often"), "--restart often"),
        (("llamacpp", "--model", "hf:org/repo/m.gguf"), "inferry models pull hf:org/repo/m.gguf"),
    ],
)
def test_mistakes_are_answered(words: tuple[str, ...], said: str, run: Run) -> None:
    """Each mistake is one message that names the option or key; nothing is printed as if it were a command."""
    shown = run("engines", "command", *words)
    assert shown.code == 1
    assert said in shown.err
    assert shown.out == ""
    assert "options:" not in shown.err


def test_a_pods_secret_and_claim(run: Run) -> None:
    """The pod's comments say how its Secret is made, the key never in an argument; a claim replaces the node's path."""
    shown = run("engines", "command", "vllm", "--model", "/m", "--pod", "--claim", "weights").out
    assert "kubectl create secret generic vllm-secrets --from-file=INFERRY_ENGINE_KEY=/dev/stdin" in shown
    assert "--from-literal" not in shown
    assert {"claimName": "weights", "readOnly": True} in [
        each.get("persistentVolumeClaim") for each in yaml.safe_load(shown)["spec"]["volumes"]
    ]


# --- doctor -------------------------------------------------------------------------------------------


def test_the_doctor_of_this_machine(run: Run) -> None:
    """Lines of pass, warn and fail with a sentence at the end; the code is 1 exactly if one is fail."""
    shown = run("engines", "doctor")
    verdicts = re.findall(r"^(pass|warn|fail)  ", shown.out, re.M)
    assert len(verdicts) >= 8
    assert shown.code == (1 if "fail" in verdicts else 0)
    assert shown.out.splitlines()[-1].startswith("Not ready" if "fail" in verdicts else "Ready")
    told = json.loads(run("engines", "doctor", "--json").out)
    assert told["ready"] == ("fail" not in verdicts)
    assert [each["verdict"] for each in told["findings"]] == verdicts


def test_the_doctor_reads_the_file(run: Run, tmp_path: Path) -> None:
    """What the file asks for and is not here fails by name, with the way out: engine, model, port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        (tmp_path / "inferry.yaml").write_text(
            f"gateway: {{listen: '127.0.0.1:{port}'}}\n"
            "deployments:\n"
            "  there: {engine: simulated}\n"
            "  gone: {engine: tgi, model: 'file:/nowhere'}\n"
        )
        shown = run("engines", "doctor", "inferry.yaml", "--json")
    assert shown.code == 1
    findings = json.loads(shown.out)["findings"]
    failed = [each for each in findings if each["verdict"] == "fail"]
    assert {"gone", "ports", "GPU"} & {each["about"] for each in failed} >= {"gone", "ports"}
    assert any("/nowhere" in each["way_out"] for each in failed)
    assert any("text-generation-launcher" in each["text"] for each in failed)
    assert [each["verdict"] for each in findings if each["about"] == "there"] == ["pass"]
    assert all(each["way_out"] for each in findings if each["verdict"] != "pass")


@pytest.mark.parametrize(("version", "verdict"), [("0.32.0", "fail"), ("0.32.0+cpu", "pass")])
def test_who_needs_a_gpu(
    version: str, verdict: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU, vLLM is not ready; its build for the CPU is, and so is Ollama."""
    monkeypatch.setattr(machine_readings, "read_driver", lambda: (None, None))
    install("vllm", tmp_path, version)
    (tmp_path / "weights").mkdir()
    (tmp_path / "inferry.yaml").write_text(
        "deployments:\n  big: {engine: vllm, model: 'file:weights'}\n"
        "  small: {engine: ollama, model: 'llama3.2:1b'}\n"
    )
    findings = json.loads(run("engines", "doctor", "inferry.yaml", "--json").out)["findings"]
    [gpu] = [each for each in findings if each["about"] == "GPU"]
    assert gpu["verdict"] == verdict
    if verdict == "fail":
        assert "big needs one" in gpu["text"]


def test_weights_that_are_too_big_for_the_machine(run: Run, tmp_path: Path) -> None:
    """What the models of a file take is read from the files that are here, and held against free memory."""
    with (tmp_path / "huge.gguf").open("wb") as weights:
        weights.truncate(2**43)  # a hole: it takes no disk
    (tmp_path / "inferry.yaml").write_text(
        "deployments:\n  chat: {engine: llamacpp, model: 'file:huge.gguf'}\n"
    )
    findings = json.loads(run("engines", "doctor", "inferry.yaml", "--json").out)["findings"]
    [memory] = [each for each in findings if each["about"] == "memory"]
    assert memory["verdict"] == "fail"
    assert "take 8192.0" in memory["text"]


def test_models_of_the_wrong_kind(run: Run, tmp_path: Path) -> None:
    """What is here and is no model for its engine fails, with the way out; the right kinds pass."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF....")
    (tmp_path / "other.bin").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    (tmp_path / "right").mkdir()
    (tmp_path / "right" / "config.json").write_text("{}")
    wrong = {
        "a": ("vllm", "m.gguf", "is a GGUF file"),
        "b": ("transformers", "empty", "no config.json"),
        "c": ("sglang", "other.bin", "is a file"),
        "d": ("llamacpp", "other.bin", "no GGUF file"),
        "e": ("llamacpp", "right", "no GGUF file"),
    }
    right = {"x": ("vllm", "right"), "y": ("llamacpp", "m.gguf")}
    lines = [
        f"  {name}: {{engine: {which[0]}, model: 'file:{which[1]}'}}\n"
        for name, which in (wrong | right).items()
    ]
    (tmp_path / "inferry.yaml").write_text("deployments:\n" + "".join(lines))
    findings = json.loads(run("engines", "doctor", "inferry.yaml", "--json").out)["findings"]
    told = {each["about"]: each for each in findings if "its model" in each["text"]}
    assert set(told) == set(wrong)
    for name, (_, _, said) in wrong.items():
        assert said in told[name]["text"]
        assert told[name]["verdict"] == "fail"
        assert told[name]["way_out"]
