"""Serve the labelling page in a thread, and end it once open requests are answered."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

_GRACE = 3  # seconds for requests that are being answered when the page ends


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that listens; port 0 takes any port that is free.

    Raises:
        ValueError: there is no such host here, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just left is free
            listener.bind(address)
            listener.listen(128)
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"the page cannot listen on port {port} of {host} ({reason}); give another with --port, or 0 "
            f"for any that is free"
        ) from None
    return listener


@contextmanager
def serving(app: ASGIApp, listener: socket.socket, ending: threading.Event) -> Iterator[None]:
    """Serve `app` in this block, in another thread, so that the main thread receives signals.

    At the end of the block, requests that are being answered are completed. `ending` is set if the server fails.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            access_log=False,  # it would hold the token
            log_config=None,
            log_level="warning",
            lifespan="off",
            ws="none",
            http="h11",
            loop="asyncio",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE,
        )
    )

    def run() -> None:
        try:
            server.run(sockets=[listener])
        finally:
            ending.set()  # also after an error, so that nothing waits for a server that has ended

    thread = threading.Thread(target=run, name="labelling page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
