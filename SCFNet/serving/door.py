"""The HTTP door: the page, /predict and /health.

Nothing in a request is taken for a path or a URL, and nothing is written to disk.
"""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, Literal, Mapping, Optional, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, Response

from SCFNet.errors import InputError, memory_faults
from SCFNet.photos.opening import large_photo
from SCFNet.photos.reading import read_photo
from SCFNet.photos.writing import encode_image
from SCFNet.prediction.marks import make_mark
from SCFNet.prediction.rendering import ENDINGS, RenderOptions
from SCFNet.predictor import Predictor
from SCFNet.serving.body import PATIENCE, BodyReader, TooLarge, upload_of
from SCFNet.serving.queue import WAITING, Busy, ClientLeft, Queue

TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
PAGE_HEADERS = {
    **HEADERS,
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' blob: data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'",
}
BINARY = {"schema": {"type": "string", "format": "binary"}}
FORM = {"schema": {"type": "object", "properties": {"file": BINARY["schema"]}}}
OPENAPI = {"requestBody": {"content": {"image/*": BINARY, "multipart/form-data": FORM}}}
ANSWERS: Dict[Any, Dict[str, Any]] = {
    200: {"content": dict.fromkeys(TYPES.values(), BINARY), "description": "The picture"},
    413: {"description": "The photo has too many bytes"},
    422: {"description": "The photo cannot be read: `detail` says why, in one line"},
    503: {"description": "Too many photos wait: come back after `Retry-After` seconds"},
}

Scope = Dict[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


def make_app(
    predictors: Mapping[str, Predictor],
    workers: int,
    max_megabytes: int,
    allow_origin: Sequence[str] = (),
) -> FastAPI:
    """Make the application. Call it in the event loop that will run it.

    Args:
        predictors: by the names that requests call them; the first is the default.
        workers: photos that are in work at a time.
        max_megabytes: the largest body.
        allow_origin: web origins whose pages may read the answers.
    """
    app = FastAPI(title="SCFNet", docs_url=None, redoc_url=None)
    queue = Queue(workers)
    reader = BodyReader(max_megabytes << 20, (workers + WAITING) * max_megabytes << 20)
    page = Path(__file__).with_name("page.html").read_text("utf-8")
    if allow_origin:
        app.add_middleware(CORSMiddleware, allow_origins=allow_origin, allow_methods=["*"])

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers=PAGE_HEADERS)

    @app.get("/health")
    async def health() -> Dict[str, Any]:
        """Say that the server runs, which models it has, and how large a photo may be."""
        return {"status": "ok", "models": list(predictors), "max_megabytes": max_megabytes}

    @app.post("/predict", response_class=Response, responses=ANSWERS, openapi_extra=OPENAPI)
    async def predict(
        request: Request,
        save: Literal["mask", "cutout", "overlay"] = "mask",
        model: Optional[str] = None,
    ) -> Response:
        """Return the mask, the cut-out or the overlay of the photo in the body, or in the form's
        field `file`: WebP if `Accept` asks for it first, else as tools/predict.py writes it.
        """
        predictor = predictors.get(model or next(iter(predictors)))
        if predictor is None:
            raise InputError(f"model: choose from {', '.join(predictors)}")
        suffix = suffix_for(request.headers.get("accept", ""), save)
        content_type = request.headers.get("content-type", "")
        body = await reader.read(request.receive, request.headers.get("content-length", ""))
        left = asyncio.ensure_future(wait_for_end(request))
        try:
            work = partial(predict_body, predictor, body, content_type, save, suffix)
            picture = await queue.run(work, left)
        finally:
            left.cancel()
        return Response(picture, media_type=TYPES[suffix], headers=HEADERS)

    for fault in FAULTS:
        app.add_exception_handler(fault, answer_fault)
    return app


def predict_body(
    predictor: Predictor, body: bytes, content_type: str, kind: str, suffix: str
) -> bytes:
    """Predict the photo in a body, and return the picture of `kind` as predict.py writes it: for
    a form's file as for that file, else as for standard input.
    """
    name, data = upload_of(body, content_type)
    with memory_faults(name or "photo"), large_photo(name, data):
        photo = read_photo(name or "photo", data)
        options = RenderOptions(kinds=[kind])
        (picture,) = predictor.pictures(photo, options)
        target = Path(f"{name or 'photo'}{suffix}")
        mark = make_mark(name or "stdin", len(data), predictor.made_by(options))
        return encode_image(target, picture, mark, photo.dpi)


def suffix_for(accept: str, kind: str) -> str:
    """Choose the format of a picture by the header Accept: the first in it that is one of ours."""
    usual = Path(f"photo{ENDINGS[kind]}").suffix
    for part in accept.split(","):
        wanted = part.partition(";")[0].strip().lower()
        if wanted == "image/webp":
            return ".webp"
        if wanted in ("*/*", "image/*", TYPES[usual]):
            break
    return usual


async def wait_for_end(request: Request) -> None:
    """Return when the client, whose body has been read, closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def only_for(hosts: Sequence[str], app: App) -> App:
    """Return `app`, but for requests whose header Host is none of `hosts`: the name of another site
    may lead a browser to this machine (DNS rebinding).
    """

    async def guarded(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
            name = host.rpartition(":")[0] if host[-1:].isdigit() and ":" in host else host
            if name not in hosts:
                await refusal(
                    403, f"{name}: is not {hosts[0]}, to which alone this server answers"
                )(scope, receive, send)
                return
        await app(scope, receive, send)

    return guarded


def refusal(status: int, line: str, **headers: str) -> JSONResponse:
    return JSONResponse({"detail": line}, status, {**HEADERS, **headers})


async def answer_fault(_: Request, error: Exception) -> Response:
    """Return the answer to a request that is refused; for a photo that cannot be read it is 422
    with the line of predict.py.
    """
    if isinstance(error, ClientLeft):
        return Response(status_code=400)  # which nobody reads
    if isinstance(error, TooLarge):
        return refusal(413, str(error), Connection="close")
    if isinstance(error, asyncio.TimeoutError):
        return refusal(408, f"nothing came for {PATIENCE:.0f} seconds", Connection="close")
    if isinstance(error, Busy):
        return refusal(503, "too many photos wait: try again in a second", **{"Retry-After": "1"})
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return refusal(422, f"{first['loc'][-1]}: {first['msg']}")
    return refusal(422, str(error))


FAULTS = (InputError, RequestValidationError, TooLarge, Busy, asyncio.TimeoutError, ClientLeft)
