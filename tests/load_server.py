"""Load tools/serve.py on this machine: thousands of requests, a third of them broken; speed.

    python tests/load_server.py --requests 10000 --seconds 200
    python tests/load_server.py --folder photos/      # against predict.py on the same folder

Both end by themselves, after so many requests or seconds. Exit status 1: an answer was neither 2xx,
4xx nor 503, a photo was answered wrongly, or memory grew by more than a tenth since request 500.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402

from tests.conftest import tool_command  # noqa: E402
from tests.server import form, running  # noqa: E402

CLIENTS = 8
NAMES = ("coffee.jpg", "chelsea.png")
HUNG_SECONDS = 0.5


def small_photo(name):
    """A photo's bytes, 200 pixels wide."""
    image = cv2.resize(cv2.imread(str(ROOT / "tests" / "data" / name)), (200, 133))
    return cv2.imencode(Path(name).suffix, image)[1].tobytes()


PHOTOS = [small_photo(name) for name in NAMES]
SOUND = [(photo,) for photo in PHOTOS] + [form(photo) for photo in PHOTOS]


def mutated(data, rng):
    """A photo's bytes, some of which are changed, left out or doubled."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 10, 100])):
        at = rng.randrange(len(data))
        kind = rng.randrange(3)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at : at + rng.choice([1, 1000])]
        else:
            data[at:at] = data[at : at + rng.choice([1, 1000])]
    return bytes(data)


def send_broken(server, rng):
    """Send one broken request; the status of the answer, or what became of it."""
    photo = rng.choice(PHOTOS)
    kind = rng.choice(["mutated", "cut", "cut", "type", "hung", "path"])
    if kind == "mutated":
        return send(server, mutated(photo, rng))
    if kind == "type":
        body, headers = form(photo)
        wrong = rng.choice([body[5:], body[:-30], b"", mutated(body, rng)])
        return send(server, wrong, headers)
    if kind == "path":
        paths = [
            "/predict?save=x",
            "/predict?model=/etc/passwd",
            "/../weights",
            "/predict/a",
            "/%00",
        ]
        return send(server, photo[:1000], path=rng.choice(paths))
    with server.post(len(photo), photo[: rng.randrange(len(photo))]):
        if kind == "hung":
            time.sleep(HUNG_SECONDS * rng.random())
    return kind


def send(server, body, headers=(), path="/predict"):
    """Send a request on a connection of its own; the status."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", path, body, dict(headers))
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def memory_of(process):
    """Resident memory of a process in megabytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def load(requests, seconds):
    """Send `requests`, a third of them broken; whether all was well."""
    end = time.monotonic() + seconds
    with running("--weights", "small") as server, ThreadPoolExecutor(CLIENTS) as pool:

        def send_one(number):
            rng = random.Random(number)
            if time.monotonic() > end:
                return "out of time"
            try:
                if number % 3 == 0:
                    return send_broken(server, rng)
                return f"sound {send(server, *rng.choice(SOUND))}"
            except OSError as error:
                return type(error).__name__

        counts, memory = Counter(), {}
        for number, status in enumerate(pool.map(send_one, range(requests)), 1):
            counts[str(status)] += 1
            if number in (500, requests):
                memory[number] = memory_of(server.process)
        server.process.terminate()
        said = server.process.communicate()[1]
    memory = {number: round(megabytes, 1) for number, megabytes in memory.items()}
    print(json.dumps({"answers": dict(sorted(counts.items())), "memory": memory}))
    print(said[-2000:], end="")
    fine = {"sound 200", "sound 503", "cut", "hung", "out of time", "503", "200"}
    bad = {status for status in counts if status not in fine and not status.startswith("4")}
    return not bad and not said and memory[requests] <= 1.1 * memory[min(500, requests)]


def compare(folder):
    """Print photos a second of predict.py and of clients on one folder; whether all is equal."""
    photos = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
    with tempfile.TemporaryDirectory() as output, running() as server:
        start = time.monotonic()
        subprocess.run([*tool_command("predict", folder, "--output", output)], capture_output=True)
        by_predict = time.monotonic() - start

        def equal(photo):
            body = server.ask("/predict", *form(photo.read_bytes(), photo.name))[2]
            return body == (output / photo.relative_to(folder).with_suffix(".png")).read_bytes()

        output = Path(output)
        with ThreadPoolExecutor(CLIENTS) as pool:
            start = time.monotonic()
            same = list(pool.map(equal, photos))
            by_server = time.monotonic() - start
    speeds = [round(len(photos) / seconds, 1) for seconds in (by_predict, by_server)]
    print(
        json.dumps(
            {
                "photos": len(photos),
                "equal": sum(same),
                "predict.py": speeds[0],
                "server": speeds[1],
                "ratio": round(speeds[1] / speeds[0], 3),
            }
        )
    )
    return all(same)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    well = compare(args.folder) if args.folder else load(args.requests, args.seconds)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
