"""A loopback stand-in for the W&B server: enough of its protocol for the real client, all it receives kept.

``POST /graphql`` answers by operation name, ``POST /files/<entity>/<project>/<run>/file_stream`` takes history, summary
and the exit, ``PUT /up/...`` takes files, ``GET /up/...`` gives them back. What arrived is in ``runs``,
``artifacts`` and ``uploads``, see :mod:`tests.standin_records`. :attr:`StandIn.mood` makes it behave badly:

* ``"up"``: answers;
* ``"drop"``: closes every connection without an answer;
* ``"stall"``: takes requests and keeps silent until the mood changes;
* ``"deny"``: 401 for the key;
* ``"forbid"``: 403 for writing to the project.

An operation that it does not know is answered with an error and listed in :attr:`StandIn.faults`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.standin_records import ENTITY, Records

KEY = "0123456789abcdef" * 3
WRITES = {"UpsertBucket", "CreateArtifact", "CreateRunFiles"}


class StandIn(Records):
    """Context manager around the server; :meth:`env` has the variables that lead a client to it."""

    def __init__(self, port: int = 0) -> None:
        super().__init__()
        self.mood = "up"
        self.operations: list[str] = []
        self.faults: list[str] = []  # what it did not know or could not read
        self.bodies: list[bytes] = []  # everything that came, for searches
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> StandIn:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.mood = "drop"
        self._server.shutdown()
        self._server.server_close()

    def env(self, key: str = KEY) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": key, "WANDB_ENTITY": ENTITY, "WANDB_MODE": "online"}

    def _handler(standin) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def _reply(self, content: Any, status: int = 200) -> None:
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has gone
                    self.wfile.write(body)

            def _misbehaves(self) -> bool:
                if standin.mood == "stall":
                    while standin.mood == "stall":
                        time.sleep(0.05)
                if standin.mood == "drop":
                    self.close_connection = True
                    self.connection.close()
                    return True
                return False

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    chunks = []
                    while size := int(self.rfile.readline(), 16):
                        chunks.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(chunks)
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def _kept_body(self) -> bytes:
                body = self._body()
                standin.bodies.append(self.path.encode() + b"\n" + body)
                return body

            def do_POST(self) -> None:
                body = self._kept_body()
                if self._misbehaves():
                    return
                if self.path.startswith("/sdk/otel"):  # the client's own telemetry
                    return self._reply({}, 404)
                key = base64.b64decode((self.headers.get("Authorization") or "Basic ").split()[-1]).decode()
                if standin.mood == "deny" or key.removeprefix("api:") != KEY:
                    return self._reply({"errors": [{"message": "user is not logged in"}]}, 401)
                content = json.loads(body)
                if self.path.endswith("file_stream"):
                    standin.streamed(self.path.split("/")[-2], content)
                    return self._reply({"exitcode": None, "limits": {}})
                found = re.search(r"(?:query|mutation)\s+(\w+)", content["query"])
                operation = content.get("operationName") or (found.group(1) if found else "")
                standin.operations.append(operation)
                if standin.mood == "forbid" and operation in WRITES:
                    return self._reply({"errors": [{"message": "permission denied"}]}, 403)
                try:
                    data = standin.answer(operation, content.get("variables") or {})
                except Exception as error:  # a test reads it in .faults; the client gets an answer that ends its tries
                    standin.faults.append(f"{operation}: {error!r}: {json.dumps(content)[:2000]}")
                    return self._reply({"errors": [{"message": str(error)}]}, 400)
                self._reply({"data": data})

            def do_PUT(self) -> None:
                body = self._kept_body()
                if self._misbehaves():
                    return
                standin.received(self.path.removeprefix("/up/"), body)
                self._reply(b"")

            def do_GET(self) -> None:
                if self._misbehaves():
                    return
                body = standin.uploads.get(self.path.removeprefix("/up/"))
                self._reply(body or b"", 200 if body is not None else 404)

        return Handler
