"""A prompt as a chain of hashes: what routing needs to know that two prompts begin alike.

No tokenizer: the prompt's JSON text, as the client wrote it, is cut into pieces of BLOCK_BYTES, and each piece's
hash goes over the one before it. So an equal hash means an equal beginning, up to that piece's end. Clients that
write the same messages in other JSON (another order of keys, other white space) are not recognised as alike, which
costs a cache hit and never an answer.

Measured on one core of an AMD EPYC: 2 us, and 0.8 us more per KB of prompt, up to BLOCKS_MAX.
"""

from __future__ import annotations

from collections.abc import Hashable

import msgspec
from msgspec import Raw

BLOCK_BYTES = 2048
"""About 500 tokens of English. Half of it would find shorter common beginnings, and cost routing 1 us per 1,000 tokens more."""
BLOCKS_MAX = 256
"""What comes after half a MB is taken to be new where what comes before is."""
NONE = Raw(b"")


class _Prompt(msgspec.Struct):
    """Where prompts stand in the bodies of the inference routes, in the order in which templates write them."""

    tools: Raw = NONE
    system: Raw = NONE
    instructions: Raw = NONE
    messages: Raw = NONE
    prompt: Raw = NONE
    input: Raw = NONE
    cache_salt: Raw = NONE  # vLLM: a cache of the caller's own


_decode = msgspec.json.Decoder(_Prompt).decode


def prompt_blocks(body: bytes, seed: Hashable) -> tuple[int, ...]:
    """The chain of the prompt in a request's `body`, which was decoded before; () if it has none.

    `seed`: whatever else must be equal for a cache to be of use, such as the model or adapter that is asked.
    Hashes are of use in this process only.
    """
    found = _decode(body)
    prompt = b"".join(
        (found.tools, found.system, found.instructions, found.messages, found.prompt, found.input)
    )
    previous = hash((seed, bytes(found.cache_salt)))
    blocks: list[int] = []
    for start in range(0, min(len(prompt), BLOCK_BYTES * BLOCKS_MAX), BLOCK_BYTES):
        previous = hash((previous, prompt[start : start + BLOCK_BYTES]))
        blocks.append(previous)
    return tuple(blocks)
