"""The program of one gateway process: `python -m inferry.cli.gateway_worker LINK_FD LISTEN_FD`.

Started by the control process only (`inferry up`), which hands it two sockets; everything else it must know
comes over the first of them, so nothing secret stands in its arguments or environment.
"""

from __future__ import annotations

import signal
import socket
import sys

import uvloop

from inferry.cli.logging_setup import log_to_file
from inferry.cli.short_pauses import QuietMoments, keep_pauses_short
from inferry.core.clock import SystemClock
from inferry.gateway.messages import Setup
from inferry.gateway.worker import GatewayWorker


def main() -> None:
    link_fd, listen_fd = (int(word) for word in sys.argv[1:3])
    # Ctrl-C and the end of a terminal reach the whole group; the control process decides what they mean, and
    # tells us over the link. If it is gone, the link is.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(_serve(socket.socket(fileno=link_fd), socket.socket(fileno=listen_fd)))


async def _serve(link: socket.socket, listener: socket.socket) -> None:
    await GatewayWorker(link, listener, SystemClock(), _begin, QuietMoments().look).run()


def _begin(setup: Setup) -> None:
    log_to_file(setup.log_path)
    keep_pauses_short()


if __name__ == "__main__":
    main()
