"""`inferry dashboard`: the dashboard of an instance on this machine, for whoever may open its control socket.

For others, `admin.listen` serves the same pages, and asks for a key.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import webbrowser
from typing import Annotated

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.cli.down import Port
from inferry.core.errors import ConfigError
from inferry.core.home import inferry_home


def dashboard(
    port: Port = None,
    listen: Annotated[
        int, typer.Option("--listen", "-l", min=0, max=65535, help="Its own port on 127.0.0.1; 0: any.")
    ] = 0,
    open_it: Annotated[
        bool, typer.Option("--open/--no-open", help="Open it in this machine's browser.")
    ] = True,
) -> None:
    """Show the dashboard of what runs here, in a browser, until Ctrl-C."""
    from inferry.admin.run_record import find

    record = find(inferry_home(os.environ), port, DEFAULT_FILE)
    asyncio.run(_serve(record.socket, listen, record.url, open_it))


async def _serve(control: str, port: int, gateway_url: str, open_it: bool) -> None:
    from inferry.admin.auth import Gate
    from inferry.admin.dashboard.relay import Relay
    from inferry.admin.visitors import TokenDoor
    from inferry.cli.control_server import control_server
    from inferry.core.clock import SystemClock
    from inferry.gateway.server import bind_sockets

    try:
        listeners = bind_sockets("127.0.0.1", port, setting="--listen")
    except OSError as error:
        raise ConfigError(f"--listen {port}: {error.strerror or error}.") from error
    # A random token, after the #: browsers send that part to nobody. Other users of this machine don't have it.
    token = secrets.token_urlsafe(32)
    relay = Relay(control)
    server = control_server(Gate(relay, TokenDoor(token), SystemClock()))
    loop = asyncio.get_running_loop()

    def end() -> None:
        server.should_exit = True
        relay.end()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    url = f"http://127.0.0.1:{listeners[0].getsockname()[1]}/#token={token}"
    typer.echo(f"Dashboard of {gateway_url}, until Ctrl-C:\n  {url}")
    if open_it:
        await asyncio.to_thread(webbrowser.open, url)
    try:
        await server.serve(sockets=listeners)
    finally:
        await relay.close()
