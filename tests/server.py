"""A running tools/serve.py for tests, and what they send to it."""

import json
import socket
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from tests.conftest import tool_command


class Server:
    """A running tools/serve.py."""

    def __init__(self, *flags):
        for module in ("fastapi", "uvicorn", "python_multipart"):
            pytest.importorskip(module)
        command = tool_command("serve", "--port", 0, *flags)
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.address = self.process.stdout.readline().split()[0]
        self.port = int(self.address.rpartition(":")[2])
        self.ask("/health")  # waits until all is imported and opened

    def ask(self, path, data=None, headers=()):
        """Status, headers and body of an answer."""
        request = urllib.request.Request(self.address + path, data, dict(headers))
        try:
            answer = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers, answer.read()

    def fault(self, path, data=None, headers=()):
        """Status and line of an answer that is no picture."""
        status, _, body = self.ask(path, data, headers)
        return status, json.loads(body)["detail"]

    def connect(self, head, body=b""):
        """A connection on which a request, or a part of it, was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        return connection

    def post(self, size, body=b"", path="/predict"):
        """A connection on which a photo of `size` bytes is announced, and `body` is sent."""
        head = f"POST {path} HTTP/1.1\nHost: localhost\nContent-Length: {size}"
        return self.connect(head, body)


@contextmanager
def running(*flags):
    server = Server(*flags)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def form(data, name="coffee.jpg", field="file"):
    """The body and headers of a form with one file."""
    head = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n--x--\r\n", {
        "Content-Type": "multipart/form-data; boundary=x"
    }


def status_of(connection):
    """The status that comes on a connection; 0 if it is closed."""
    with connection, connection.makefile("rb") as stream:
        return int((stream.readline() or b"HTTP 0").split()[1])
