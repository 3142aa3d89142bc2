"""Each program in examples/ does what it shows: over the simulated engine, whose words are known, and over llama.cpp."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from .inferry_process import Inferry, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
TOWER = "Where is the Eiffel Tower?"
FRANCE = "What is the capital of France?"
ITALY = "What is the capital of Italy?"
SIMULATED = "    engine: simulated\n    ttft_ms: 5\n    itl_ms: 1\n"
LLAMA = "    engine: llamacpp\n    model: file:{model}\n    context_tokens: 1024\n"


@dataclass(frozen=True, slots=True)
class Running:
    """An Inferry that asks for a key."""

    inferry: Inferry
    url: str
    key: str

    def is_let_in(self) -> bool:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.get(f"{self.url}/v1/models", headers=headers, timeout=10).status_code == 200

    def answer(self, question: str) -> str:
        """What the deployment says to `question`."""
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": 30,
        }
        headers = {"authorization": f"Bearer {self.key}"}
        answer = httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
        answer.raise_for_status()
        return str(answer.json()["choices"][0]["message"]["content"])

    def run(self, *words: str) -> str:
        """What a program prints that has address and key in its environment."""
        done = subprocess.run(
            words,
            cwd=self.inferry.folder,
            env={**self.inferry.environ, "INFERRY_URL": f"{self.url}/v1", "INFERRY_KEY": self.key},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def example(self, name: str, *needs: str) -> str:
        for package in needs:
            if importlib.util.find_spec(package) is None:
                pytest.skip(f"{package} is not installed")
        return self.run(sys.executable, str(EXAMPLES / name))


@pytest.fixture(
    scope="module",
    params=["simulated", pytest.param("llama.cpp", marks=[pytest.mark.slow, pytest.mark.engine])],
)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    engine = SIMULATED
    if request.param == "llama.cpp":
        engine = LLAMA.format(model=request.getfixturevalue("sample_model"))
    inferry = Inferry(tmp_path_factory.mktemp("examples"))
    inferry.write(f"gateway: {{auth: keys}}\ndeployments:\n  chat:\n{engine}")
    with inferry.up() as up:
        found = Running(inferry, up.wait_ready(), up.new_key("readers"))
        wait_for("the gateway knows the key", found.is_let_in)
        yield found


def test_every_example_is_on_the_page_and_in_a_test() -> None:
    """examples/README.md links to each file beside it and to nothing else, and this file runs each program."""
    page = (EXAMPLES / "README.md").read_text()
    linked = {name for name in re.findall(r"\]\(([\w.]+)\)", page) if "/" not in name}
    here = {each.name for each in EXAMPLES.iterdir() if each.is_file()}
    assert linked == here - {"README.md"}
    tested = set(re.findall(r'"(chat_\w+\.(?:py|sh))"', Path(__file__).read_text()))
    assert tested == {name for name in here if name.startswith("chat_")}


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("chat_openai.py", "openai"),
        ("chat_requests.py", "requests"),
        ("chat_langchain.py", "langchain_openai"),
        ("chat_huggingface_hub.py", "huggingface_hub"),
        ("chat_ollama.py", "ollama"),
    ],
)
def test_a_whole_answer_and_a_stream(running: Running, name: str, needs: str) -> None:
    """The program prints the answer, how many tokens it took, and the same answer streamed."""
    told = running.answer(TOWER)
    out = running.example(name, needs)
    whole, tokens, streamed = re.fullmatch(r"(.*)\n(\(\d+ tokens\))\n(.*)\n", out, re.S).groups()  # type: ignore[union-attr]
    assert whole == streamed == told
    assert 1 <= int(tokens.strip("() tokens")) <= 30


def test_aiohttp(running: Running) -> None:
    """A streamed answer, and then each of two questions with the answer that is its own."""
    out = running.example("chat_aiohttp.py", "aiohttp")
    told = [running.answer(question) for question in (TOWER, FRANCE, ITALY)]
    assert out == f"{told[0]}\n{FRANCE} {told[1]}\n{ITALY} {told[2]}\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(running: Running) -> None:
    """The models, a whole answer, and the same answer as events that end with [DONE]."""
    out = running.run("sh", str(EXAMPLES / "chat_curl.sh"))
    models, answer, *events = [line for line in out.splitlines() if line]
    assert [each["id"] for each in json.loads(models)["data"]] == ["chat"]
    whole = json.loads(answer)["choices"][0]["message"]["content"]
    assert events.pop() == "data: [DONE]"
    pieces = [json.loads(event.removeprefix("data: "))["choices"] for event in events]
    streamed = "".join(choice["delta"].get("content") or "" for choices in pieces for choice in choices)
    assert whole == streamed == running.answer(TOWER)


def test_curl_says_so_when_the_key_is_wrong(running: Running) -> None:
    """A refused request fails the script: nobody takes an error for an answer."""
    done = subprocess.run(
        ["sh", str(EXAMPLES / "chat_curl.sh")],
        env={**os.environ, "INFERRY_URL": f"{running.url}/v1", "INFERRY_KEY": "wrong"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "401" in done.stderr


def test_the_batch(running: Running) -> None:
    """The questions come back with the answers that they have when they are asked one by one."""
    output = running.inferry.folder / "answers.jsonl"
    running.run(sys.executable, "-m", "inferry", "batch", str(EXAMPLES / "questions.jsonl"), str(output))
    told = [json.loads(line) for line in output.read_text().splitlines()]
    texts = {each["custom_id"]: each["response"]["body"]["choices"][0]["message"]["content"] for each in told}
    expected = {"tower": TOWER, "france": FRANCE, "italy": ITALY}
    assert texts == {id: running.answer(question) for id, question in expected.items()}


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize("running", ["llama.cpp"], indirect=True)
def test_the_real_model_knows_it(running: Running) -> None:
    """The question of the examples is one that the sample model answers rightly."""
    assert "Paris" in running.example("chat_openai.py", "openai")
