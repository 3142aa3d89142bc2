"""systemd units for a machine without containers: Inferry as a service, and a backup each night."""

from __future__ import annotations

import math

from inferry.render.shipment import CONFIG_PATH, HOME_PATH, Files, Shipment

PROGRAM = "/opt/inferry/bin/inferry"
ENVIRONMENT_FILE = "/etc/inferry/inferry.env"
BACKUPS = "/var/backups/inferry"
BACKUPS_KEPT = 14


def render_systemd(shipment: Shipment) -> Files:
    """Units, user, folders, and the example of the file with secrets."""
    nightly = {"inferry-backup.service": _backup(), "inferry-backup.timer": _TIMER}
    return {
        "inferry.service": _service(shipment),
        **(nightly if shipment.config.backup is None else {}),  # else Inferry makes them itself
        "sysusers.d/inferry.conf": _SYSUSERS,
        "tmpfiles.d/inferry.conf": _tmpfiles(shipment),
        "inferry.env.example": _env_example(shipment),
    }


def stop_s(shipment: Shipment) -> int:
    """From SIGTERM to SIGKILL: streams finish, then each engine gets its grace."""
    deployments = shipment.config.deployments.values()
    engines_s = max((getattr(each, "stop_grace_s", 0.0) for each in deployments), default=0.0)
    return math.ceil(shipment.config.gateway.drain_s + engines_s) + 10


def _service(shipment: Shipment) -> str:
    port = shipment.port
    capabilities = "CapabilityBoundingSet=\nAmbientCapabilities=\n" if port >= 1024 else _PRIVILEGED_PORT
    return f"""\
# Inferry {shipment.version} with its engines as processes of this machine, made by 'inferry render systemd'.
[Unit]
Description=Inferry: LLM engines behind one gateway
After=network-online.target
Wants=network-online.target
# A file that is wrong stays wrong: give up after a few tries, and say so.
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=exec
User=inferry
Group=inferry
Environment=INFERRY_HOME={HOME_PATH}
# No admin key is shown at the first start: the journal is no place for one.
Environment=INFERRY_FIRST_KEY=none
# Values of what the deployment file refers to as ${{NAME}}; for root's eyes alone, as systemd reads it, not Inferry.
EnvironmentFile=-{ENVIRONMENT_FILE}
ExecStartPre={PROGRAM} config check {CONFIG_PATH}
ExecStart={PROGRAM} up {CONFIG_PATH}
ExecReload={PROGRAM} reload --port {port}
WorkingDirectory={HOME_PATH}
StateDirectory=inferry
StateDirectoryMode=0700
Restart=on-failure
RestartSec=5
# SIGTERM goes to Inferry alone, which lets streams end and then ends its engines; what is left then is killed.
KillMode=mixed
TimeoutStopSec={stop_s(shipment)}
# Each stream is a connection to a client and one to an engine.
LimitNOFILE=65536
TasksMax=infinity
# Locked memory, for engines that pin buffers.
LimitMEMLOCK=infinity

NoNewPrivileges=yes
{capabilities}ProtectSystem=strict
{_backups_writable(shipment)}ProtectHome=yes
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
RestrictNamespaces=yes
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
UMask=0077
# Not set, because engines on GPUs need them: PrivateDevices (the devices /dev/nvidia*), MemoryDenyWriteExecute
# (kernels that are compiled at the start), ProtectProc (the driver's figures).

[Install]
WantedBy=multi-user.target
"""


_PRIVILEGED_PORT = """\
# The gateway's port is below 1024.
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
AmbientCapabilities=CAP_NET_BIND_SERVICE
"""


def _backup() -> str:
    return f"""\
# Deployment file, keys and ledger in one file, while Inferry runs. Copy the folder to another machine, too.
[Unit]
Description=Backup of Inferry's file, keys and ledger

[Service]
Type=oneshot
User=inferry
Group=inferry
Environment=INFERRY_HOME={HOME_PATH}
EnvironmentFile=-{ENVIRONMENT_FILE}
ExecStart={PROGRAM} backup {CONFIG_PATH} --output {BACKUPS} --keep {BACKUPS_KEPT}
Nice=10
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ReadWritePaths={BACKUPS} {HOME_PATH}
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
UMask=0077
"""


_TIMER = """\
[Unit]
Description=A backup of Inferry each night

[Timer]
OnCalendar=*-*-* 03:17:00
# Not all machines at the same second.
RandomizedDelaySec=20min
# A night that was slept through is made up for.
Persistent=yes

[Install]
WantedBy=timers.target
"""

_SYSUSERS = f"""\
# Whom Inferry runs as. Name, number by the system, description, home.
u inferry - "Inferry" {HOME_PATH}
# Where the driver's devices belong to these groups, its engines may use them.
g render - -
m inferry render
g video - -
m inferry video
"""


def _backups_folder(shipment: Shipment) -> str:
    return BACKUPS if shipment.config.backup is None else shipment.config.backup.folder


def _backups_writable(shipment: Shipment) -> str:
    if shipment.config.backup is None:
        return ""
    return f"# The folder of backups; see tmpfiles.d/inferry.conf.\nReadWritePaths={_word(shipment.config.backup.folder)}\n"


def _word(path: str) -> str:
    """As units take it: percent signs mean something there, and spaces part words."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if " " in path else escaped


def _tmpfiles(shipment: Shipment) -> str:
    return f"""\
d /etc/inferry 0750 root inferry -
d {_word(_backups_folder(shipment))} 0700 inferry inferry -
"""


def _env_example(shipment: Shipment) -> str:
    lines = [f"# Copy this to {ENVIRONMENT_FILE} (chmod 600, owner root), and fill it in."]
    return "\n".join([*lines, *(f"{name}=" for name in shipment.secrets)]) + "\n"
