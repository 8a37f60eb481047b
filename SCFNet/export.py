"""Exporting a checkpoint to ONNX, to Paddle's inference format, or to a checkpoint of Paddle.

The exported network maps `image`, RGB normalised, float32 [N, 3, size, size], to `saliency`,
float32 [N, 1, size, size] in [0, 1]: m2 with the sigmoid, without what only training needs.
"""

import hashlib
import json
import os
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Optional

import cv2
import numpy as np
import paddle

from SCFNet.backends import INPUT, OUTPUT, SUFFIXES
from SCFNet.checkpoint import digest, load_checkpoint, load_net, save_weights, sharpened_by
from SCFNet.device import set_device
from SCFNet.errors import ArgumentError, InputError
from SCFNet.files import PathLike, is_folder, without_suffix, write_atomically
from SCFNet.maps import resize_map
from SCFNet.net import SaliencyNet, SCFNet
from SCFNet.photos.transform import MEAN, RELEASE, STD, Normalisation, check_size, network_input
from SCFNet.variants import KINDS, Variant, make_variant, run_variant

if TYPE_CHECKING:
    import onnx

FORMATS = ("onnx", "paddle", "pdparams")
TOLERANCE = 1e-4  # of the exported network against dygraph, on a photo
PADDLE2ONNX = {"2": "1.3.1", "3": "2.1.0"}  # what reads the programs of which Paddle
OPSET = 14  # the first with HardSwish


class Deployed(paddle.nn.Layer):
    """A network as it is deployed: normalised images [N, 3, H, W] to maps [N, 1, H, W].

    Its images are normalised by `normalisation`: the release's for every SCFNet, whose own numbers,
    if it has others, stand in front of the network; else the network's own.
    """

    def __init__(self, net: SaliencyNet) -> None:
        super().__init__()
        self.net = net
        self.normalisation = RELEASE if isinstance(net, SCFNet) else net.normalisation
        self.converts = self.normalisation is not net.normalisation
        if self.converts:
            own_mean, own_std, _ = net.normalisation
            for name, values in (("gain", STD / own_std), ("shift", (MEAN - own_mean) / own_std)):
                constant = paddle.to_tensor(values.reshape(1, 3, 1, 1).astype("float32"))
                self.register_buffer(name, constant, persistable=False)
        # No control flow depends on a tensor, so that rewriting the source would take 10 s in vain.
        paddle.jit.not_to_static(type(net).forward)

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        return self.net.predict(image * self.gain + self.shift if self.converts else image)


