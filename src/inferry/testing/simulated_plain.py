"""The simulated engine's routes that compute at once: embeddings, rerank, counting, tokens."""

from __future__ import annotations

import base64
import struct
import uuid
from array import array
from typing import Any

from inferry.core.clock import Clock
from inferry.testing.simulated_requests import BadRequest, RequestReader
from inferry.testing.simulated_words import TokenTable, embed

EMBEDDING_DIMENSIONS = 64
EMBEDDING_DIMENSIONS_MAX = 4096


class PlainAnswers:
    """Each method takes a request's body and gives the answer's; raises BadRequest."""

    def __init__(
        self, reader: RequestReader, table: TokenTable, served_name: str, context_tokens: int, clock: Clock
    ) -> None:
        self._reader = reader
        self._table = table
        self._served_name = served_name
        self._context_tokens = context_tokens
        self._clock = clock

    def count_tokens(self, body: dict[str, Any]) -> dict[str, Any]:
        self._reader.check_model(body)
        return {"input_tokens": len(self._reader.messages_prompt(body))}

    def embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        self._reader.check_model(body)
        ids = self._reader.prompts(body.get("input"), "input")
        dimensions = body.get("dimensions") or EMBEDDING_DIMENSIONS
        if type(dimensions) is not int or not 1 <= dimensions <= EMBEDDING_DIMENSIONS_MAX:
            raise BadRequest(f"dimensions must be 1 to {EMBEDDING_DIMENSIONS_MAX}", param="dimensions")
        as_base64 = body.get("encoding_format") == "base64"
        data: list[dict[str, Any]] = []
        for index, one in enumerate(ids):
            vector: Any = embed(self._table.decode(one), dimensions)
            if as_base64:
                vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
            data.append({"index": index, "object": "embedding", "embedding": vector})
        tokens = sum(map(len, ids))
        return {
            "id": f"embd-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(self._clock.wall_s()),
            "model": self._served_name,
            "data": data,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
        }

    def rerank(self, body: dict[str, Any]) -> dict[str, Any]:
        self._reader.check_model(body)
        query, documents = body.get("query"), body.get("documents")
        if not isinstance(query, str) or not isinstance(documents, list) or not documents:
            raise BadRequest("query and documents: Field required", param="documents")
        texts = [one["text"] if isinstance(one, dict) and "text" in one else str(one) for one in documents]
        wanted = embed(query, EMBEDDING_DIMENSIONS)
        scores = [
            sum(a * b for a, b in zip(wanted, embed(text, EMBEDDING_DIMENSIONS), strict=True))
            for text in texts
        ]
        order = sorted(range(len(texts)), key=lambda index: (-scores[index], index))
        top_n = body.get("top_n")
        if type(top_n) is int and top_n > 0:
            order = order[:top_n]
        tokens = sum(len(self._table.encode(text)) for text in [query, *texts])
        return {
            "id": f"rerank-{uuid.uuid4().hex}",
            "model": self._served_name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "results": [
                {"index": i, "document": {"text": texts[i]}, "relevance_score": (scores[i] + 1) / 2}
                for i in order
            ],
        }

    def tokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        self._reader.check_model(body)
        if "messages" in body:
            ids = self._reader.chat_prompt(body)
        elif isinstance(body.get("prompt"), str):
            ids = self._table.encode(body["prompt"])
        else:
            raise BadRequest("prompt or messages: Field required", param="prompt")
        return {
            "count": len(ids),
            "max_model_len": self._context_tokens,
            "tokens": ids.tolist(),
            "token_strs": [self._table.text_of(one) for one in ids]
            if body.get("return_token_strs")
            else None,
        }

    def detokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        self._reader.check_model(body)
        tokens = body.get("tokens")
        if not isinstance(tokens, list) or not all(type(one) is int and 0 <= one < 2**32 for one in tokens):
            raise BadRequest("tokens: Input should be a list of token ids", param="tokens")
        return {"prompt": self._table.decode(array("I", tokens))}
