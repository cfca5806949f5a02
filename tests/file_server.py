"""A web server for the files of a folder, on the loopback: parts of files, a delay, a log and faults."""

from __future__ import annotations

import contextlib
import html
import os
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote


class FileServer:
    """Serves ``folder``; each request waits ``delay`` seconds.

    Attributes:
        requests: method, path and range of each.
        failures: answers of the next requests that are 503.
        gives_parts: heed the range that a request asks for.
        missing: status of a file that is not there.
    """

    def __init__(self, folder: Path, delay: float = 0.0) -> None:
        self.folder, self.delay = folder, delay
        self.requests: list[tuple[str, str, str | None]] = []
        self.failures, self.gives_parts, self.missing = 0, True, 404

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Its address."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner.answer(self)

            do_HEAD = do_GET

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path, wanted = unquote(handler.path.split("?")[0]), handler.headers.get("Range")
        self.requests.append((handler.command, path, wanted))
        time.sleep(self.delay)
        file = self.folder / path.lstrip("/")
        if self.failures:
            self.failures -= 1
            status, headers, body = 503, {}, b""
        elif file.is_dir():
            links = "".join(f'<a href="{quote(e.name)}{"/" * e.is_dir()}">{html.escape(e.name)}</a>\n'
                            for e in os.scandir(file))  # fmt: skip
            status, headers, body = 200, {"Content-Type": "text/html"}, links.encode()
        elif not file.is_file():
            status, headers, body = self.missing, {}, b""
        else:
            size, first, last = file.stat().st_size, 0, file.stat().st_size - 1
            status, headers = 200, {"Accept-Ranges": "bytes"}
            if wanted and self.gives_parts and (match := re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)):
                first, last = int(match[1]), min(last, int(match[2] or last))
                status, headers = 206, {"Content-Range": f"bytes {first}-{last}/{size}"}
            with file.open("rb") as opened:
                opened.seek(first)
                body = opened.read(last - first + 1)
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(body)


if __name__ == "__main__":  # python -m tests.file_server <folder> <seconds>
    import sys

    with FileServer(Path(sys.argv[1]), float(sys.argv[2])).running() as url:
        print(url, flush=True)
        threading.Event().wait()
