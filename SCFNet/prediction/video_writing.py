"""Writing video files by PyAV, with the times, colours and sound of the source.

MP4 and MOV files have H.264, WebM files VP9, MOV files ProRes 4444 if they are transparent.
"""

import math
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Dict, Iterable, Iterator, List, Optional, Union

import numpy as np

from SCFNet.prediction.video_reading import MICROSECOND, VideoReader, open_container

if TYPE_CHECKING:
    import av

NO_TAG = "\0\0\0\0"
# The codings of sound that players know in each kind of file; others are coded anew.
COPIED_SOUND = {
    ".mp4": ("aac", "mp3", "mp3float", "ac3", "eac3", "opus", "flac", "alac"),
    ".mov": ("aac", "mp3", "mp3float", "ac3", "alac"),
    ".webm": ("opus", "libopus"),
}
AAC_RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000)  # samples a second
OPUS_RATE = 48000
# What FFmpeg calls languages in MOV files, where ISO 639-2 has two codes, or it has its own.
MOV_LANGUAGES = {
    **{"deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi", "swe": "sve"},
    **{"fas": "per", "sqi": "alb", "cym": "wel"},
}
PRIMING = Fraction(-1, 10)  # seconds before the first sound that decoders may need
PIXELS = {3: "rgb24", 4: "rgba"}
LIMITED_RANGE = 1  # FFmpeg's number for luma from 16 to 235


class VideoWriter:
    """A video file with the size, the times, the colours and the sound of `reader`'s file.

    Pixels that are not square stay so, but in WebM, whose frames are made wider or narrower. The
    file is written to the open file `stream`, in the format of `suffix` ('.mp4', '.mov', '.webm'),
    and has `comment` in its metadata. Its frames have an alpha if it is `transparent`, which MP4
    cannot be. `lost_sound` are the codings of sound in the source that cannot be read. `stack` lets
    go of all files, finished or not.
    """

    def __init__(
        self,
        stream: BinaryIO,
        suffix: str,
        reader: VideoReader,
        comment: str,
        transparent: bool,
        stack: ExitStack,
    ) -> None:
        import av

        self._file, self._reader = stream, reader
        self._container = av.open(stream, "w", format=suffix[1:])
        stack.callback(self._close)
        self._container.metadata["comment"] = comment
        self._stream = _add_video(self._container, suffix, reader, transparent)
        self._sound = SoundCopy(reader, self._container, suffix, stack)
        self.lost_sound = self._sound.unknown
        self._last: Optional[av.Packet] = None  # it waits: the very last has a duration of its own
        self._written = 0

    def write(self, time: int, picture: np.ndarray) -> None:
        """Write a frame, uint8 grey [H, W], RGB [H, W, 3] or RGBA [H, W, 4], to be shown at `time`,
        in units of the reader's `time_base`.
        """
        import av

        pixels = "gray" if picture.ndim == 2 else PIXELS[picture.shape[2]]
        frame = av.VideoFrame.from_ndarray(picture, pixels)
        frame = frame.reformat(
            self._stream.width,
            self._stream.height,
            self._stream.pix_fmt,
            dst_colorspace=self._reader.colors.matrix,
            dst_color_range=LIMITED_RANGE,
        )
        frame.pts, frame.time_base = self._ticks(time), self._stream.codec_context.time_base
        self._mux(self._stream.encode(frame))
        self._sound.copy(time * self._reader.time_base)
        self._written += 1

    def finish(self) -> None:
        """Complete the file. Raises OSError if it lacks frames."""
        self._mux(self._stream.encode())
        if self._last:
            self._last.duration = max(1, self._ticks(self._reader.end) - self._last.pts)
            self._container.mux(self._last)
        self._sound.finish()
        self._container.close()
        self._file.flush()
        with ExitStack() as stack:
            again = open_container(Path(self._file.name), stack)
            found = len([packet for packet in again.demux(video=0) if packet.size])
        if found != self._written:
            raise OSError(f"{found} of {self._written} frames are in it")

    def _close(self) -> None:
        with suppress(Exception):  # one that is not finished need not close well
            self._container.close()

    def _ticks(self, time: int) -> int:
        return round(time * self._reader.time_base / self._stream.codec_context.time_base)

    def _mux(self, packets: Iterable["av.Packet"]) -> None:
        for packet in packets:
            if self._last:
                self._container.mux(self._last)
            self._last = packet


