"""What all suites share: where the sample model is."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from inferry.core.home import inferry_home
from inferry.core.model_ref import SAMPLE_MODEL, parse_model_ref
from inferry.models.store import ModelStore


def pytest_configure() -> None:
    """Tests with a real engine find the sample model's file in INFERRY_SAMPLE_MODEL, or skip."""
    # Says that this thread has no loop. Otherwise pytest-asyncio, asking for the current one before it sets
    # its own, makes Python 3.11 create a loop that nobody closes.
    asyncio.set_event_loop(None)
    if "INFERRY_SAMPLE_MODEL" not in os.environ:
        stored = ModelStore(inferry_home(os.environ)).find(parse_model_ref(SAMPLE_MODEL))
        if stored is not None:
            os.environ["INFERRY_SAMPLE_MODEL"] = str(stored.path)


@pytest.fixture(scope="session")
def sample_model() -> Path:
    """The sample model's GGUF file."""
    pytest.importorskip("xllamacpp", reason="needs the 'local' extra")
    path = os.environ.get("INFERRY_SAMPLE_MODEL")
    if path is None:
        pytest.skip("the sample model is not here: run 'inferry models pull'")
    return Path(path)
