"""What the chaos suites share: uvloop, as the product runs on, and dice whose seed is printed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
import uvloop

from tests.e2e.accounting_chaos import seeded_dice


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def dice() -> random.Random:
    """The seed is printed; set INFERRY_CHAOS_SEED to repeat a run."""
    return seeded_dice()
