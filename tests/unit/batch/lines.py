"""Input lines for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def line(custom_id: Any = "a", **changes: Any) -> dict[str, Any]:
    """A right line, with some keys changed; a key that is None is left out."""
    fields = {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]},
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def write_lines(path: Path, *lines: dict[str, Any] | str) -> Path:
    """A file of these lines, each as JSON or as it is."""
    texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
    path.write_text("".join(text + "\n" for text in texts))
    return path