def _add_video(
    container: "av.container.OutputContainer", suffix: str, reader: VideoReader, transparent: bool
) -> "av.VideoStream":
    height, width = reader.shape
    pixel_shape = reader.pixel_shape
    if suffix == ".webm":
        # PyAV writes no other pixels than square ones
        width, pixel_shape = max(1, round(width * pixel_shape)), Fraction(1)
        coding, pixels = "libvpx-vp9", "yuva420p" if transparent else "yuv420p"
        # frames that are not shown (auto-alt-ref) would have no alpha
        options = {"crf": "24", "deadline": "realtime", "cpu-used": "6", "auto-alt-ref": "0"}
    elif transparent:
        coding, pixels, options = "prores_ks", "yuva444p10le", {"vendor": "apl0"}
    else:
        # 4:2:0, which all players know, has no odd sizes
        coding, pixels = "h264", "yuv444p" if height % 2 or width % 2 else "yuv420p"
        options = {"crf": "20", "preset": "veryfast", "rc-lookahead": "5"}
    stream = container.add_stream(coding, rate=reader.rate, options=options)
    stream.height, stream.width, stream.pix_fmt = height, width, pixels
    codec = stream.codec_context
    codec.max_b_frames = 0  # without them the times of MP4 are exact
    codec.time_base = max(reader.time_base, MICROSECOND)
    codec.sample_aspect_ratio = pixel_shape
    codec.colorspace, codec.color_range = reader.colors.space, LIMITED_RANGE
    codec.color_primaries, codec.color_trc = reader.colors.primaries, reader.colors.transfer
    return stream


def _describe(stream: "av.stream.Stream", source: "av.stream.Stream", suffix: str) -> None:
    """Give a new stream the language, the title and the flags ('default') of its source."""
    language = source.metadata.get("language")
    title = source.metadata.get("title") or source.metadata.get("name")  # which MP4 has for it
    if language:
        known = MOV_LANGUAGES if suffix == ".mov" else {}
        stream.metadata["language"] = known.get(language, language)
    if title:
        stream.metadata["title"] = title
    if hasattr(source, "disposition"):  # PyAV 12, the last for Python 3.8, has no flags
        stream.disposition = source.disposition


@contextmanager
def ffmpeg_errors_as_os_errors() -> Iterator[None]:
    """Raise FFmpeg's errors of writing as OSError, as those of any file are."""
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


