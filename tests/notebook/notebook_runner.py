"""Runs the real notebook on virtual time, cell by cell, with the network simulated over a pipe.

One process runs many cases, one after another. JSON lines in both directions, strictly alternating:

in   {"case": {"source": TEXT, "widgets": {NAME: TEXT}, "secret": TEXT, ...}}        a case begins
out  {"now": MS, "method": .., "url": .., "headers": {..}, "body": TEXT or null,
      "connect_timeout": S, "read_timeout": S}                                         a request from the notebook
in   {"status": 200, "headers": {..}, "body_base64": ..}                               a complete response
     {"cut": NAME, "head": {"status": .., "headers": {..}, "body_base64": ..}}         the connection fails
out  {"done": {"lines": [..], "exit": TEXT or null, "exception": {"class", "reason", "message", "trace"} or null,
      "task_values": {..}, "now": MS, "requests": N, "killed": BOOL, "violation": TEXT or null}}  the case has ended

Optional members of a case: `start_ms` (virtual Unix time at the start), `latency_ms` (duration of each request,
default 20), `seed` (for jitter), `interrupt_at_ms` (virtual time after which a sleep is interrupted, as when the task
is canceled), `interrupt_at_request` (number of the request, from 1, whose response is interrupted), `secret_error`
(error for reading the secret), `old_urllib3` (the library does not notice a truncated body).

Cuts: no-name, refused, blackhole, tls, certificate, proxy, reset, close, hang (hold), reset-after-head,
reset-in-body, silence, truncated, drip, huge, kill. Each raises the exception that `requests` raises.
"""

import base64
import io
import json
import os
import queue  # noqa: F401  (binds the real clock before it is replaced)
import random
import signal
import sys
import threading
import time
import traceback
import types
import urllib.parse
import zlib

DEFAULT_START = 1_767_225_600_000
MOST_REQUESTS = 200_000
SEPARATOR = "\n\n# COMMAND ----------\n\n"
PROTOCOL_IN, PROTOCOL_OUT = sys.stdin.buffer, sys.stdout.buffer


def tell(message):
    PROTOCOL_OUT.write(json.dumps(message).encode() + b"\n")
    PROTOCOL_OUT.flush()


def read_message():
    line = PROTOCOL_IN.readline()
    if not line:
        os._exit(3)
    return json.loads(line)


class Clock:
    """Seconds since the start. Advanced only by sleeping and by slow responses."""

    def __init__(self, case):
        self.start = case.get("start_ms", DEFAULT_START) / 1000
        self.elapsed = 0.0
        at = case.get("interrupt_at_ms")
        self.interrupt_at = None if at is None else at / 1000

    def sleep(self, seconds):
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        target = self.elapsed + seconds
        if self.interrupt_at is not None and target >= self.interrupt_at:
            self.elapsed, self.interrupt_at = max(self.elapsed, self.interrupt_at), None
            raise KeyboardInterrupt
        self.elapsed = target

    def now_ms(self):
        return int((self.start + self.elapsed) * 1000)


# The exception hierarchy of `requests`.
class RequestException(IOError):
    pass


class HTTPError(RequestException):
    pass


class RequestsConnectionError(RequestException):
    pass


class ProxyError(RequestsConnectionError):
    pass


class SSLError(RequestsConnectionError):
    pass


class Timeout(RequestException):
    pass


class ConnectTimeout(RequestsConnectionError, Timeout):
    pass


class ReadTimeout(Timeout):
    pass


class ChunkedEncodingError(RequestException):
    pass


class ContentDecodingError(RequestException):
    pass


class InvalidHeader(RequestException, ValueError):
    pass


class Headers(dict):
    """Case-insensitive, as in the library."""

    def __init__(self, pairs):
        super().__init__({name.lower(): value for name, value in dict(pairs).items()})

    def get(self, name, default=None):
        return super().get(name.lower(), default)

    def __getitem__(self, name):
        return super().__getitem__(name.lower())

    def __contains__(self, name):
        return super().__contains__(name.lower())


