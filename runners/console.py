"""The web console: ``python runners/console.py [port=18123] [data_folders=[...]]``."""

from __future__ import annotations

import contextlib
import secrets
import socket
import sys

from _launch import launch


def main() -> None:
    """Print the address, then serve until Ctrl-C."""
    from ocr.errors import UserError

    try:
        import uvicorn

        from ocr.console.app import create_app
        from ocr.console.settings import read_settings
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "ocr":
            raise
        raise UserError(f"the console needs {error.name}: pip install -e '.[console]'") from error
    settings = read_settings(sys.argv[1:])
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, settings.port))
            listening.listen()  # a browser that is fast waits until it is answered
        except OSError as error:
            raise UserError(f"{settings.host}:{settings.port}: {error.strerror}: give another port=") from error
        port, token = listening.getsockname()[1], secrets.token_urlsafe(32)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        print(f"http://{host}:{port}/?token={token}", flush=True)
        config = uvicorn.Config(
            create_app(settings, token, port), log_level="warning", access_log=False, server_header=False
        )
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    launch(main)