class SoundCopy:
    """The sound of `reader`'s file on its way to the container `target`.

    `unknown` are the codings that cannot be read.
    """

    def __init__(
        self,
        reader: VideoReader,
        target: "av.container.OutputContainer",
        suffix: str,
        stack: ExitStack,
    ) -> None:
        self.unknown: List[str] = []
        self._reader, self._target = reader, target
        self._tracks: Dict[int, _Track] = {}
        source = open_container(reader.path, stack)
        for stream in source.streams.audio:
            if stream.codec_context and stream.rate and stream.codec_context.layout.channels:
                self._tracks[stream.index] = _Track(stream, target, suffix)
            else:
                self.unknown.append(stream.name if stream.codec_context else "unknown")
        self._packets = self._heard(source)
        self._reached: Union[Fraction, float] = -math.inf  # the time of the last copied packet

    def copy(self, until: Union[Fraction, float]) -> None:
        """Copy the sound to the first packet at `until`, in seconds."""
        import av

        while self._reached < until:
            packet = next(self._packets, None)
            if packet is None:
                return
            self._reached = self._time(packet)
            try:
                for copy in self._tracks[packet.stream.index].convert(packet, self._reader.start):
                    self._target.mux(copy)
            except av.error.InvalidDataError:
                self._reader.damaged += 1

    def finish(self) -> None:
        """Copy all that is left, and what the encoders hold back."""
        self.copy(math.inf)
        for track in self._tracks.values():
            for packet in track.flush():
                self._target.mux(packet)

    def _time(self, packet: "av.Packet") -> Fraction:
        return packet.dts * packet.time_base - self._reader.start

    def _heard(self, source: "av.container.InputContainer") -> Iterator["av.Packet"]:
        """Yield the packets that are to be heard. Where the file breaks off they end, as the reader
        will say.
        """
        import av

        streams = [source.streams[index] for index in self._tracks]
        with suppress(av.error.FFmpegError):
            for packet in source.demux(*streams) if streams else ():
                if packet.dts is None or packet.is_corrupt:
                    continue
                # what an edit list leaves out is not wanted, but for what a decoder starts with
                if not packet.is_discard or PRIMING <= self._time(packet) <= 0:
                    yield packet


class _Track:
    """A stream of sound and its copy in `target`: as it is if players know its coding in files of
    that `suffix`, else as AAC, or Opus in WebM.
    """

    def __init__(
        self, source: "av.AudioStream", target: "av.container.OutputContainer", suffix: str
    ) -> None:
        import av

        self._newest: Optional[int] = None  # the time of the last packet, which the next must pass
        self._resampler: Optional[av.AudioResampler] = None
        self._samples: Optional[int] = None  # the time of the next frame, in samples
        if source.codec_context.name in COPIED_SOUND[suffix]:
            if hasattr(target, "add_stream_from_template"):
                self._stream = target.add_stream_from_template(source)
            else:  # PyAV 12, the last for Python 3.8
                self._stream = target.add_stream(template=source)
            self._stream.codec_context.codec_tag = NO_TAG  # the new file has tags of its own
            _describe(self._stream, source, suffix)
            return
        layout = "mono" if len(source.codec_context.layout.channels) == 1 else "stereo"
        if suffix == ".webm":
            coding, samples, rate, frame_size = "libopus", "flt", OPUS_RATE, OPUS_RATE // 50
        else:
            rate = min(AAC_RATES, key=lambda known: abs(known - source.rate))
            coding, samples, frame_size = "aac", "fltp", 1024
        self._stream = target.add_stream(coding, rate=rate, layout=layout)
        _describe(self._stream, source, suffix)
        self._resampler = av.AudioResampler(samples, layout, rate, frame_size)

    def convert(self, packet: "av.Packet", start: Fraction) -> Iterator["av.Packet"]:
        """Yield the packets to write for one of the source, whose clock begins at `start`."""
        offset = round(start / packet.time_base)
        if self._resampler:
            for frame in packet.decode():
                if frame.pts is not None:
                    frame.pts -= offset
                yield from self._encode(self._resampler.resample(frame))
        elif self._newest is None or packet.dts > self._newest:
            self._newest = packet.dts
            packet.pts = (packet.dts if packet.pts is None else packet.pts) - offset
            packet.dts -= offset
            packet.stream = self._stream
            yield packet

    def flush(self) -> Iterator["av.Packet"]:
        """Yield the packets that are left to write when the source has ended."""
        if self._resampler:
            yield from self._encode(self._resampler.resample(None))
            yield from self._stream.encode()

    def _encode(self, frames: Iterable["av.AudioFrame"]) -> Iterator["av.Packet"]:
        for frame in frames:
            if self._samples is None:
                self._samples = round((frame.pts or 0) * frame.time_base * frame.sample_rate)
            # counted, as the clocks of some files are coarser than a packet
            frame.pts, frame.time_base = self._samples, Fraction(1, frame.sample_rate)
            self._samples += frame.samples
            yield from self._stream.encode(frame)
