"""Tests the notebook's `send` with the real library `requests` over real sockets.

This verifies what `notebook_runner.py` assumes about the library. Skipped if `requests` is not installed.
"""

import os
import socket
import struct
import tempfile
import threading
import types
import unittest

from fake_dbt import TOKEN, render

try:
    import requests
except ImportError:
    requests = None

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
GOOD = b'{"status": {"code": 200, "is_success": true}, "data": {"id": 5}}'


class Server:
    """Accepts connections, reads one request from each and calls `act`."""

    def __init__(self, act):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.act, self.requests, self.open = act, [], []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(connection)
            received = b""
            while b"\r\n\r\n" not in received or (b"POST" in received[:4] and not received.endswith(b"}")):
                piece = connection.recv(65536)
                received += piece
                if not piece or received[:1] == b"\x16":  # TLS handshake
                    break
            self.requests.append(received)
            try:
                self.act(connection)
            except OSError:
                pass

    def close(self):
        self.listener.close()
        for connection in self.open:
            connection.close()


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def send_then(parts, end):
    def act(connection):
        connection.sendall(parts)
        end(connection)

    return act


def drip(connection):
    for byte in HEAD % len(GOOD) + GOOD:
        connection.sendall(bytes([byte]))
        if threading.Event().wait(0.2):
            return


def flood(connection):
    connection.sendall(HEAD % (1 << 30))
    for _ in range(1 << 14):
        connection.sendall(bytes(65536))


def stay(connection):
    pass


def close(connection):
    connection.close()


