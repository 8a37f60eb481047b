"""Reading video files by PyAV: upright frames, the times at which they are shown, and damage."""

from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterator, NamedTuple, Optional, Tuple

import numpy as np

from SCFNet.errors import InputError
from SCFNet.files import check_is_file
from SCFNet.photos.colour import HLG, PQ, TO_709, coded_to_srgb
from SCFNet.photos.reading import Photo
from SCFNet.prediction.deinterlacing import deinterlaced

if TYPE_CHECKING:
    import av

# What may be tried on a file. Not among them: playlists, which would open other files.
DEMUXERS = "mov,matroska,avi,asf,mpegts,mpeg,mpegvideo,flv,ogg,gif,dv,mxf"
MICROSECOND = Fraction(1, 1_000_000)  # the unit of a container's times
USUAL_RATE = Fraction(25)  # for files that do not say theirs
MAX_PIXELS = 8192 * 8192  # of a frame; H.264 ends at half of it
WHOLE = 0.9  # the share of its promised duration that a whole file reaches
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own leave out the alpha

# H.273's codes, which are FFmpeg's
RGB, BT709, UNMARKED, BT2020 = 0, 1, 2, (9, 10)


class Frame(NamedTuple):
    """A frame, and when it is shown, in units of the reader's `time_base`."""

    time: int
    photo: Photo


class Colors(NamedTuple):
    """The colours of a video, as H.273's codes, and PyAV's name of the matrix of YUV; None leaves
    the matrix to each frame.
    """

    space: int
    primaries: int
    transfer: int
    matrix: Optional[str]


