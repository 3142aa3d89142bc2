"""Commands of an engine that does not exist, with everything that a container can have; for the tests of its forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from inferry.core.launch import KEY_MARK, ContainerNeeds, EngineCommand
from inferry.engines.container import ContainerModel, ContainerPlan, mounted_model
from inferry.engines.pod import PodProbes

PLAIN = ContainerPlan(
    name="chat",
    command=EngineCommand(program="engine", args=("serve", "/model", "--host", "0.0.0.0", "--port", "8001")),
    needs=ContainerNeeds(image="example/engine:1.0", entrypoint=("engine",), gpus=0),
    port=8001,
    model=mounted_model(Path("/srv/models/small")),
    files_folder=Path("/srv/run/chat.files"),
    stop_grace_s=10.0,
)

CONFIG = f"""\
api_key: {KEY_MARK}
pattern: "a\\\\b $HOME `id` $(id) $$ 'q' \\"q\\""
"""

FULL = ContainerPlan(
    name="chat",
    command=EngineCommand(
        program="engine",
        args=(
            "serve",
            "/model",
            "--host",
            "0.0.0.0",
            "--port",
            "8001",
            "--config",
            "/inferry/config.yaml",
            "--chunk",
            "-1",
            "--speculative",
            '{"method": "ngram", "tokens": 4}',
            "--template",
            "it's $HOME `id` $(id) $$",
            "--fast",
        ),
        env={"CUDA_VISIBLE_DEVICES": "2,3", "LEVEL": "a b$", "REGISTRY_TOKEN": "t0ken-of-the-file"},
        secret_env=("ENGINE_API_KEY",),
        files={"config.yaml": CONFIG},
    ),
    needs=ContainerNeeds(
        image="example/engine:1.0",
        entrypoint=("engine", "--quiet"),
        gpus=2,
        shared_memory_bytes=8 * 1024**3,
        cache_folder="/var/cache/engine",
    ),
    port=8001,
    model=mounted_model(Path("/srv/models/big, new")),
    files_folder=Path("/srv/run/chat.files"),
    stop_grace_s=30.5,
    gpu_indexes=(2, 3),
    hidden_env=frozenset({"REGISTRY_TOKEN"}),
    other_mounts=(Path("/srv/adapters/law"),),
    user="1000:1000",
)

FROM_HUB = replace(PLAIN, model=ContainerModel("org/name", None, hub=True))

PROBES = PodProbes(path="/health", start_budget_s=601.0, interval_s=2.0, timeout_s=1.5, failures_max=3)
