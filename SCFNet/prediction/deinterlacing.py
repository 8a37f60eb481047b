"""Interlaced video: the two fields of a frame, which are of two times, become one picture."""

from typing import TYPE_CHECKING, Iterable, Iterator

if TYPE_CHECKING:
    import av


def deinterlaced(frames: Iterable["av.VideoFrame"]) -> Iterator["av.VideoFrame"]:
    """Yield a frame for each frame, of the same time. Those that are marked as interlaced go
    through FFmpeg's bwdif, which keeps the moment of the first field; the others stay as they are.
    """
    graph, layout = None, None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        own_layout = frame.width, frame.height, frame.format.name
        if graph is None or layout != own_layout:
            if graph is not None:
                yield from _flush(graph)
            graph, layout = _make_graph(frame), own_layout
        graph.push(frame)
        yield from _pull(graph)
    if graph is not None:
        yield from _flush(graph)


def _make_graph(frame: "av.VideoFrame") -> "av.filter.Graph":
    import av

    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    fields = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    graph.link_nodes(source, fields, graph.add("buffersink")).configure()
    return graph


def _flush(graph: "av.filter.Graph") -> Iterator["av.VideoFrame"]:
    graph.push(None)
    return _pull(graph)


def _pull(graph: "av.filter.Graph") -> Iterator["av.VideoFrame"]:
    """Yield what is ready, in the time base of what went in: bwdif halves it."""
    while True:
        try:
            frame = graph.pull()
        except (BlockingIOError, EOFError):
            return
        if frame.pts is not None:
            frame.pts, frame.time_base = frame.pts // 2, frame.time_base * 2
        yield frame
