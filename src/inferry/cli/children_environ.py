"""The environment that engines and gateway processes get: this process' own, without what is for it alone."""

from __future__ import annotations

from collections.abc import Mapping

from inferry.core.config_file import LoadedFile

_NOT_FOR_CHILDREN = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "INFERRY_KEY"}
_ENGINES_NEED = {"HOME", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "USER"}
"""No secrets, and programs miss them; a file may well say `${HOME}/models/...`."""


def children_environ(environ: Mapping[str, str], loaded: LoadedFile) -> dict[str, str]:
    """`environ` for engines. Variables that the file refers to may be keys for others' endpoints; a model's hub token
    is not needed once the model is here."""
    ours = (loaded.variables - _ENGINES_NEED) | _NOT_FOR_CHILDREN
    return {name: value for name, value in environ.items() if name not in ours}
