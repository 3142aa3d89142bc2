"""What a hub tells of a repository without its weights: config.json, and how many elements of which type it holds."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferry.core.errors import ConfigError
from inferry.core.model_ref import ModelRef
from inferry.models.hub_errors import map_hub_errors
from inferry.models.source_hf import ASK_S

CONFIG = "config.json"
QUANTIZATION = "hf_quant_config.json"
"""Where NVIDIA's ModelOpt writes what other tools put into `quantization_config`."""
_CONFIG_BYTES_MAX = 64 * 1024 * 1024
"""The largest have lists of all quantized layers: some megabytes."""


@dataclass(frozen=True, slots=True)
class RemoteFacts:
    config: Mapping[str, Any]
    elements_by_type: Mapping[str, int] = field(default_factory=dict)
    """As the hub counts a repository's safetensors, such as {"BF16": 8030261248}; empty where it has none."""
    commit: str = ""


def fetch_model_facts(ref: ModelRef, environ: Mapping[str, str]) -> RemoteFacts:
    """Asks for some kilobytes; `HF_TOKEN` and `HF_ENDPOINT` as in pulls.

    Raises ModelNotFound where there is no such repository, ModelFetchFailed where the hub can't be reached, ConfigError
    where the repository has no config.json.
    """
    from huggingface_hub import HfApi, hf_hub_download  # takes most of a second to import
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    token, endpoint = environ.get("HF_TOKEN") or None, environ.get("HF_ENDPOINT") or None
    with (
        map_hub_errors(ref, has_token=token is not None, callers=lambda: None),
        tempfile.TemporaryDirectory() as folder,
    ):
        info = HfApi(endpoint=endpoint, token=token).model_info(
            ref.name, revision=ref.revision, timeout=ASK_S
        )
        there = {sibling.rfilename for sibling in info.siblings or ()}
        if CONFIG not in there:
            raise ConfigError(
                f"{ref} has no config.json, so its sizes are not known; for GGUF, name its file."
            )
        for name in sorted({CONFIG, QUANTIZATION} & there):
            hf_hub_download(
                ref.name, name, revision=info.sha, local_dir=folder, token=token, endpoint=endpoint, etag_timeout=ASK_S
            )  # fmt: skip
        config = read_config_folder(Path(folder))
    counted = getattr(info.safetensors, "parameters", None) or {}
    return RemoteFacts(config, dict(counted), str(info.sha or ""))


def read_config_folder(folder: Path) -> dict[str, Any]:
    """The config.json of `folder`, with ModelOpt's file beside it taken in. Raises ConfigError."""
    config = read_config(folder / CONFIG)
    beside = folder / QUANTIZATION
    if beside.exists() and not config.get("quantization_config"):
        quantization = read_config(beside).get("quantization")
        if isinstance(quantization, Mapping):
            config["quantization_config"] = {"quant_method": "modelopt", **quantization}
    return config


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ConfigError where it is not there, or none."""
    try:
        if path.stat().st_size > _CONFIG_BYTES_MAX:
            raise ConfigError(f"{path} is too large for a config.json: name that, its folder or a GGUF file")
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} holds no object, so it is no model's config")
    return config
