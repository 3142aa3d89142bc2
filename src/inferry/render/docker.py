"""The gateway's image: a Dockerfile and the locked packages that it installs. Engines keep the images of their makers."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from inferry.core.local_engines import LlamaCppDeployment
from inferry.render.shipment import BACKUPS_PATH, CONFIG_PATH, GATEWAY_USER, HOME_PATH, Files, Shipment

BASE = "docker.io/library/python:3.11-slim"
"""Both stages: the environment of the first one points to the Python of the second."""
HEALTH_INTERVAL_S = 10
HEALTH_TIMEOUT_S = 5
HEALTH_START_S = 600
"""An embedded model may have to be fetched first; failures within count for nothing, and the first success ends it."""
HEALTH_RETRIES = 3


def render_docker(shipment: Shipment) -> Files:
    """`Dockerfile`, `.dockerignore` and `requirements.txt`."""
    return {
        "Dockerfile": _dockerfile(shipment),
        ".dockerignore": "# Nothing but what the Dockerfile copies: no file of secrets gets into a layer by accident.\n"
        "*\n!requirements.txt\n!inferry-*.whl\n",
        "requirements.txt": requirements(shipment),
    }


def requirements(shipment: Shipment) -> str:
    """The gateway's packages, each with its version and hashes; the embedded engine only where a deployment runs on it."""
    wants_engine = _has_engine(shipment)
    entries = re.split(r"\n(?=\S)", _lock().strip())
    kept = [each for each in entries if wants_engine or not each.startswith("xllamacpp==")]
    return (
        "# What the image installs besides Inferry itself; pip refuses any other version or file.\n"
        + "".join(f"{each}\n" for each in kept)
    )


def _has_engine(shipment: Shipment) -> bool:
    """Whether the embedded llama.cpp runs inside of the gateway's container."""
    deployments = shipment.config.deployments
    return any(isinstance(deployments[name], LlamaCppDeployment) for name in shipment.embedded)


@cache
def _lock() -> str:
    return files("inferry.render").joinpath("gateway_lock.txt").read_text(encoding="utf-8")


def health_argv(shipment: Shipment) -> list[str]:
    """Asks the gateway for its health by the Python that is in the image: there is no curl, and none is wanted."""
    tls = shipment.config.gateway.tls is not None
    url = f"{'https' if tls else 'http'}://127.0.0.1:{shipment.port}/health"
    # The certificate is for the name that clients use; on loopback there is nobody between.
    more = ", context=ssl._create_unverified_context()" if tls else ""
    modules = "ssl, urllib.request" if tls else "urllib.request"
    code = f"import {modules}; urllib.request.urlopen('{url}', timeout={HEALTH_TIMEOUT_S - 1}{more})"
    return ["python", "-c", code]


def _dockerfile(shipment: Shipment) -> str:
    health = ", ".join(f'"{word}"' for word in health_argv(shipment))
    user = GATEWAY_USER
    return f"""\
# The gateway of Inferry {shipment.version}, made by 'inferry render docker'. Build it in this folder:
#   docker build --tag {shipment.image} .
# Engines that are programs of their own run in the images of their makers, pinned by version; they need no Dockerfile.

# Tags move: for builds that are the same next year, add the digest that you tested (python:3.11-slim@sha256:...).
FROM {BASE} AS build
RUN python3 -m venv /opt/inferry
COPY requirements.txt /build/
# Exact versions and hashes: what somebody slipped into an index is refused.
RUN /opt/inferry/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \\
        --requirement /build/requirements.txt
# Inferry itself: a wheel beside this file if there is one, else this version from pip's index.
ARG INFERRY="inferry=={shipment.version}"
# requirements.txt is named again, so that no wheel at all is no error.
COPY requirements.txt inferry-*.whl /build/
RUN wheel="$(find /build -name 'inferry-*.whl')" \\
    && /opt/inferry/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps "${{wheel:-$INFERRY}}"

# The second stage has no pip cache and no build folder; what was fetched stays behind.
FROM {BASE}
{_libraries(shipment)}LABEL org.opencontainers.image.title="Inferry gateway" \\
      org.opencontainers.image.version="{shipment.version}" \\
      org.opencontainers.image.licenses="Apache-2.0"
# A number above those that distributions give out: it is nobody on the host.
RUN groupadd --gid {user} inferry \\
    && useradd --uid {user} --gid {user} --no-create-home --home-dir {HOME_PATH} --shell /usr/sbin/nologin inferry \\
    && install --directory --owner={user} --group={user} --mode=0700 {HOME_PATH} {BACKUPS_PATH} \\
    && install --directory {CONFIG_PATH.rpartition("/")[0]}
COPY --from=build /opt/inferry /opt/inferry
# The root may be read-only: nothing is written but below INFERRY_HOME, /tmp and the folder of backups.
ENV PATH=/opt/inferry/bin:$PATH \\
    PYTHONUNBUFFERED=1 \\
    PYTHONDONTWRITEBYTECODE=1 \\
    INFERRY_HOME={HOME_PATH}
# No admin key is shown at the first start, as what a container says goes into logs: make one with 'inferry keys create'
# inside. It is a setting and no secret, whatever its name makes of it.
# trivy:ignore:AVD-DS-0031
ENV INFERRY_FIRST_KEY=none
USER {user}:{user}
WORKDIR {HOME_PATH}
# Keys, ledger, journal, models: a volume, or they are lost with the container.
VOLUME {HOME_PATH}
EXPOSE {shipment.port}
# Streams under way end first; give it longer than Docker's 10 seconds: docker run --stop-timeout {stop_grace_s(shipment)}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval={HEALTH_INTERVAL_S}s --timeout={HEALTH_TIMEOUT_S}s --start-period={HEALTH_START_S}s --retries={HEALTH_RETRIES} \\
    CMD [{health}]
# Engines that it starts are ended by its own guard process; only 'docker run --init' reaps what they leave behind.
ENTRYPOINT ["inferry"]
CMD ["up", "{CONFIG_PATH}"]
"""


def _libraries(shipment: Shipment) -> str:
    if not _has_engine(shipment):
        return ""
    return """\
# The embedded llama.cpp computes on several cores by libgomp, which a slim image has not. Debian's mirrors keep only
# the newest patch of a release, so a version written here would be gone one day.
# hadolint ignore=DL3008
RUN apt-get update \\
    && apt-get install --yes --no-install-recommends libgomp1 \\
    && rm -rf /var/lib/apt/lists/*
"""


def stop_grace_s(shipment: Shipment) -> int:
    """From SIGTERM to the end: streams finish for `gateway.drain_s`, then engines inside get their own grace."""
    deployments = shipment.config.deployments
    engines_s = max(
        (getattr(deployments[name], "stop_grace_s", 0.0) for name in shipment.embedded), default=0.0
    )
    return int(shipment.config.gateway.drain_s + engines_s) + 10
