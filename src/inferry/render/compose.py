"""Docker Compose: the gateway and every engine on one machine, a service for each replica."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from typing import Any

from inferry.core.launch import KEY_MARK
from inferry.core.server_engines import OllamaDeployment
from inferry.engines.container import FILES_FOLDER, Mount, needs_key, size_text
from inferry.render.docker import (
    HEALTH_INTERVAL_S,
    HEALTH_RETRIES,
    HEALTH_START_S,
    HEALTH_TIMEOUT_S,
    health_argv,
    render_docker,
    stop_grace_s,
)
from inferry.render.gateway_file import gateway_file
from inferry.render.shipment import (
    ADMIN_PORT,
    BACKUPS_PATH,
    CONFIG_PATH,
    ENGINE_PORT,
    GATEWAY_USER,
    HOME_PATH,
    Files,
    Shipment,
    ShippedEngine,
)
from inferry.render.yaml_text import Why, yaml_text

ENGINE_HOME = "/home/inferry"
CACHE = f"{ENGINE_HOME}/.cache"
PIDS_MAX = 4096


def render_compose(shipment: Shipment) -> Files:
    """`compose.yaml`, the gateway's file, `.env.example`, and what builds the gateway's image."""
    keys = engine_keys(shipment)
    places = {
        engine.name: [f"http://{service}:{ENGINE_PORT}" for service in service_names(engine)]
        for engine in shipment.engines
    }
    inside = gateway_file(shipment, places, api_keys=keys)
    return {
        "compose.yaml": yaml_text(
            _project(shipment, keys, inside),
            "Inferry and its engines on one machine, made by 'inferry render compose'. Copy .env.example to .env, fill"
            " it in, then: docker compose up --detach",
        ),
        "inferry.yaml": inside,
        ".env.example": _env_example(shipment, keys),
        **render_docker(shipment),
    }


def service_names(engine: ShippedEngine) -> list[str]:
    """One for each replica."""
    return [f"{engine.name}-{number}" for number in range(engine.replicas)]


def engine_keys(shipment: Shipment) -> dict[str, str]:
    """By deployment whose engine asks for a key: the variable that holds it."""
    names: dict[str, str] = {}
    for engine in shipment.engines:
        if needs_key(engine.plan.command):
            name = re.sub(r"[^A-Z0-9]", "_", engine.name.upper()) + "_ENGINE_KEY"
            name = name if name[0].isalpha() else f"E_{name}"
            while name in names.values():
                name += "_2"
            names[engine.name] = name
    return names


def _project(shipment: Shipment, keys: Mapping[str, str], inside: str) -> dict[str, Any]:
    services: dict[str, Any] = {"gateway": _gateway(shipment, inside)}
    volumes: dict[str, Any] = {"state": {}}
    if shipment.config.backup is not None:
        volumes["backups"] = Why(
            "On the same disk as 'state', unless you say otherwise here: copy it away.", {}
        )
    configs: dict[str, Any] = {}
    next_gpu = 0
    for engine in shipment.engines:
        if _cache(engine):
            volumes[_cache(engine)] = {}
            services[_cache(engine)] = _makes_cache(shipment, engine)
        for name, text in engine.plan.command.files.items():
            held = _literal(text).replace(KEY_MARK, f"${{{keys.get(engine.name, '')}}}")
            configs[_config(engine, name)] = {"content": held}
        for number, service in enumerate(service_names(engine)):
            gpus, next_gpu = _gpus(engine, number, next_gpu)
            services[service] = _engine(engine, keys.get(engine.name), gpus)
    project: dict[str, Any] = {"name": shipment.name, "services": services}
    project["networks"] = {
        "engines": Why("No way out and none in: only the gateway speaks to engines.", {"internal": True}),
        "outside": Why("For the gateway, and for engines that fetch their model themselves.", {}),
    }
    project["volumes"] = volumes
    if configs:
        project["configs"] = configs
    return project


def _common(seconds: int) -> dict[str, Any]:
    """What every service has."""
    return {
        "restart": "unless-stopped",
        "init": Why("A first process that reaps what ended, and hands on signals.", True),
        "stop_grace_period": Why("Streams under way end first; then it is killed.", f"{seconds}s"),
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "logging": Why(
            "Without bounds, logs fill the disk.",
            {"driver": "json-file", "options": {"max-size": "20m", "max-file": "5"}},
        ),
    }


def _gateway(shipment: Shipment, inside: str) -> dict[str, Any]:
    with_tls = shipment.config.gateway.tls is not None
    address = "" if with_tls else "127.0.0.1:"
    because = (
        "It speaks TLS, so other machines may connect."
        if with_tls
        else "Without TLS, only programs of this machine, a proxy among them, may send keys to it."
    )
    ports = [Why(because, f"{address}{shipment.port}:{shipment.port}")]
    if shipment.admin_port is not None:
        ports.append(
            Why("The control API is for this machine alone.", f"127.0.0.1:{ADMIN_PORT}:{ADMIN_PORT}")
        )
    service: dict[str, Any] = {
        "image": shipment.image,
        "build": Why(
            "Where no registry has the image: from the Dockerfile beside this file.", {"context": "."}
        ),
        "ports": ports,
        "volumes": [
            _bind("./inferry.yaml", CONFIG_PATH),
            *(_bind(str(mount.outside), mount.inside) for mount in shipment.mounts),
            {"type": "volume", "source": "state", "target": HOME_PATH},
            *_backups(shipment),
        ],
        "tmpfs": ["/tmp"],
        "healthcheck": Why(
            "As in the image, by this file's port; an image may have been built for another one.",
            {
                "test": Why(
                    "As one line for a shell: Podman's Docker API cuts words at their spaces.",
                    ["CMD-SHELL", _literal(shlex.join(health_argv(shipment)))],
                ),
                "interval": f"{HEALTH_INTERVAL_S}s",
                "timeout": f"{HEALTH_TIMEOUT_S}s",
                "retries": HEALTH_RETRIES,
                "start_period": f"{HEALTH_START_S}s",
            },
        ),
    }
    names = sorted(set(re.findall(r"\$\{(\w+)", inside)))
    if names:
        service["environment"] = Why(
            "What its file refers to. Only names stand here; the values come from .env.",
            {name: _variable(name) for name in names},
        )
    if shipment.engines:
        service["depends_on"] = Why(
            "Started, not healthy: it serves by what is ready, and one engine that does not come up must not hold up"
            " the others.",
            {
                service_name: {"condition": "service_started"}
                for engine in shipment.engines
                for service_name in service_names(engine)
            },
        )
    service["networks"] = {
        "engines": None,
        "outside": {"aliases": [f"{shipment.name}-gateway-0"]},
    }
    limits: dict[str, Any] = {"pids": PIDS_MAX}
    if not shipment.embedded:
        limits["memory"] = "2G"
    service["deploy"] = {"resources": {"limits": limits}}
    return service | _common(stop_grace_s(shipment))


def _engine(engine: ShippedEngine, key: str | None, gpus: Mapping[str, Any] | None) -> dict[str, Any]:
    plan, needs = engine.plan, engine.plan.needs
    service: dict[str, Any] = {
        "image": needs.image,
        "entrypoint": [_literal(word) for word in needs.entrypoint],
        "command": [_literal(word) for word in plan.command.args],
        "user": Why("Makers' images run as root; this number is nobody's.", f"{GATEWAY_USER}:{GATEWAY_USER}"),
        "environment": _environment(engine, key),
        "healthcheck": _health(engine),
        "networks": ["engines", "outside"] if _fetches(engine) else ["engines"],
        "tmpfs": Why(
            "Kernels that are compiled at the start are run from there.",
            ["/tmp:exec", f"{ENGINE_HOME}:exec,mode=1777"],
        ),
    }
    volumes = [_bind(str(mount.outside), mount.inside) for mount in _mounts(engine)]
    if _cache(engine):
        volumes.append({"type": "volume", "source": _cache(engine), "target": CACHE})
        service["depends_on"] = {_cache(engine): {"condition": "service_completed_successfully"}}
    if volumes:
        service["volumes"] = volumes
    if plan.command.files:
        service["configs"] = [
            {"source": _config(engine, name), "target": f"{FILES_FOLDER}/{name}"}
            for name in plan.command.files
        ]
    if needs.shared_memory_bytes is not None:
        service["shm_size"] = Why(
            "GPUs of one replica speak by shared memory, and 64 MiB are too few.",
            size_text(needs.shared_memory_bytes),
        )
    limits: dict[str, Any] = {"pids": PIDS_MAX}
    if engine.deployment.memory is not None:
        limits["memory"] = size_text(int(engine.deployment.memory))
    resources: dict[str, Any] = {"limits": limits}
    if gpus is not None:
        resources["reservations"] = {"devices": [gpus]}
    service["deploy"] = {"resources": resources}
    return service | _common(math.ceil(plan.stop_grace_s) + 5)


def _environment(engine: ShippedEngine, key: str | None) -> dict[str, Any]:
    plan = engine.plan
    found: dict[str, Any] = {"HOME": ENGINE_HOME, "USER": Why("PyTorch asks who it is.", "inferry")}
    if _cache(engine):
        found |= {"XDG_CACHE_HOME": CACHE, "HF_HOME": f"{CACHE}/huggingface"}
        if isinstance(engine.deployment, OllamaDeployment):
            found["OLLAMA_MODELS"] = f"{CACHE}/ollama"
    found |= {name: _literal(value) for name, value in plan.shown_env.items()}
    for name in plan.passed_env:
        if name in plan.command.secret_env and key is not None:
            found[name] = _variable(key)
        elif name in plan.command.env:
            found[name] = _variable(name)
        else:
            found[name] = Why("Only for models that are not public.", f"${{{name}:-}}")
    return found


def _health(engine: ShippedEngine) -> dict[str, Any]:
    url = f"http://127.0.0.1:{ENGINE_PORT}{engine.probes.path}"
    test: Any = Why(
        "By what the image has; its own check may ask another port.",
        [
            "CMD-SHELL",
            f"curl --fail --silent --output /dev/null {url} || "
            f"python3 -c \"import urllib.request; urllib.request.urlopen('{url}', timeout=8)\"",
        ],
    )
    if isinstance(engine.deployment, OllamaDeployment):
        test = ["CMD", "ollama", "list"]
    return {
        "test": test,
        "interval": "10s",
        "timeout": "10s",
        "retries": Why("Two minutes: a full engine may be slow, and is not dead.", 12),
        "start_period": Why("Big models load for minutes.", f"{math.ceil(engine.probes.start_budget_s)}s"),
    }


def _gpus(engine: ShippedEngine, number: int, next_gpu: int) -> tuple[Any, int]:
    """The devices of one replica, and the first one that is free then."""
    count = engine.plan.gpus
    if not count:
        return None, next_gpu
    named = engine.plan.gpu_indexes
    if named is None:
        ids = tuple(range(next_gpu, next_gpu + count))
        next_gpu += count
        because = (
            "Numbered in the file's order, each replica with its own: 'gpus' of the deployment says others."
        )
    else:
        seat = number % max(1, len(named) // count)
        ids = named[seat * count : (seat + 1) * count] if len(named) >= count else named
        because = "As 'gpus' of the deployment says."
    device = {
        "driver": "nvidia",
        "device_ids": Why(because, [str(each) for each in ids]),
        "capabilities": ["gpu"],
    }
    return device, next_gpu


def _backups(shipment: Shipment) -> list[dict[str, Any]]:
    if shipment.config.backup is None:
        return []
    return [{"type": "volume", "source": "backups", "target": BACKUPS_PATH}]


def _makes_cache(shipment: Shipment, engine: ShippedEngine) -> dict[str, Any]:
    return {
        "image": shipment.image,
        "entrypoint": Why(
            "It does nothing: a new volume takes the owner of the folder that it is first mounted on, so that the"
            " engine's user can write to it, and nobody has to be root.",
            ["true"],
        ),
        "command": [],
        "healthcheck": {"disable": True},
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "volumes": [{"type": "volume", "source": _cache(engine), "target": HOME_PATH}],
    }


def _mounts(engine: ShippedEngine) -> list[Mount]:
    model = engine.plan.model.mount
    others = [Mount(path, str(path)) for path in engine.plan.other_mounts]
    return others if model is None else [model, *others]


def _fetches(engine: ShippedEngine) -> bool:
    """Its model comes from elsewhere at the start."""
    return engine.plan.model.mount is None


def _cache(engine: ShippedEngine) -> str:
    """The volume of what it fetches; empty: it fetches nothing."""
    return f"{engine.name}-cache" if _fetches(engine) and engine.plan.needs.cache_folder is not None else ""


def _config(engine: ShippedEngine, name: str) -> str:
    return f"{engine.name}-{re.sub('[^a-z0-9-]', '-', name.lower())}"


def _bind(outside: str, inside: str) -> dict[str, Any]:
    """A path that is not there is an error, not a new folder of root's."""
    return {
        "type": "bind",
        "source": _literal(outside),
        "target": inside,
        "read_only": True,
        "bind": {"create_host_path": False},
    }


def _variable(name: str) -> str:
    return f"${{{name}:?set it in .env}}"


def _literal(text: str) -> str:
    """Compose expands `$`."""
    return text.replace("$", "$$")


def _env_example(shipment: Shipment, keys: Mapping[str, str]) -> str:
    lines = [
        "# Copy this to .env, for the eyes of its owner alone (chmod 600 .env), and fill it in. It belongs into no",
        "# repository and no image.",
    ]
    if shipment.secrets:
        lines += ["", "# What the deployment file refers to."]
        lines += [f"{name}=" for name in shipment.secrets]
    if keys:
        lines += ["", "# Between the gateway and its engines; make each with: openssl rand -hex 32"]
        lines += [f"{name}=" for name in keys.values()]
    if any(engine.plan.model.hub for engine in shipment.engines) and "HF_TOKEN" not in shipment.secrets:
        lines += ["", "# Only for models that are not public.", "HF_TOKEN="]
    return "\n".join(lines) + "\n"
