"""The photo in a request: its body read to a limit, and the file of a form, all in memory."""

import asyncio
from pathlib import PureWindowsPath
from typing import Any, Awaitable, Callable, List, MutableMapping, Tuple

from SCFNet.errors import InputError
from SCFNet.serving.queue import Busy, ClientLeft

PATIENCE = 30.0  # seconds for which a client may send nothing of a body that it has begun

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class TooLarge(Exception):
    """The body has more bytes than it may have; the message says how many those are."""


class BodyReader:
    """Reads bodies of at most `most` bytes; all that are being read have at most `total`."""

    def __init__(self, most: int, total: int) -> None:
        self.most, self.left = most, total

    async def read(self, receive: Receive, declared: str) -> bytes:
        """Read a body, of which the header Content-Length says `declared`.

        Raises TooLarge, before the rest is read; Busy if `total` would be exceeded; ClientLeft if
        the connection is closed, and asyncio.TimeoutError if nothing comes for `PATIENCE`.
        """
        if declared.isdigit() and int(declared) > self.most:
            raise self.too_large()
        chunks: List[bytes] = []
        size = 0
        try:
            while True:
                message = await asyncio.wait_for(receive(), PATIENCE)
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                chunk = message.get("body", b"")
                size += len(chunk)
                self.left -= len(chunk)
                if size > self.most:
                    raise self.too_large()
                if self.left < 0:
                    raise Busy
                chunks.append(chunk)
                if not message.get("more_body"):
                    return b"".join(chunks)
        finally:
            self.left += size

    def too_large(self) -> TooLarge:
        return TooLarge(f"the photo has more than {self.most >> 20} megabytes")


def upload_of(body: bytes, content_type: str) -> Tuple[str, bytes]:
    """Return the photo in a body: the name '' and all of it, or of a form the file in `file`.

    Raises InputError for a broken form, and for one without such a file.
    """
    if not content_type.lower().startswith("multipart/"):
        return "", body
    from python_multipart.multipart import create_form_parser

    files: List[Any] = []
    headers = {"Content-Type": content_type.encode("latin-1")}
    in_memory = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}
    try:
        parser = create_form_parser(headers, None, files.append, in_memory)
        parser.write(body)
        parser.finalize()
    except ValueError as error:
        raise InputError(f"the form is broken: {' '.join(str(error).split())}") from error
    for file in files:
        if file.field_name == b"file":
            file.file_object.seek(0)
            name = (file.file_name or b"").decode("utf-8", "replace")
            return PureWindowsPath(name).name, file.file_object.read()
    raise InputError("the form has no file by the name file: curl --form file=@photo.jpg")