def export(
    weights: PathLike,
    file_format: str = "onnx",
    output: Optional[PathLike] = None,
    size: Optional[int] = None,
    dynamic_batch: bool = False,
    sharpen: float = 1,
    variant: Optional[Variant] = None,
) -> List[Path]:
    """Write the checkpoint `weights` in another format, and return the files written.

    A network to deploy is run on a photo before it is written, and the largest difference from
    Paddle's dygraph is printed.

    Args:
        weights: a checkpoint, of Paddle or of PyTorch.
        file_format: 'onnx' (STEM.onnx), 'paddle' (the program, its parameters and STEM.meta, beside
            each other), or 'pdparams' (STEM.pdparams).
        output: the file, for 'paddle' any of the files or their common stem, or a folder; None is
            the stem of `weights`, for a variant with -KIND behind it. A suffix that is no format's
            is kept: 'net-0.80.onnx'.
        size: height and width of the input, in pixels; None is the network's own.
        dynamic_batch: let the network take any number of images a run, not one alone.
        sharpen: what the logits are multiplied by, for 'pdparams' alone: see `sharpen_logits`.
        variant: what is made of the 'onnx' file, and written in its place: see `Variant`.

    Raises ValueError for an unknown format, ArgumentError for arguments that exclude each other,
    and InputError if checkpoint, size or paddle2onnx is wrong, or if the difference is over
    TOLERANCE, or that of a variant over its own in `variants.KINDS`.
    """
    if file_format not in FORMATS:
        raise ValueError(f"unknown format {file_format!r}: choose from {', '.join(FORMATS)}")
    if sharpen != 1 and file_format != "pdparams":
        raise ArgumentError("sharpen", "goes with --format pdparams, whose file is then exported")
    if variant and (file_format != "onnx" or dynamic_batch):
        fault = "goes with --format onnx, and without --dynamic-batch"
        raise ArgumentError("photo_input" if variant.kind == "photo" else variant.kind, fault)
    if size is not None:
        check_size("size", size)
    set_device("cpu")
    weights = Path(weights)
    beside = output is None or is_folder(output)
    output = _stem(weights, weights if output is None else output)
    if variant and beside:
        output = output.with_name(f"{output.name}-{variant.kind}")
    checkpoint = Path(f"{output}.pdparams")
    if sharpen != 1 and checkpoint == weights:
        raise ArgumentError("output", f"would write over {weights}: name another file")
    net = load_net(weights)
    if file_format == "pdparams":
        sharpen_logits(net, sharpen)
        save_weights(net, checkpoint, sharpened_by(weights) * sharpen)
        return [checkpoint]
    from skimage.data import astronaut

    size = size or net.input_size
    deployed = Deployed(net)
    deployed.eval()
    meta = _metadata(net, deployed.normalisation, weights, size)
    image = astronaut()
    if variant and variant.shape:
        image = cv2.resize(image, tuple(variant.shape[::-1]))
    photo = network_input([image], size, deployed.normalisation)
    with paddle.no_grad():
        expected = deployed(paddle.to_tensor(photo)).numpy()
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "net"
        spec = paddle.static.InputSpec([None if dynamic_batch else 1, 3, size, size], name=INPUT)
        program = paddle.jit.to_static(deployed, input_spec=[spec], full_graph=True)
        paddle.jit.save(program, str(prefix))
        if file_format == "onnx":
            import onnxruntime

            contents = {".onnx": _to_onnx(prefix, meta)}
            session = onnxruntime.InferenceSession(
                contents[".onnx"], providers=["CPUExecutionProvider"]
            )
            (output_map,) = session.run([OUTPUT], {INPUT: photo})
        else:
            saved = [file for file in Path(folder).iterdir() if file.suffix != ".info"]
            contents = {file.suffix: file.read_bytes() for file in saved}
            contents[".meta"] = json.dumps(meta, indent=1).encode()
            loaded = paddle.jit.load(str(prefix))
            loaded.eval()
            output_map = loaded(paddle.to_tensor(photo)).numpy()
        difference = float(np.abs(output_map - expected).max())
    print(f"largest difference from dygraph on a photo: {difference:.1e}")
    if not difference <= TOLERANCE:
        raise InputError(f"{output}: not written, it differs from dygraph by {difference:.1e}")
    if variant:
        content = make_variant(contents[".onnx"], variant, deployed.normalisation)
        contents = {".onnx": content}
        preds = run_variant(content, variant, image, photo)
        off = float(np.abs(preds - resize_map(expected[0, 0], image.shape[:2])).mean())
        print(f"mean difference of this variant from the network on a photo: {off:.1e}")
        if not off <= KINDS[variant.kind]:
            raise InputError(f"{output}: not written, this variant's maps are off by {off:.1e}")
    files = [Path(f"{output}{suffix}") for suffix in contents]
    for file, content in zip(files, contents.values()):
        write_atomically(file, content)
    return files


def _stem(weights: Path, output: PathLike) -> Path:
    """Return the path to write to, to which a format adds its suffix: `output` without one, or, if
    that is a folder, the stem of `weights` in it.
    """
    names_folder = is_folder(output) or str(output).endswith(("/", os.sep))
    return without_suffix(Path(output, weights.name) if names_folder else Path(output), SUFFIXES)


def sharpen_logits(net: SaliencyNet, factor: float) -> None:
    """Multiply the logits m2 by `factor`, so that the map is sigmoid(factor * m2).

    The factor goes into the weights and the bias of `linear2`: a map that is too soft gets
    sharper (a factor over 1, a temperature of 1 / factor) in every runtime, at no cost. Raises
    ArgumentError unless `factor` is a positive number and the network an SCFNet.
    """
    if not 0 < factor < np.inf:
        raise ArgumentError("sharpen", f"must be a positive number, not {factor}")
    if factor == 1:
        return
    if not isinstance(net, SCFNet):
        raise ArgumentError("sharpen", f"is for SCFNet, not for {net.model_type}")
    for parameter in (net.linear2.weight, net.linear2.bias):
        parameter.set_value(parameter * factor)


def _metadata(
    net: SaliencyNet, normalisation: Normalisation, weights: Path, size: int
) -> Dict[str, str]:
    """Describe an exported network: its input and output, and the weights it is of."""
    mean, std, by_max = normalisation
    return {
        "model_type": net.model_type,
        "size": str(size),
        "input": f"{INPUT}: RGB, (0..255 - mean) / std, float32 [N, 3, {size}, {size}]",
        "output": f"{OUTPUT}: float32 [N, 1, {size}, {size}] in [0, 1]",
        "mean": json.dumps([round(float(x), 4) for x in mean]),
        "std": json.dumps([round(float(x), 4) for x in std]),
        "by_max": json.dumps(by_max),
        "weights": weights.name,
        "weights_sha256": digest(load_checkpoint(weights)),
        "file_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "sharpened": f"{sharpened_by(weights):g}",
    }


