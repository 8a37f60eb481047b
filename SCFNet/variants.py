"""Variants of an exported ONNX file: photos as they are, rembg's input, 8-bit integers."""

import logging
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Dict, NamedTuple, Sequence

import numpy as np

from SCFNet.backends import INPUT, OUTPUT
from SCFNet.maps import resize_map
from SCFNet.photos.reading import read_image
from SCFNet.photos.transform import (
    IMAGENET,
    Channels,
    Normalisation,
    network_input,
    normalise,
    photo_batch,
    taps,
)

if TYPE_CHECKING:
    import onnx

PHOTO, MAP = "photo", "map"  # names in a file that takes photos
RESIZE = 'Resize <mode = "linear", coordinate_transformation_mode = "half_pixel">'
REMBG_SIZE = 320  # of the input that rembg's u2net_custom feeds
CALIBRATION = 200  # photos of a folder at most


class Variant(NamedTuple):
    """What is made of an exported file.

    `kind` is a key of KINDS: 'photo' (see `take_photos`), 'rembg' (see `take_rembgs_input`) or
    'int8' (see `quantised`). `shape` is the (H, W) of the photos that 'photo' takes, () any;
    `photos` are those that 'int8' is calibrated on.
    """

    kind: str
    shape: Sequence[int] = ()
    photos: Sequence[Path] = ()


# The mean difference of a photo's map from the exported network's that a variant may have.
KINDS = {"photo": 1e-4, "rembg": 0.03, "int8": 0.03}


def make_variant(model: bytes, variant: Variant, normalisation: Normalisation) -> bytes:
    """Return the variant of an exported network, which is normalised by `normalisation`."""
    import onnx

    if variant.kind == "int8":
        return quantised(model, variant.photos, normalisation)
    graph = onnx.load_from_string(model)
    said = {one.key: one.value for one in graph.metadata_props}
    if variant.kind == "photo":
        take_photos(graph, normalisation, variant.shape)
        said.update(variant="photos", input=f"{PHOTO}: RGB, uint8 [H, W, 3]")
        said.update(output=f"{MAP}: float32 [H, W] in [0, 1]")
    else:
        take_rembgs_input(graph, normalisation)
        said.update(variant="the input of rembg", input="rembg: float32 [1, 3, 320, 320]")
    onnx.helper.set_model_props(graph, said)
    return graph.SerializeToString()


