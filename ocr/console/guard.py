"""Who may ask: the token, Host and Origin of each request, its size; and the headers of each answer.

A page of another site that the same browser has open can send requests here, also by letting its own name point to this
address (DNS rebinding). So each request must name one of our hosts, come from one of our pages where it says where it
comes from, and bring the token that only the printed address had.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIMIT_BYTES = 1_000_000  # of a request's body, but for those that bring files
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # without a referrer, browsers send forms with Origin: null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: what is guarded.
        token: of the printed address.
        hosts: values of ``Host`` that are ours, with their port.
        cookie: name of the cookie, another for each port: browsers do not tell ports apart.
        limits: bytes of a request's body by path, where that is another than :data:`LIMIT_BYTES`.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Iterable[str], cookie: str, limits: Mapping[str, int]) -> None:
        self.app, self.token, self.hosts, self.cookie = app, token, {host.lower() for host in hosts}, cookie
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no sockets
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope)
        if answer is None and (path := self._without_token(scope)):
            answer = RedirectResponse(path, status_code=303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="lax", path="/")
        if answer is not None:
            await answer(scope, receive, send_with_headers)
            return
        await self.app(scope, self._limited(receive, self._limit(scope)), send_with_headers)

    def _limit(self, scope: Scope) -> int:
        return self.limits.get(scope["path"], LIMIT_BYTES)

    def _refusal(self, scope: Scope) -> PlainTextResponse | RedirectResponse | None:
        headers = Headers(scope=scope)
        if headers.getlist("host") != [host := headers.get("host", "")] or host.lower() not in self.hosts:
            return PlainTextResponse("this address is not served here", 421)
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in {f"{scheme}://{host.lower()}" for scheme in ("http", "https")}:
            return PlainTextResponse("requests of other pages are refused", 403)
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("requests of other pages are refused", 403)
        token = self.token.encode()
        if not any(secrets.compare_digest(given.encode(), token) for given in self._tokens(scope, headers)):
            return PlainTextResponse("open the address that the console printed when it was started", 401)
        if int(headers.get("content-length", "0")) > (limit := self._limit(scope)):
            return PlainTextResponse(f"more than {limit // 10**6} MB", 413)
        return None

    def _tokens(self, scope: Scope, headers: Headers) -> list[str]:
        given = [value for key, value in parse_qsl(scope["query_string"].decode("latin-1")) if key == "token"]
        for header in headers.getlist("cookie"):  # by hand: those of other programs may follow no rule
            pairs = [part.strip().partition("=") for part in header.split(";")]
            given += [value for name, _, value in pairs if name == self.cookie]
        return given

    def _without_token(self, scope: Scope) -> str:
        """The address without the token, which a browser then neither shows nor keeps; empty where it has none."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        rest = [(key, value) for key, value in query if key != "token"]
        if scope["method"] != "GET" or len(rest) == len(query):
            return ""
        path = "/" + scope["raw_path"].decode("latin-1").lstrip("/")  # not //elsewhere
        return path + (f"?{urlencode(rest)}" if rest else "")

    def _limited(self, receive: Receive, limit: int) -> Receive:
        """Pass messages on, until a body without a stated length is too long."""
        total = 0

        async def limited() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > limit:
                raise HTTPException(413, f"more than {limit // 10**6} MB")
            return message

        return limited