class Response:
    def __init__(self, network, reply, cut, read_timeout):
        self.network, self.cut, self.read_timeout = network, cut, read_timeout
        self.status_code = reply.get("status", 200)
        self.headers = Headers(reply.get("headers") or {})
        self.body = base64.b64decode(reply.get("body_base64") or "")

    def iter_content(self, size=1):
        pieces = self.pieces(size)
        if self.headers.get("content-encoding") != "gzip":
            yield from pieces
            return
        unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            for piece in pieces:
                yield unpack.decompress(piece)
        except zlib.error as error:
            raise ContentDecodingError(error) from None

    def pieces(self, size):
        clock, half = self.network.clock, self.body[: len(self.body) // 2]
        if self.cut == "drip":
            for byte in self.body:
                clock.elapsed += 1
                yield bytes([byte])
            return
        if self.cut == "huge":
            for _ in range((1 << 30) // 65536):
                clock.elapsed += 0.001
                yield bytes(65536)
            return
        whole = {"reset-after-head": b"", "silence": b"", "reset-in-body": half, "truncated": half}.get(
            self.cut, self.body
        )
        for start in range(0, len(whole), size):
            yield whole[start : start + size]
        if self.cut == "silence":
            clock.elapsed += self.read_timeout
            raise RequestsConnectionError("HTTPSConnectionPool(host='x', port=443): Read timed out.")
        if self.cut in ("reset-after-head", "reset-in-body"):
            raise ChunkedEncodingError(
                "Connection broken: ConnectionResetError(104, 'Connection reset by peer')",
                ConnectionResetError(104, "Connection reset by peer"),
            )
        if self.cut == "truncated" and not self.network.case.get("old_urllib3"):
            raise ChunkedEncodingError("Connection broken: IncompleteRead(10 bytes read, 10 more expected)")

    @property
    def content(self):
        return b"".join(self.iter_content(65536))

    @property
    def text(self):
        return self.content.decode("utf-8", "replace")

    def json(self):
        return json.loads(self.content)

    def close(self):
        pass

    __enter__ = lambda self: self
    __exit__ = lambda self, *error: None


class Prepared:
    def __init__(self, headers):
        self.headers = headers


class Network:
    """Replaces the library `requests`."""

    def __init__(self, case, clock):
        self.case, self.clock, self.requests, self.violation = case, clock, 0, None

    def request(self, method, url, params=None, data=None, headers=None, auth=None, timeout=None, **rest):
        if rest.pop("allow_redirects", True):
            self.violation = "the library was allowed to follow redirects"
        if not isinstance(timeout, tuple) or not all(0 < limit <= 120 for limit in timeout):
            self.violation = f"a request with the time limits {timeout}"
        if rest not in ({}, {"stream": True}):
            self.violation = f"a request with {sorted(rest)}"
        connect_timeout, read_timeout = timeout
        if params:
            url += "?" + urllib.parse.urlencode(params)
        prepared = Prepared({**{"User-Agent": "python-requests"}, **(headers or {})})
        if auth is not None:
            auth(prepared)
        body = data.getvalue() if isinstance(data, io.BytesIO) else data
        self.requests += 1
        if self.requests > MOST_REQUESTS:
            os._exit(4)
        tell(
            {
                "now": self.clock.now_ms(),
                "method": method,
                "url": url,
                "headers": prepared.headers,
                "body": body.decode() if isinstance(body, bytes) else body,
                "connect_timeout": connect_timeout,
                "read_timeout": read_timeout,
            }
        )
        reply = read_message()
        if self.case.get("interrupt_at_request") == self.requests:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        self.clock.elapsed += self.case.get("latency_ms", 20) / 1000
        return self.answer(reply, data, urllib.parse.urlsplit(url).hostname, connect_timeout, read_timeout)

    def answer(self, reply, data, host, connect_timeout, read_timeout):
        cut = {"hold": "hang"}.get(reply.get("cut"), reply.get("cut"))
        head = reply.get("head") or reply
        pool = f"HTTPSConnectionPool(host='{host}', port=443): Max retries exceeded with url: /x (Caused by "
        # For these cuts, no byte of the request has been sent.
        if cut == "no-name":
            raise RequestsConnectionError(
                pool + f"NameResolutionError(\"Failed to resolve '{host}' ([Errno -2] Name or service not known)\"))"
            )
        if cut == "refused":
            raise RequestsConnectionError(
                pool + "NewConnectionError('Failed to establish a new connection: [Errno 111] Connection refused'))"
            )
        if cut == "blackhole":
            self.clock.elapsed += connect_timeout
            raise ConnectTimeout(pool + f"ConnectTimeoutError('timed out. (connect timeout={connect_timeout})'))")
        if cut == "tls":
            raise SSLError(pool + "SSLError(SSLError(1, '[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] handshake failure')))")
        if cut == "certificate":
            raise SSLError(pool + "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] expired')))")
        if cut == "proxy":
            raise ProxyError(
                pool + "ProxyError('Unable to connect to proxy', OSError('Tunnel connection failed: 407')))"
            )
        if hasattr(data, "read"):
            while data.read(16384):
                pass
        if cut == "kill":
            os._exit(137)
        if cut == "reset":
            raise RequestsConnectionError(
                "('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))"
            )
        if cut == "close":
            raise RequestsConnectionError("('Connection aborted.', RemoteDisconnected('Remote end closed connection'))")
        if cut == "hang":
            self.clock.elapsed += read_timeout
            raise ReadTimeout(f"HTTPSConnectionPool(host='{host}', port=443): Read timed out.")
        return Response(self, head, cut, read_timeout)

    def module(self):
        network = self

        class Session:
            trust_env = True

            def request(self, method, url, **arguments):
                return network.request(method, url, **arguments)

            def close(self):
                pass

            __enter__ = lambda self: self
            __exit__ = lambda self, *error: None

        module, exceptions = types.ModuleType("requests"), types.ModuleType("requests.exceptions")
        for kind in (RequestException, HTTPError, ProxyError, SSLError, Timeout, ConnectTimeout, ReadTimeout):
            setattr(exceptions, kind.__name__, kind)
        for kind in (ChunkedEncodingError, ContentDecodingError, InvalidHeader):
            setattr(exceptions, kind.__name__, kind)
        exceptions.ConnectionError = RequestsConnectionError
        module.exceptions, module.Session = exceptions, Session
        module.request = network.request
        module.get = lambda url, **arguments: network.request("GET", url, **arguments)
        module.post = lambda url, **arguments: network.request("POST", url, **arguments)
        return module, exceptions


class NotebookExit(Exception):
    """Raised by dbutils.notebook.exit. A broad `except` around the call catches it, as on Databricks."""


class Dbutils:
    """The parts of dbutils that the notebook uses, as strict as the real ones."""

    def __init__(self, case):
        given, shown, self.values, self.left = dict(case.get("widgets") or {}), {}, {}, None

        def text(name, default, label=None):
            shown.setdefault(name, given.get(name, default))

        def get(name):
            if name not in shown:
                raise RuntimeError(f"InputWidgetNotDefined: No input widget named {name} is defined")
            return shown[name]

        def secret(scope, key):
            if case.get("secret_error"):
                raise RuntimeError(case["secret_error"])
            return case.get("secret", "dbtc_0123456789abcdef")

        def set_value(key, value):
            self.values[key] = json.loads(json.dumps(value))

        def leave(value):
            self.left = value
            raise NotebookExit(value)

        self.widgets = types.SimpleNamespace(text=text, get=get)
        self.secrets = types.SimpleNamespace(get=secret)
        self.jobs = types.SimpleNamespace(taskValues=types.SimpleNamespace(set=set_value))
        self.notebook = types.SimpleNamespace(exit=leave)


COMPILED = {}


def cells(source):
    if source not in COMPILED:
        COMPILED.clear()
        COMPILED[source] = [
            compile(cell, f"cell {number}", "exec") for number, cell in enumerate(source.split(SEPARATOR), 1)
        ]
    return COMPILED[source]


def run(case):
    """Runs one case in this process and returns its result."""
    clock = Clock(case)
    network, dbutils, printed = Network(case, clock), Dbutils(case), io.StringIO()
    sys.modules["requests"], sys.modules["requests.exceptions"] = network.module()
    time.sleep, time.monotonic = clock.sleep, lambda: clock.elapsed + 1000
    time.perf_counter = time.monotonic
    time.time = lambda: clock.start + clock.elapsed
    random.seed(case.get("seed", 0))
    sys.stdout = printed
    raised = None
    try:
        space = {"__name__": "__main__", "dbutils": dbutils}
        for cell in cells(case["source"]):
            exec(cell, space)
    except NotebookExit:
        pass
    except BaseException as error:
        message = str(error)
        raised = {
            "class": type(error).__name__,
            "reason": getattr(error, "reason", None),
            "message": message,
            "trace": traceback.format_exc(),
        }
    return {
        "lines": printed.getvalue().splitlines(),
        "exit": dbutils.left,
        "exception": raised,
        "task_values": dbutils.values,
        "now": clock.now_ms(),
        "requests": network.requests,
        "killed": False,
        "violation": network.violation,
    }


def main():
    while True:
        line = PROTOCOL_IN.readline()
        if not line:
            return
        case = json.loads(line)["case"]
        try:
            cells(case["source"])
        except SyntaxError:
            pass  # running the case reports it
        child = (
            os.fork()
        )  # one process per case, so cases cannot affect each other and can be killed
        if child == 0:
            tell({"done": run(case)})
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            code = os.waitstatus_to_exitcode(status)
            tell(
                {
                    "done": {
                        "lines": [],
                        "exit": None,
                        "exception": None,
                        "task_values": {},
                        "killed": True,
                        "code": code,
                    }
                }
            )


main()
