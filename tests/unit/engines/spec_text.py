"""A launch spec as text, for golden files: its words, its environment, its files."""

from __future__ import annotations

import sys
from pathlib import Path

from inferry.core.launch import LaunchSpec
from inferry.engines.adapter import LaunchContext

SECRET = "s3cret-of-this-process"


def at_8123(model: str = "/models/m") -> LaunchContext:
    """A place where replicas may start: 127.0.0.1:8123, with a folder and a key."""
    return LaunchContext(
        "chat-0", "127.0.0.1", 8123, Path(model), "chat", 2, SECRET, Path("/run/chat-0.files")
    )


def spec_text(spec: LaunchSpec) -> str:
    """One word per line below the program; this Python, which stands for the engine's, is called PROGRAM."""
    program, *words = ("PROGRAM" if word == sys.executable else word for word in spec.argv)
    lines = [program, *(f"    {word}" for word in words)]
    lines += [f"{name}={value}" for name, value in sorted(spec.env.items())]
    for path, content in spec.files.items():
        lines += [f"{path}:", *(f"    {line}" for line in content.splitlines())]
    return "\n".join(lines) + "\n"