@unittest.skipIf(requests is None, "the library requests is not installed")
class Sockets(unittest.TestCase):
    def notebook(self, host):
        """Returns the functions of the notebook, without running its last cells."""
        source = render(dbt_host=host)
        cells = source.split("\n\n# COMMAND ----------\n\n")
        last = next(number for number, cell in enumerate(cells) if "\nclass Run:\n" in cell)
        widgets = types.SimpleNamespace(text=lambda *_: None, get=lambda name: "")
        secrets = types.SimpleNamespace(get=lambda scope, key: TOKEN)
        space = {"dbutils": types.SimpleNamespace(widgets=widgets, secrets=secrets)}
        exec("\n\n".join(cells[:last]), space)
        space["api_key"] = space["read_key"]()
        space["MAX_BODY"] = 1 << 20
        return space

    def outcome(self, act, method="POST", total=2):
        server = Server(act)
        notebook = self.notebook(f"http://127.0.0.1:{server.port}")
        answer = notebook["send"](method, "jobs/1/run/", body={"cause": "x"} if method == "POST" else None, total=total)
        server.close()
        return answer, server

    def test_every_way_in_which_an_answer_is_lost_is_open(self):
        half = HEAD % len(GOOD) + GOOD[: len(GOOD) // 2]
        for name, act in {
            "reset": reset,
            "close": close,
            "hang": stay,
            "reset-after-head": send_then(HEAD % len(GOOD), reset),
            "reset-in-body": send_then(half, reset),
            "truncated": send_then(half, close),
            "silence": send_then(half, stay),
            "drip": drip,
            "huge": flood,
            "empty": send_then(HEAD % 0, close),
            "not http": send_then(b"what?\r\n\r\n", close),
            "switching protocols": send_then(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", close),
        }.items():
            for method in ("POST", "GET"):
                with self.subTest(name, method=method):
                    answer, server = self.outcome(act, method)
                    self.assertEqual(answer.kind, "open", answer.why)
                    self.assertEqual(len(server.requests), 1, "sent more than once")
                    self.assertNotIn(TOKEN, answer.why)

    def test_a_whole_answer_is_used_and_the_request_is_as_it_should_be(self):
        answer, server = self.outcome(send_then(HEAD % len(GOOD) + GOOD, close))
        self.assertEqual((answer.kind, answer.data), ("ok", {"id": 5}))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        for line in (
            b"Authorization: Token " + TOKEN.encode(),
            b"Content-Type: application/json",
            b"Content-Length: 14",
            b"Accept-Encoding: identity",
            b"Connection: close",
        ):
            self.assertIn(line, head)
        self.assertEqual(body, b'{"cause": "x"}')

    def test_what_was_never_connected_was_never_sent(self):
        free = socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        for host, trouble in (
            (f"http://127.0.0.1:{port}", "refused"),
            ("https://no-such-name.invalid", "name"),
        ):
            with self.subTest(host):
                answer = self.notebook(host)["send"]("POST", "jobs/1/run/", body={"cause": "x"}, total=5)
                self.assertEqual((answer.kind, answer.trouble), ("unsent", trouble), answer.why)

    def test_a_failed_tls_handshake_has_sent_nothing(self):
        for act in (reset, close, send_then(b"HTTP/1.1 400 Bad Request\r\n\r\n", close), stay):
            server = Server(act)
            notebook = self.notebook(f"https://127.0.0.1:{server.port}")
            answer = notebook["send"]("POST", "jobs/1/run/", body={"cause": "x"}, total=1)
            server.close()
            self.assertEqual(answer.kind, "unsent", answer.why)

    def test_a_redirect_is_not_followed(self):
        location = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:9/x\r\nContent-Length: 0\r\n\r\n"
        answer, server = self.outcome(send_then(location, close))
        self.assertEqual((answer.kind, answer.trouble, len(server.requests)), ("open", "redirect", 1))

    def test_no_proxy_for_loopback_and_no_netrc(self):
        before = dict(os.environ)
        netrc = tempfile.NamedTemporaryFile("w", suffix="netrc")
        try:
            netrc.write("machine 127.0.0.1 login x password y\nmachine localhost login x password y\n")
            netrc.flush()
            os.environ.update(
                HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9", ALL_PROXY="http://127.0.0.1:9"
            )
            os.environ["NETRC"] = netrc.name
            answer, server = self.outcome(send_then(HEAD % len(GOOD) + GOOD, close))
            self.assertEqual(answer.kind, "ok", answer.why)
            self.assertIn(b"Authorization: Token " + TOKEN.encode(), server.requests[0])
        finally:
            os.environ.clear()
            os.environ.update(before)
            netrc.close()

    def test_netrc_does_not_replace_the_key_on_other_hosts_either(self):
        """For other hosts the library uses the environment: a proxy receives the request in plain text."""
        server = Server(send_then(HEAD % len(GOOD) + GOOD, close))
        notebook = self.notebook("https://ab123.us1.dbt.com")
        notebook["base_url"] = "http://ab123.us1.dbt.com"
        before = dict(os.environ)
        netrc = tempfile.NamedTemporaryFile("w", suffix="netrc")
        try:
            netrc.write("machine ab123.us1.dbt.com login x password y\n")
            netrc.flush()
            os.environ.update(
                HTTP_PROXY=f"http://127.0.0.1:{server.port}", http_proxy=f"http://127.0.0.1:{server.port}"
            )
            os.environ.pop("NO_PROXY", None)
            os.environ.pop("no_proxy", None)
            os.environ["NETRC"] = netrc.name
            answer = notebook["send"]("GET", "jobs/1/", total=2)
            self.assertEqual(answer.kind, "ok", answer.why)
            self.assertIn(b"Authorization: Token " + TOKEN.encode(), server.requests[0])
            self.assertTrue(server.requests[0].startswith(b"GET http://ab123.us1.dbt.com/"))
        finally:
            os.environ.clear()
            os.environ.update(before)
            netrc.close()
            server.close()

    def test_a_body_that_was_given_up_is_not_handed_out_any_more(self):
        notebook = self.notebook("http://127.0.0.1:9")
        body = notebook["Body"]({"cause": "x"})
        self.assertFalse(body.give_up())
        with self.assertRaises(TimeoutError):
            body.read()
        self.assertFalse(body.taken)


if __name__ == "__main__":
    unittest.main()