def _to_onnx(prefix: Path, meta: Dict[str, str]) -> bytes:
    """Convert the saved program at `prefix`, whose input is INPUT, to an ONNX file."""
    raw, lean = (prefix.with_name(name) for name in ("raw.onnx", "lean.onnx"))
    _convert(prefix, raw)
    import onnx
    from onnxruntime.tools.onnx_model_utils import optimize_model

    model = onnx.load(str(raw))
    _unblock_planes(model)
    output = model.graph.output[0]
    model.graph.node.append(onnx.helper.make_node("Identity", [output.name], [OUTPUT]))
    output.name = OUTPUT
    onnx.save(model, str(raw))
    optimize_model(raw, lean)  # constants, and batch norms in convolutions, by its portable passes
    model = onnx.load(str(lean))
    _write_pads(model)
    used = {node.domain for node in model.graph.node}
    for unused in [entry for entry in model.opset_import if entry.domain not in used]:
        model.opset_import.remove(unused)
    onnx.helper.set_model_props(model, meta)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _convert(prefix: Path, target: Path) -> None:
    """Write the saved program at `prefix` to `target` by paddle2onnx.

    Raises InputError if paddle2onnx is not installed, or is not the one for this Paddle.
    """
    needed = PADDLE2ONNX[paddle.__version__[0]]
    try:
        import onnx  # noqa: F401
        import paddle2onnx

        installed = metadata.version("paddle2onnx")
        if installed[0] != needed[0]:
            raise ImportError(f"paddle2onnx {installed} cannot read Paddle {paddle.__version__}")
    except ImportError as error:
        raise InputError(f"{error}; pip install onnx paddle2onnx=={needed}") from error

    program = next(f for f in prefix.parent.iterdir() if f.suffix in (".pdmodel", ".json"))
    parameters = prefix.with_suffix(".pdiparams")
    options = {} if needed[0] == "1" else {"optimize_tool": "None"}
    paddle2onnx.export(str(program), str(parameters), str(target), OPSET, verbose=False, **options)


def _unblock_planes(model: "onnx.ModelProto") -> None:
    """Hide the upsampling of maps of one channel from ONNX Runtime's channel blocking, which pads
    the channel to 8 or 16 and would upsample them all: a sixth of the time of M3_0.5.
    """
    from onnx import helper, numpy_helper, shape_inference

    graph = shape_inference.infer_shapes(model).graph
    channels = {
        value.name: value.type.tensor_type.shape.dim[1].dim_value
        for value in (*graph.value_info, *graph.output)
        if len(value.type.tensor_type.shape.dim) == 4
    }
    nodes = model.graph.node
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "channel_axis"))
    for i, node in reversed(list(enumerate(nodes))):
        source = node.input[0] if node.op_type == "Resize" else ""
        if channels.get(source) == 1:
            plane, hidden = f"{source}_plane{i}", f"{source}_hidden{i}"
            node.input[0] = hidden
            nodes.insert(i, helper.make_node("Unsqueeze", [plane, "channel_axis"], [hidden]))
            nodes.insert(i, helper.make_node("Squeeze", [source, "channel_axis"], [plane]))


def _write_pads(model: "onnx.ModelProto") -> None:
    """Replace `auto_pad` by the `pads` that it means for this input, as the file's size is fixed.

    TensorFlow's 'same': max((ceil(n / stride) - 1) * stride + k - n, 0) in all for n pixels, the
    smaller half first. OpenCV 5 takes SAME_UPPER for other pads and says nothing. Raises InputError
    for any other `auto_pad`.
    """
    from onnx import helper, shape_inference

    graph = shape_inference.infer_shapes(model).graph
    sizes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim[2:]]
        for value in (*graph.input, *graph.value_info)
    }
    for node in model.graph.node:
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        auto_pad = given.get("auto_pad", b"NOTSET")
        if auto_pad == b"NOTSET":
            continue
        if auto_pad != b"SAME_UPPER":
            raise InputError(f"{node.op_type} {node.name}: has auto_pad {auto_pad.decode()}")
        kernel = given["kernel_shape"]
        strides = given.get("strides", [1] * len(kernel))
        totals = [
            max((-(-n // stride) - 1) * stride + k - n, 0)
            for n, k, stride in zip(sizes[node.input[0]], kernel, strides)
        ]
        pads = [total // 2 for total in totals] + [total - total // 2 for total in totals]
        kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads")]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("pads", pads)])
