"""The web console: ``python runners/console.py [port=18123] [data_folders=[...]]``."""

from __future__ import annotations

import contextlib
import secrets
import socket
import sys

from _launch import known_secrets


def main() -> int:
    """0 when it was ended, 2 when it cannot be started."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from ocr.errors import UserError
    from ocr.jobs.command_line.compose import config_message

    try:
        _serve(sys.argv[1:])
    except UserError as error:
        message = str(error)
    except (HydraException, OmegaConfBaseException) as error:
        message = config_message(error, "console", sys.argv[1:])
    else:
        return 0
    print(f"error: {known_secrets(sys.argv[1:]).text(message)}", file=sys.stderr)
    return 2


def _serve(arguments: list[str]) -> None:
    from ocr.errors import UserError

    try:
        import uvicorn

        from ocr.console.app import create_app
        from ocr.console.settings import read_settings
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "ocr":
            raise
        raise UserError(f"the console needs {error.name}: pip install -e '.[console]'") from error
    from ocr.tracking.credentials import load_env_variables

    load_env_variables()
    settings = read_settings(arguments)
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
    sys.exit(main())
