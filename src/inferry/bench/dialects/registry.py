"""Which file knows which API."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from inferry.bench.dialects.anthropic_messages import Messages
from inferry.bench.dialects.form import Dialect
from inferry.bench.dialects.openai_chat import Chat
from inferry.bench.dialects.openai_completions import Completions
from inferry.bench.dialects.openai_embeddings import Embeddings
from inferry.bench.dialects.openai_responses import Responses
from inferry.bench.dialects.tgi_generate import TgiGenerate
from inferry.bench.plan import Api

DIALECTS: Mapping[Api, Dialect] = MappingProxyType(
    {
        "chat": Chat(),
        "completions": Completions(),
        "responses": Responses(),
        "messages": Messages(),
        "tgi": TgiGenerate(),
        "embeddings": Embeddings(),
    }
)
