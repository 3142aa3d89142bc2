"""Counts the tokens of texts with a model's own tokenizer.json; needs the package tokenizers (an extra)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from inferry.core.errors import BadBenchPlan


def open_tokenizer(path: Path) -> Callable[[str], int]:
    """Counts a text's own tokens, without those that the tokenizer would put around it. `path`: the file, or the
    folder that has it. Takes up to seconds. Raises BadBenchPlan."""
    # Its own threads gain nothing on one text, and it warns when a process with them forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise BadBenchPlan(
            "counting with a tokenizer.json needs the package tokenizers: pip install 'inferry[prompt-truth]', or "
            "leave the tokenizer out",
            param="tokenizer",
        ) from error
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise BadBenchPlan(f"{file} does not exist: give a tokenizer.json or its folder", param="tokenizer")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:
        raise BadBenchPlan(
            f"{file} is no tokenizer.json that can be read: {error}", param="tokenizer"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])