def run_variant(model: bytes, variant: Variant, image: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Run a variant on RGB uint8 [H, W, 3], prepared as its users prepare photos, and return the
    map, float32 [H, W]. `batch` is the image as the exported network takes it.
    """
    import onnxruntime

    if variant.kind == "photo":
        batch = image
    elif variant.kind == "rembg":
        scaled = photo_batch([image], REMBG_SIZE) * (255 / max(1, int(image.max())))
        batch = normalise(scaled.astype("float32"), IMAGENET)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: batch})[0]
    return resize_map(found.reshape(found.shape[-2:]), image.shape[:2])


def take_photos(
    model: "onnx.ModelProto", normalisation: Normalisation, shape: Sequence[int] = ()
) -> None:
    """Let an exported network take `photo`, RGB uint8 [H, W, 3], and give `map`, float32 [H, W].

    Resizing and normalising are in the graph, as `network_input` and `maps.resize_map` do
    them. `shape` is (H, W) for a runtime that wants them fixed; () is any.
    """
    size = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    height, width = shape or ("height", "width")
    constants = {
        "photo_axis": np.array([0]),
        "photo_mean": _channels(normalisation.mean),
        "photo_std": _channels(normalisation.std),
        "map_axes": np.array([0, 1]),
    }
    scaled, gain, sides = "photo_resized", "", ""
    if normalisation.by_max:
        constants.update(photo_one=np.array(1, "float32"), photo_white=np.array(255, "float32"))
        scaled = "photo_scaled"
        gain = """photo_max = ReduceMax <keepdims = 0> (photo_resized)
            photo_largest = Max (photo_max, photo_one)
            photo_gain = Div (photo_white, photo_largest)
            photo_scaled = Mul (photo_resized, photo_gain)"""
    if shape:
        constants["map_sizes"] = np.array([1, 1, *shape])
        for axis, side, trailing in zip(("rows", "columns"), shape, ((1, 1), (1,))):
            first, second, weight = taps(side, size)
            constants.update({f"{axis}_first": first, f"{axis}_second": second})
            constants[f"{axis}_weight"] = weight.reshape(-1, *trailing)
    else:
        middles = np.arange(1, 2 * size, 2)  # of the samples, in halves of one
        constants.update(
            map_ones=np.array([1, 1]),
            zero=np.array([0]),
            one=np.array([1]),
            two=np.array([2]),
            flat=np.array([-1]),
            rows_middles=middles.reshape(-1, 1, 1),
            columns_middles=middles.reshape(-1, 1),
            half=np.array([size]),
            whole=np.array([2 * size]),
            parts=np.array([2 * size], "float32"),
        )
        sides = f"""photo_shape = Shape ({PHOTO})
            photo_sides = Slice (photo_shape, zero, two)
            map_sizes = Concat <axis = 0> (map_ones, photo_sides)
            rows = Slice (photo_shape, zero, one)
            columns = Slice (photo_shape, one, two)
            {_place_taps("rows")}
            {_place_taps("columns")}"""
    _lay_around(
        model,
        f"""photos (uint8[{height}, {width}, 3] {PHOTO}) => (float[{height}, {width}] {MAP}) {{
            {sides}
            {_blend_taps("rows", 0, PHOTO)}
            {_blend_taps("columns", 1, "rows_blended")}
            photo_planes = Transpose <perm = [2, 0, 1]> (columns_blended)
            photo_resized = Unsqueeze (photo_planes, photo_axis)
            {gain}
            photo_centred = Sub ({scaled}, photo_mean)
            {INPUT} = Div (photo_centred, photo_std)
            {OUTPUT} = Network ({INPUT})
            map_batch = {RESIZE} ({OUTPUT}, , , map_sizes)
            {MAP} = Squeeze (map_batch, map_axes)
        }}""",
        constants,
    )


def _place_taps(axis: str) -> str:
    """Write what `taps` of the photo's `rows` or `columns` computes, for a side that only the photo
    tells. Integers place the samples: a Resize does so in float32, which moves maps by up to 3e-4.
    """
    return f"""{axis}_scaled = Mul ({axis}_middles, {axis})
            {axis}_shifted = Sub ({axis}_scaled, half)
            {axis}_last = Sub ({axis}, one)
            {axis}_end = Mul ({axis}_last, whole)
            {axis}_started = Max ({axis}_shifted, zero)
            {axis}_places = Min ({axis}_started, {axis}_end)
            {axis}_before = Div ({axis}_places, whole)
            {axis}_first = Reshape ({axis}_before, flat)
            {axis}_next = Add ({axis}_first, one)
            {axis}_second = Min ({axis}_next, {axis}_last)
            {axis}_rest = Mod ({axis}_places, whole)
            {axis}_float = Cast <to = 1> ({axis}_rest)
            {axis}_weight = Div ({axis}_float, parts)"""


def _blend_taps(axis: str, number: int, source: str) -> str:
    """Write what brings axis `number` of `source` to the network's size, as float32."""
    return f"""{axis}_near = Gather <axis = {number}> ({source}, {axis}_first)
            {axis}_far = Gather <axis = {number}> ({source}, {axis}_second)
            {axis}_from = Cast <to = 1> ({axis}_near)
            {axis}_to = Cast <to = 1> ({axis}_far)
            {axis}_step = Sub ({axis}_to, {axis}_from)
            {axis}_part = Mul ({axis}_step, {axis}_weight)
            {axis}_blended = Add ({axis}_from, {axis}_part)"""


def take_rembgs_input(model: "onnx.ModelProto", normalisation: Normalisation) -> None:
    """Let an exported network take what rembg feeds a `u2net_custom`: float32 [1, 3, 320, 320], a
    photo divided by its largest value, normalised as for ImageNet.
    """
    size = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    std = _channels(normalisation.std)
    constants = {
        "input_sizes": np.array([1, 3, size, size]),
        "input_gain": _channels(IMAGENET.std) / std,
        "input_shift": (_channels(IMAGENET.mean) - _channels(normalisation.mean)) / std,
    }
    _lay_around(
        model,
        f"""rembgs (float[1, 3, {REMBG_SIZE}, {REMBG_SIZE}] rembg)
            => (float[1, 1, {size}, {size}] {OUTPUT}) {{
            rembg_resized = {RESIZE} (rembg, , , input_sizes)
            rembg_scaled = Mul (rembg_resized, input_gain)
            {INPUT} = Add (rembg_scaled, input_shift)
            {OUTPUT} = Network ({INPUT})
        }}""",
        constants,
    )


def _channels(values: Channels) -> np.ndarray:
    """Lay a value per channel along axis 1: float32 [1, 3, 1, 1]."""
    return np.asarray(values, "float32").reshape(1, 3, 1, 1)


def _lay_around(model: "onnx.ModelProto", text: str, constants: Dict[str, np.ndarray]) -> None:
    """Give a model the graph of `text`, in which its own stands where the node Network is."""
    import onnx
    from onnx import helper, numpy_helper, parser

    own, outer = model.graph, parser.parse_graph(text)
    place = [node.op_type for node in outer.node].index("Network")
    nodes = [*outer.node[:place], *own.node, *outer.node[place + 1 :]]
    added = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    values = [*own.initializer, *added]
    graph = helper.make_graph(
        nodes, outer.name, outer.input, outer.output, values, value_info=own.value_info
    )
    own.CopyFrom(graph)
    onnx.checker.check_model(model)


def quantised(model: bytes, photos: Sequence[Path], normalisation: Normalisation) -> bytes:
    """Return an exported network with 8-bit integers for weights and activations.

    All operators are quantised (convolutions alone would lose over a hundredth of Max-F), per
    channel, between the smallest and the largest value seen on at most CALIBRATION of
    the `photos`.
    """
    import onnx
    from onnxruntime import quantization

    graph = onnx.load_from_string(model)
    size = graph.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    chosen = photos[:: max(1, -(-len(photos) // CALIBRATION))]

    batches = ({INPUT: network_input([read_image(path)], size, normalisation)} for path in chosen)
    reader = SimpleNamespace(get_next=lambda: next(batches, None))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(model)
        logging.disable(logging.WARNING)  # it says each scale
        try:
            quantization.quantize_static(
                str(source),
                str(target),
                reader,
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,  # twice as fast as QInt8 on x86
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )
        finally:
            logging.disable(logging.NOTSET)
        made = onnx.load(str(target))
    onnx.helper.set_model_props(made, {one.key: one.value for one in graph.metadata_props})
    return made.SerializeToString()