class VideoReader:
    """The frames of a video file.

    `shape` is (H, W); `time_base`, in seconds, the unit of the frames' times, which count from the
    file's first picture or sound, `start` by its own clock; `rate` is in frames a second;
    `pixel_shape` a pixel's width over its height; `colors` those of the frames; `count` their
    number if it is known. `subtitles` are the languages of those that it has.
    High dynamic range and wide colours become BT.709, and what is interlaced is deinterlaced.
    `stack` closes the file. Raises InputError for a file that is missing or no video, and if PyAV
    is not installed.
    """

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self.end = 0  # of the last frame that was read, in units of `time_base`
        self.damaged = 0  # packets that could not be read, and frames that are not whole
        self._reached = Fraction(0)  # the end of the last packet of any stream, in seconds
        self._durations: Dict[int, int] = {}  # of packets that wait to be decoded, by their times
        self._container = open_container(path, stack)
        if not self._container.streams.video:
            raise InputError(f"{path}: has no pictures")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._decoder = self._choose_decoder()
        self._decoded = deinterlaced(self._decode())
        self._first = next(self._decoded, None)
        if self._first is None:
            raise InputError(f"{path}: cannot be read as a video")
        self._describe(self._first)

    def _choose_decoder(self) -> "av.VideoCodecContext":
        import av

        marks = {name.lower(): value for name, value in self._stream.metadata.items()}
        name = ALPHA_DECODERS.get(self._stream.codec_context.name)
        has_alpha = marks.get("alpha_mode") == "1" and self._stream.pix_fmt == "yuv420p"
        if has_alpha and name in av.codecs_available:
            return av.CodecContext.create(name, "r")
        return self._stream.codec_context

    def _describe(self, frame: "av.VideoFrame") -> None:
        rate = self._stream.average_rate or self._stream.guessed_rate or USUAL_RATE
        self.rate = rate if 0 < rate < 1000 else USUAL_RATE
        self.time_base = self._stream.time_base or 1 / self.rate
        self.start = (self._container.start_time or 0) * MICROSECOND
        self.count = self._stream.frames or None
        self.subtitles = [
            stream.metadata.get("language", "und") for stream in self._container.streams.subtitles
        ]
        self._turn = display_matrix(frame)
        sideways = self._turn[0] == 0
        ratio = self._stream.sample_aspect_ratio or Fraction(1)
        self.pixel_shape = 1 / ratio if sideways else ratio
        self._size = frame.width, frame.height
        self.shape = self._size if sideways else self._size[::-1]
        codec = self._stream.codec_context
        space = UNMARKED if frame.colorspace == RGB else int(frame.colorspace)
        is_709 = space == BT709 or (space == UNMARKED and frame.height >= 720)  # as players take it
        matrix = None if space in BT2020 else "ITU709" if is_709 else "ITU601"
        self._source_colors = Colors(space, codec.color_primaries, codec.color_trc, matrix)
        self._is_wide = codec.color_trc in (PQ, HLG) or codec.color_primaries in TO_709
        self.colors = (
            Colors(BT709, BT709, BT709, "ITU709") if self._is_wide else self._source_colors
        )

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames, once; all have the size of the first."""
        frame, time = self._first, -1
        start = round(self.start / self.time_base)
        usual = max(1, round(1 / self.rate / self.time_base))
        while frame is not None:
            time = max(time + 1, self.end if frame.pts is None else frame.pts - start)
            self.end = time + (self._durations.pop(frame.pts, 0) or usual)
            yield Frame(time, self._photo(frame))
            frame = next(self._decoded, None)

    def fault(self) -> str:
        """Return how the file, after its last frame, has turned out damaged or cut off; else ''."""
        promised = (self._container.duration or 0) * MICROSECOND
        from_zero = "matroska" in self._container.format.name  # its durations may count from there
        reached = self._reached - (0 if from_zero else self.start)
        if reached < WHOLE * promised:
            return f"breaks off after {float(reached):.1f} of {float(promised):.1f} s"
        return f"is damaged in {self.damaged} places" if self.damaged else ""

    def _decode(self) -> Iterator["av.VideoFrame"]:
        import av

        with suppress(av.error.FFmpegError):  # `fault` tells how far the file went
            for packet in self._container.demux():
                duration = packet.duration or 0
                is_ours = packet.stream is self._stream
                if packet.pts is not None and packet.time_base:
                    self._reached = max(self._reached, (packet.pts + duration) * packet.time_base)
                    if is_ours:
                        self._durations[packet.pts] = duration
                if is_ours:
                    self.damaged += int(packet.is_corrupt)
                    yield from self._decode_packet(packet)

    def _decode_packet(self, packet: "av.Packet") -> Iterator["av.VideoFrame"]:
        import av

        try:
            frames = self._decoder.decode(packet)
        except av.error.FFmpegError:
            self.damaged += 1
            return
        for frame in frames:
            if frame.width * frame.height > MAX_PIXELS:
                size = f"{frame.width} x {frame.height}"
                raise InputError(f"{self.path}: frames of {size} pixels are too large")
            if frame.is_corrupt:
                self.damaged += 1
            yield frame

    def _photo(self, frame: "av.VideoFrame") -> Photo:
        """Return the upright pixels of a frame, and its alpha."""
        has_alpha = any(component.is_alpha for component in frame.format.components)
        pixels = turned(self._to_rgb(frame, has_alpha), self._turn)
        image = np.ascontiguousarray(pixels[..., :3])
        alpha = pixels[..., 3] if has_alpha else None
        if self._is_wide:
            _, primaries, transfer, _ = self._source_colors
            primaries = BT2020[0] if primaries == UNMARKED else primaries
            try:
                image = coded_to_srgb(
                    image, primaries, transfer if transfer in (PQ, HLG) else BT709
                )
            except ValueError as error:
                raise InputError(f"{self.path}: {error}") from error
            alpha = None if alpha is None else (alpha >> 8).astype("uint8")
        return Photo(image, None if alpha is None or alpha.min() == 255 else alpha)

    def _to_rgb(self, frame: "av.VideoFrame", has_alpha: bool) -> np.ndarray:
        """Return the RGB or RGBA of a frame [H, W, C], uint8, or uint16 of wide colours."""
        pixels = ("rgb48le", "rgba64le") if self._is_wide else ("rgb24", "rgba")
        matrix = self._source_colors.matrix
        try:
            rgb = frame.reformat(
                *self._size,
                pixels[has_alpha],
                matrix,
                "DEFAULT",  # without which PyAV 12 takes no notice of the source's matrix
                src_color_range=frame.color_range,
            )
        except Exception as error:  # a format of pixels that FFmpeg cannot convert, or no memory
            raise InputError(
                f"{self.path}: frames of {frame.format.name} cannot be read"
            ) from error
        return rgb.to_ndarray()


def open_container(path: Path, stack: ExitStack) -> "av.container.InputContainer":
    """Open the video file `path`, which `stack` closes.

    Raises InputError if it is missing or no video, and if PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError(f"{path}: videos need PyAV: pip install av") from error

    check_is_file(path)
    try:
        # opened here, as FFmpeg takes no names but those in UTF-8
        file = stack.enter_context(path.open("rb"))
        options = {"format_whitelist": DEMUXERS}
        # not `options=`, by which PyAV 12 crashes on MPEG files, whose streams it counts too early
        container = av.open(file, container_options=options, metadata_errors="replace")
        return stack.enter_context(container)
    except Exception as error:  # PyAV raises nearly every type
        raise InputError(f"{path}: cannot be read as a video") from error


def display_matrix(frame: "av.VideoFrame") -> Tuple[int, int, int, int]:
    """Read (a, b, c, d), each 0, 1 or -1: a frame's point (x, y) is shown at (ax + cy, bx + dy)."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.sign(np.frombuffer(bytes(data), "=i4", 5)).tolist()
            if abs(a * d - b * c) == 1:  # by quarter turns, or mirrored
                return a, b, c, d
    return 1, 0, 0, 1


def turned(image: np.ndarray, matrix: Tuple[int, int, int, int]) -> np.ndarray:
    """Turn or mirror `image` [H, W, C] by a display matrix."""
    a, b, c, d = matrix
    if a == 0:
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
