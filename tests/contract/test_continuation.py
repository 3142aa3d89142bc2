"""A greedy answer that is cut and continued is the answer that would have come: by real llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inferry.core.local_engines import LlamaCppDeployment
from inferry.engines.llamacpp import LlamaCppAdapter

from .cut_answers import broken_continuations
from .engine_cases import NAME
from .test_engine_http import Running, start

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def llamacpp(sample_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    deployment = LlamaCppDeployment(
        engine="llamacpp", model=f"file:{sample_model}", context_tokens=512, parallel=1
    )
    running = start(
        LlamaCppAdapter(NAME, deployment), sample_model, tmp_path_factory.mktemp("engine") / "log"
    )
    try:
        yield running
    finally:
        running.client.close()
        running.process.terminate()
        running.process.wait()


def test_llamacpp_goes_on_where_it_was_cut(llamacpp: Running) -> None:
    """Chats and completions, cut after 1 to 17 tokens: the client's text is the undisturbed one, to the letter."""
    cuts = (1, 4, 9, 17)
    assert (
        broken_continuations("llamacpp", NAME, lambda path, body: llamacpp.stream(path, body)[1], cuts) == []
    )
