"""What engines get of our environment."""

from __future__ import annotations

from pathlib import Path

from inferry.cli.children_environ import children_environ
from inferry.core.config_file import parse_text


def test_engines_get_no_secrets_of_ours() -> None:
    """What the file refers to and the hub's token stay with us; what programs need and all else goes on."""
    text = (
        "deployments:\n"
        "  out: {engine: openai, model: m, endpoints: ['http://h/v1'], api_key: '${KEY}'}\n"
        "  own: {engine: llamacpp, model: 'file:${HOME}/m.gguf'}\n"
    )
    environ = {
        "KEY": "secret",
        "HF_TOKEN": "secret",
        "INFERRY_KEY": "secret",
        "HOME": "/h",
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    loaded = parse_text(text, Path("inferry.yaml"), environ)
    assert children_environ(environ, loaded) == {"HOME": "/h", "PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0"}
