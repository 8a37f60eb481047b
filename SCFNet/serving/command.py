"""Serve a page to drop photos on, and an HTTP door for programs.

    scfnet serve                            # http://127.0.0.1:8000, for this machine alone
    scfnet serve --weights small --port 80 --host 0.0.0.0       # for all who reach it
    curl --form file=@photo.jpg 'http://127.0.0.1:8000/predict?save=cutout' > cutout.png

In a copy of the repository it is `python tools/serve.py`. It needs three packages:
pip install fastapi uvicorn python-multipart.

POST /predict?save=mask|cutout|overlay takes the photo as the body, or as the form's field `file`,
and returns what tools/predict.py writes, or WebP if the header Accept asks for it. A photo that
cannot be read is 422 and its fault, one that is too large 413; if too many wait it is 503.
GET /health says which models there are, /openapi.json all of this. There are no users and no
encryption: on a network, put it behind a server that has both, and that passes on
`Host: 127.0.0.1`.
Exit status: 0 or that of the signal which ended it, 2 wrong usage.
"""

import argparse
import asyncio
import logging
import socket
import sys
from typing import List, Optional

from SCFNet.cli import Parser, run
from SCFNet.errors import ArgumentError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
LAST_WORK = 30  # seconds that what is under way has to end in after a signal


def run_command() -> None:
    """Run `scfnet`, which predicts unless its first word is `serve`, and exit with its status."""
    if sys.argv[1:2] == ["serve"]:
        run(lambda: main(sys.argv[2:]))
    from SCFNet.prediction.command import run_command as run_prediction

    run_prediction()


def main(arguments: Optional[List[str]] = None) -> int:
    """Serve until a signal comes, and return the exit status."""
    args = parse_arguments(arguments)
    import fastapi  # noqa: F401
    import python_multipart  # noqa: F401
    import uvicorn

    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # its faults are answered
    from SCFNet.parallel import cores
    from SCFNet.predictor import Predictor
    from SCFNet.serving.door import make_app, only_for

    names = [args.weights] if args.weights else ["accurate", "small"]
    predictors = {name: Predictor(name) for name in names}
    listener = listen(args.host, args.port)
    host, port = listener.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host

    async def serve() -> None:
        app = make_app(predictors, args.workers or cores(), args.max_megabytes, args.allow_origin)
        hosts = (*LOOPBACK, "[::1]", host)
        guarded = only_for(hosts, app) if host in LOOPBACK or host.startswith("127.") else app
        config = uvicorn.Config(
            guarded,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=LAST_WORK,
        )
        print(f"http://{address}:{port} (Ctrl-C ends it)", flush=True)
        await uvicorn.Server(config).serve([listener])

    asyncio.run(serve())
    return 0


def listen(host: str, port: int) -> socket.socket:
    """Open the socket to listen on, and return it.

    Raises ArgumentError if the host or the port cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise ArgumentError("host", f"{host}: {error.strerror}") from error
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ArgumentError("port", f"{port} of {host} cannot be had: {error.strerror}") from error


def parse_arguments(arguments: Optional[List[str]]) -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on; default: 127.0.0.1, this machine alone; 0.0.0.0: all networks",
    )
    add("--port", type=int, default=8000, metavar="N", help="default: 8000; 0: any free one")
    add(
        "--weights",
        metavar="NAME|FILE",
        help="the one model to serve, as predict.py takes it; default: accurate and small, one of "
        "which a request may name: /predict?model=small",
    )
    add(
        "--workers",
        type=int,
        metavar="N",
        help="photos in work at a time; default: as many as there are cores",
    )
    add(
        "--max-megabytes",
        type=int,
        default=40,
        metavar="N",
        help="the largest photo file; default: 40",
    )
    add(
        "--allow-origin",
        nargs="+",
        default=[],
        metavar="ORIGIN",
        help="sites whose pages may use this server, as https://example.com; default: none",
    )
    args = parser.parse_args(arguments)
    if (args.workers is not None and args.workers < 1) or args.max_megabytes < 1:
        parser.error("--workers and --max-megabytes must be at least 1")
    if not 0 <= args.port <= 65535:
        parser.error("--port must be from 0 to 65535")
    return args
