"""The HTTP door, through a real server on loopback: answers, limits, and what it does not do."""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from SCFNet.serving.command import run_command
from tests.conftest import COFFEE, encoded, predict, run_here, tool_command, write_png_header
from tests.server import form, running, status_of


@pytest.fixture(scope="module")
def server():
    with running() as started:
        yield started
        assert "Traceback" not in stop(started)


def stop(server):
    """What the server has said on stderr."""
    server.process.send_signal(signal.SIGTERM)
    return server.process.communicate(timeout=60)[1]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the command writes of the cup."""
    folder = tmp_path_factory.mktemp("written")
    for flags in (("mask", "cutout", "overlay"), ("cutout", "--format", "webp")):
        done = predict(COFFEE, "--output", folder, "--save", *flags)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("save", "accept", "name", "kind"),
    [
        ("mask", "*/*", "coffee.png", "image/png"),
        ("overlay", "*/*", "coffee-overlay.jpg", "image/jpeg"),
        ("cutout", "*/*", "coffee-cutout.png", "image/png"),
        ("cutout", "image/png, image/webp", "coffee-cutout.png", "image/png"),
        ("cutout", "text/html", "coffee-cutout.png", "image/png"),
        ("cutout", "image/webp", "coffee-cutout.webp", "image/webp"),
        ("cutout", "image/avif,image/webp,image/*", "coffee-cutout.webp", "image/webp"),
    ],
)
def test_a_form_gives_the_bytes_that_predict_writes(server, written, save, accept, name, kind):
    """WebP, as by --format webp, if Accept asks for it first."""
    photo, headers = form(COFFEE.read_bytes())
    answer = server.ask(f"/predict?save={save}", photo, {**headers, "Accept": accept})
    assert (answer[0], answer[1]["Content-Type"]) == (200, kind)
    assert answer[2] == (written / name).read_bytes()


def test_a_body_gives_the_bytes_that_predict_writes_of_standard_input(server):
    command = [*tool_command("predict", "-", "--output", "-", "--weights", "small")]
    expected = subprocess.run(command, input=COFFEE.read_bytes(), capture_output=True).stdout
    for kind in ("image/jpeg", "application/x-www-form-urlencoded", "nonsense"):
        answer = server.ask("/predict?model=small", COFFEE.read_bytes(), {"Content-Type": kind})
        assert (answer[0], answer[2]) == (200, expected)


def test_a_picture_too_large_for_webp_is_one_line(server):
    wide = cv2.imencode(".png", np.zeros((2, 16384), "uint8"))[1].tobytes()
    status, line = server.fault("/predict", wide, {"Accept": "image/webp"})
    assert status == 422 and line.endswith("16384 x 2 pixels are too many for a WebP file")
    assert server.ask("/predict", wide)[0] == 200


@pytest.mark.slow
def test_what_predict_refuses_is_its_line_as_json(server, tmp_path, cat):
    write_png_header(tmp_path / "huge.png", 20000)
    broken = {
        "a.txt": b"no image",
        "empty.png": b"",
        "cut.jpg": encoded(cat)[:2000],
        "huge.png": (tmp_path / "huge.png").read_bytes(),
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        printed = predict(tmp_path / name, "--output", tmp_path / "out").stderr
        line = printed.strip().splitlines()[-1].replace(f"error: {tmp_path}{os.sep}", "")
        assert server.fault("/predict", *form(data, name)) == (422, line)
        assert server.fault("/predict", data or b" ")[0] == 422


@pytest.mark.parametrize(
    ("path", "form_of", "line"),
    [
        ("/predict?save=film", b"", "^save: "),
        ("/predict?model=weights/SCFNet-DUTS.pdparams", b"", "^model: choose from accurate, small"),
        ("/predict", form(b"a", field="photo"), "no file by the name file"),
        ("/predict", (b"nothing", {"Content-Type": "multipart/form-data"}), "form is broken"),
        ("/predict", (form(b"a")[0][3:], form(b"a")[1]), "form is broken"),
        ("/predict", (form(b"a")[0][:-20], form(b"a")[1]), "no file by the name file"),
    ],
)
def test_a_wrong_request_is_one_line(server, path, form_of, line):
    data, headers = form_of or (b"a", {})
    status, found = server.fault(path, data, headers)
    assert status == 422 and re.search(line, found) and "\n" not in found


def test_a_file_name_is_no_path(server, tmp_path):
    """A name in a form is never opened, whatever is there."""
    write_png_header(tmp_path / "secret.png", 8)
    for name in (str(tmp_path / "secret.png"), "../secret.png", "C:\\photos\\secret.png"):
        status, line = server.fault("/predict", *form(b"no image", name))
        assert (status, line[:27]) == (422, "secret.png: is not an image")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_nothing_is_written_to_disk(server):
    """While a form of 3 MB comes, which Starlette would spool, no file is open."""

    def open_files():
        paths = set()
        for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # a connection that is closed just now
                paths.add(os.readlink(link))
        return {path for path in paths if path.startswith("/")}

    before = open_files()
    data, headers = form(COFFEE.read_bytes() + bytes(3_000_000))
    head = f"POST /predict HTTP/1.1\nHost: localhost\nContent-Length: {len(data)}"
    head += "".join(f"\n{key}: {value}" for key, value in headers.items())
    with server.connect(head, data[:-10]) as connection:
        time.sleep(0.3)
        assert open_files() == before
        connection.sendall(data[-10:])
        assert status_of(connection) == 200


def test_a_form_stays_in_memory(monkeypatch):
    """The parser of forms keeps a file of 1 MB in memory, and spools a larger one, if it may."""
    pytest.importorskip("python_multipart")
    from SCFNet.serving.body import upload_of

    monkeypatch.setattr("tempfile.TemporaryFile", None)
    monkeypatch.setattr("tempfile.NamedTemporaryFile", None)
    monkeypatch.setattr("tempfile.mkstemp", None)
    data, headers = form(bytes(3_000_000))
    assert upload_of(data, headers["Content-Type"]) == ("coffee.jpg", bytes(3_000_000))


def test_other_names_of_the_host_are_refused_on_loopback(server):
    def ask(host):
        return status_of(server.connect(f"GET /health HTTP/1.1\nHost: {host}"))

    for host in ("localhost", "127.0.0.1", f"localhost:{server.port}", "[::1]:8000", "LOCALHOST"):
        assert ask(host) == 200
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "1.2.3.4", ""):
        assert ask(host) == 403


@pytest.mark.slow
def test_other_sites_may_not_read_answers_unless_allowed(server):
    headers = {"Origin": "https://example.com"}
    assert "Access-Control-Allow-Origin" not in server.ask("/health", None, headers)[1]
    with running("--weights", "small", "--allow-origin", "https://example.com") as open_server:
        found = open_server.ask("/health", None, headers)[1]
        assert found["Access-Control-Allow-Origin"] == "https://example.com"
        other = open_server.ask("/health", None, {"Origin": "https://other.example"})[1]
        assert "Access-Control-Allow-Origin" not in other


def test_the_description_names_all_that_can_be_asked(server):
    paths = json.loads(server.ask("/openapi.json")[2])["paths"]
    assert set(paths) == {"/predict", "/health"}
    save = next(p for p in paths["/predict"]["post"]["parameters"] if p["name"] == "save")
    assert set(save["schema"]["enum"]) == {"mask", "cutout", "overlay"}
    assert set(paths["/predict"]["post"]["requestBody"]["content"]) == {
        "image/*",
        "multipart/form-data",
    }
    assert json.loads(server.ask("/health")[2]) == {
        "status": "ok",
        "models": ["accurate", "small"],
        "max_megabytes": 40,
    }
    assert server.ask("/docs")[0] == 404  # it would load scripts from elsewhere


def test_the_page_needs_nothing_from_elsewhere(server):
    status, headers, body = server.ask("/")
    assert status == 200 and "default-src 'self'" in headers["Content-Security-Policy"]
    assert not re.search(rb"https?://|src=\"|@import", body)


@pytest.mark.slow
def test_limits(tmp_path):
    """One worker: too many bytes, hung clients, too many photos, one who leaves, and the end."""
    photo = cv2.imencode(".png", np.zeros((2200, 2200, 3), "uint8"))[1].tobytes()
    with running("--weights", "small", "--workers", 1, "--max-megabytes", 1) as server:
        # too large, by the header or by what comes: refused before it is read whole
        assert status_of(server.post(2 << 20)) == 413
        chunked = "POST /predict HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked"
        chunk = b"180000\r\n" + bytes(0x180000)
        assert status_of(server.connect(chunked, chunk)) == 413

        # hung clients hold no place, whether they stop in the head or in the body
        hung = [server.post(len(photo), photo[:100]) for _ in range(30)]
        hung += [server.connect("POST /predict HTTP/1.1\nHost: localhost") for _ in range(5)]
        assert server.ask("/predict", photo)[0] == 200

        # one works and sixteen wait; more are told to come back
        asked = [server.post(len(photo), photo) for _ in range(40)]
        answers = [status_of(connection) for connection in asked]
        assert set(answers) == {200, 503} and answers.count(200) >= 17
        assert server.ask("/health")[0] == 200

        # those who leave give their places back
        for _ in range(3):
            for connection in [server.post(len(photo), photo) for _ in range(17)]:
                connection.close()
            time.sleep(0.2)
        assert answers_in_time(server, photo)

        # the end: what is under way is finished, though others hang
        first, *others = [server.post(len(photo), photo) for _ in range(5)]
        assert status_of(first) == 200  # so the others have been taken
        for connection in hung:
            connection.close()
        server.process.send_signal(signal.SIGTERM)
        assert [status_of(connection) for connection in others] == [200] * 4
        assert "Traceback" not in server.process.communicate(timeout=60)[1]


def answers_in_time(server, photo):
    """Whether a photo is answered after the one in work, and not refused for those who left."""
    for _ in range(50):
        status, headers, _ = server.ask("/predict", photo)
        if status == 200:
            return True
        assert status == 503 and int(headers["Retry-After"]) >= 1
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--workers", "0"], "--workers and --max-megabytes must be at least 1"),
        (["--port", "70000"], "--port must be from 0 to 65535"),
        (["--weights", "no.onnx"], "no.onnx: does not exist"),
        (["--host", "no.such.host.invalid"], "--host: no.such.host.invalid"),
        (["--port", "{taken}", "--weights", "small"], "--port: {taken}"),
    ],
)
def test_wrong_flags_are_one_line(server, flags, line):
    flags = [flag.format(taken=server.port) for flag in flags]
    done = run_here(run_command, "serve", *flags)
    assert done.returncode == 2 and line.format(taken=server.port) in done.stderr
    assert done.stderr.count("\n") == 1
