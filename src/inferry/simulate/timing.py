"""How fast a simulated engine is, and what it holds: a law with few figures, from a plan, a calibration or a bench."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineTiming:
    """One replica's. A step computes one token of each answer under way, and parts of prompts.

    The defaults are rounded from the measured profile of Llama 2 70B on eight H100 80 GB with tensor parallelism 8
    that SageServe publishes (perf_model.csv: prompts of 4,096 and 8,192 tokens at 10,500 and 9,700 tokens/s; 30 ms
    per step at batch 1, 39 ms at 32, 50 ms at 64). `kv_tokens` is the local cache of the Mooncake paper (FAST'25).
    """

    prefill_tokens_per_s: float = 10_000.0
    step_s: float = 0.030
    step_s_per_sequence: float = 0.0003
    step_tokens_max: int = 8192
    """Of prompts and answers together, in one step; answers go first."""
    sequences_max: int = 256
    kv_tokens: int = 3_000_000
    """One pool, for what runs and for what is kept of prompts that ended."""
    block_tokens: int = 512
    context_tokens: int | None = None
    """Of one prompt and its answer: longer prompts are refused, and answers end there. None: whatever memory holds."""
    step_s_per_kv_token: float = 0.0
    """An answer's step reads all that came before: per token of context, of all answers together."""
    prefill_s_per_pair: float = 0.0
    """Attention of prompts grows with the square: per pair of a prompt's token and one before it."""
    request_s: float = 0.0
    """From a request's arrival until the engine may begin with it: HTTP, tokenizer."""
    place_s: float = 0.0
    """From when a request has its place until the engine begins with it: it keeps others out meanwhile."""
    start_s: float = 120.0
    """From a replica's start until it serves."""

    def step_s_of(
        self, decoding: int, kv_tokens: int = 0, prefill_tokens: int = 0, prefill_pairs: float = 0.0
    ) -> float:
        """One step's duration: `decoding` answers with `kv_tokens` of context together, and so much of prompts.

        By default 32 answers and 1,000 tokens of a prompt take 0.03 + 32 x 0.0003 + 1,000 / 10,000 = 0.1396 s.
        """
        return (
            self.step_s
            + self.step_s_per_sequence * decoding
            + self.step_s_per_kv_token * kv_tokens
            + prefill_tokens / self.prefill_tokens_per_s
            + self.prefill_s_per_pair * prefill_pairs
        )
