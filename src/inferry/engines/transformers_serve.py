"""`transformers serve`: the models' own reference code behind an HTTP server, one request after the other.

It knows no keys, so whoever reaches its port may use it: as a process it listens where it is told, which is
loopback, and in a container its port must be published there only. It has no metrics page either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inferry.core.errors import ConfigError
from inferry.core.launch import CommandPlace, ContainerNeeds, EngineCommand, LaunchSpec
from inferry.core.request import CHAT, COMPLETIONS
from inferry.core.server_engines import TransformersDeployment
from inferry.engines.adapter import (
    EngineMetrics,
    ExitReading,
    LaunchContext,
    ProbeReading,
    Verdict,
    WarmupRequest,
)
from inferry.engines.continuation import continuation_of
from inferry.engines.exit_cause import USAGE_EXIT_CODE, exit_with_cause
from inferry.engines.flag_lint import lint
from inferry.engines.flag_table import table_for
from inferry.engines.gpus import visible_gpus
from inferry.engines.one_token import one_token_completion
from inferry.engines.program import checked_version, find_program, process_place, process_spec

PROGRAM = "transformers"
NEWEST_VERSION = "5.23.0"
ENV = "/usr/bin/env"
"""Runs either a shell or the program itself, found on the PATH; the same in every container."""

# Its only name for a model is the path that it loads, and requests must carry exactly that. So it is started in
# a folder where the model has the deployment's name: no path of this machine shows in its answers. In a container
# only root can make the replica's folder.
_SERVE_UNDER_A_NAME = (
    '{ mkdir -p "$1" && cd "$1"; } 2>/dev/null || cd "$(mktemp -d)"; '
    'ln -sfn "$2" "$3" && shift 2 && exec "$0" serve "$@"'
)

# Each with the key of the file to use instead.
_MANAGED_FLAGS = {
    "--host": "",
    "--port": "",
    "--model-timeout": "",
    # CBGenerateManager.init_cb of transformers/cli/serving/utils.py.
    "--continuous-batching": "with it, the temperature of the first request holds for all that follow",
    "--device": "device",
    "--dtype": "dtype",
    "--quantization": "quantization",
    "--trust-remote-code": "trust_remote_code",
    "--no-trust-remote-code": "trust_remote_code",
}


class TransformersAdapter:
    """A CommandAdapter for one deployment."""

    engine = "transformers"
    simulated = False
    # Its /v1/responses streams unless told not to, the other way round from OpenAI's: clients would be surprised.
    routes = frozenset(route.path for route in (CHAT, COMPLETIONS))
    # Passed over, with a warning once: the last event of a stream has the usage in any case.
    reports_stream_usage = True
    tokenize_field: str | None = None
    continuation = continuation_of(engine)
    probe_path = "/health"
    metrics_path: str | None = None

    def __init__(self, name: str, deployment: TransformersDeployment) -> None:
        self._name = name
        self._deployment = deployment

    @property
    def served_name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return self._deployment.version or NEWEST_VERSION

    @property
    def warmups(self) -> Sequence[WarmupRequest]:
        return (one_token_completion(self._name),)

    def command(self, place: CommandPlace) -> EngineCommand:
        return self._command(place, self.version, PROGRAM)

    def container(self) -> ContainerNeeds:
        return ContainerNeeds(
            image=self._deployment.image or "huggingface/transformers-pytorch-gpu:latest",
            entrypoint=(ENV,),
            gpus=0 if self._deployment.device == "cpu" else 1,
            cache_folder="/root/.cache",
        )

    def launch(self, context: LaunchContext, environ: Mapping[str, str]) -> LaunchSpec:
        if context.model_path is None:
            raise ConfigError(f"deployments.{self._name}: transformers needs a model")
        program = find_program(self._name, self._deployment.binary, PROGRAM, self.engine, environ)
        version = checked_version(self._name, self._deployment.version, program, "transformers")
        place = process_place(context, str(context.model_path))
        command = self._command(place, version or NEWEST_VERSION, program)
        return process_spec(command, context, ENV)

    def _command(self, place: CommandPlace, version: str, program: str) -> EngineCommand:
        deployment = self._deployment
        table = table_for(self.engine, version)
        lint(f"deployments.{self._name}.extra_args", deployment.extra_args, table, _MANAGED_FLAGS)
        env = visible_gpus(self._name, deployment, place.gpu_seat)
        if _is_path(place.model) and not deployment.trust_remote_code:
            env["HF_HUB_OFFLINE"] = "1"  # code that comes with a model may name other repositories
        flags = (*self._flags(place), *deployment.extra_args)
        return EngineCommand(ENV, (*_serve(program, place), *flags), {**env, **deployment.env})

    def _flags(self, place: CommandPlace) -> list[str]:
        deployment = self._deployment
        flags = ["--host", place.host, "--port", str(place.port)]
        for flag, value in (
            ("--device", deployment.device),
            ("--dtype", deployment.dtype),
            ("--quantization", deployment.quantization),
        ):
            if value is not None:
                flags += [flag, value]
        if deployment.trust_remote_code:
            flags.append("--trust-remote-code")
        return flags

    def read_probe(self, status: int, body: bytes) -> ProbeReading:
        if status == 200:
            return ProbeReading(Verdict.READY, "answers")
        # It listens only once the model is loaded.
        return ProbeReading(Verdict.UNWELL, f"its health page answers {status}")

    def read_metrics(self, page: str) -> EngineMetrics:
        return EngineMetrics()

    def read_exit(self, code: int, log_tail: Sequence[str]) -> ExitReading:
        return ExitReading(retryable=code != USAGE_EXIT_CODE, message=exit_with_cause(code, log_tail))


def _is_path(model: str) -> bool:
    return model.startswith("/")


def _serve(program: str, place: CommandPlace) -> tuple[str, ...]:
    """The command up to the model. A hub id can have no other name: requests must carry it as it is."""
    if not _is_path(place.model):
        return (program, "serve", place.model)
    return ("sh", "-c", _SERVE_UNDER_A_NAME, program, place.folder, place.model, place.served_name)
