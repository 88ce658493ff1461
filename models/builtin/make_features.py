"""Makes the built-in model from engineered features: oriented gradients and colour words.

    python models/builtin/make_features.py --data ../shared/data/products --out models/builtin

Only the gallery's photos are looked at, without their categories: they give the mean and the principal
axes of the gradients, and the colour words. Nothing is trained with labels.
Needs: numpy==2.4.6 pillow==13.0.0 onnx==1.23.2 onnxruntime==1.31.1
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from evaluate import fit_square, listing, report

SIZE, FIT = 128, "crop"
ORIENTATIONS, CELL = 12, 16  # signed orientations; cells of 32 px that overlap by half
AXES, WORDS = 192, 64  # the embedding's two parts
COLOUR_WEIGHT = 0.2
# Brightness, red-green, blue-yellow: distances here follow the eye better than in RGB.
OPPONENT = np.array([[0.18, 0.35, 0.07], [0.75, -0.75, 0], [-0.375, -0.375, 0.75]], np.float32)


class Graph:
    """Just enough to write a graph line by line."""

    def __init__(self):
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, value, dtype=np.float32):
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def __call__(self, op, *inputs, out=None, **attributes):
        self.count += 1
        out = out or f"t{self.count}"
        inputs = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self.nodes.append(helper.make_node(op, inputs, [out], **attributes))
        return out

    def unit(self, x, out=None):
        return self("Div", x, self("Add", self("ReduceL2", x, axes=[1], keepdims=1), 1e-6), out=out)

    def model(self, output, dims):
        graph = helper.make_graph(
            self.nodes, "vitrine-builtin",
            [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", dims])], self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def gradients(g):
    """Histograms of signed orientations over overlapping cells, each against the energy around it."""
    angles = np.arange(ORIENTATIONS) * 2 * np.pi / ORIENTATIONS
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    steered = np.cos(angles)[:, None, None] * sobel + np.sin(angles)[:, None, None] * sobel.T
    weights = steered[:, None] * np.array([0.299, 0.587, 0.114])[None, :, None, None]
    edges = g.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    slope = g("Conv", g("Pad", "pixel_values", edges, mode="edge"), weights)
    power = g("ReduceSum", g("Mul", slope, slope), g.constant([1], np.int64), keepdims=1)
    magnitude = g("Sqrt", g("Add", g("Mul", power, 2 / ORIENTATIONS), 1e-6))
    # cos^4 shares an edge among the two or three bins nearest to it.
    cosine = g("Div", g("Relu", slope), magnitude)
    square = g("Mul", cosine, cosine)
    share = g("Mul", square, square)
    total = g("Add", g("ReduceSum", share, g.constant([1], np.int64), keepdims=1), 1e-6)
    votes = g("Mul", g("Div", share, total), magnitude)
    cells = g("AveragePool", votes, kernel_shape=[CELL] * 2, strides=[CELL] * 2)
    cells = g("AveragePool", cells, kernel_shape=[2, 2])
    near = g("AveragePool", cells, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    energy = g("Sqrt", g("Add", g("ReduceSumSquare", near, axes=[1], keepdims=1), 1e-5))
    return g("Flatten", g("Sqrt", g("Add", g("Div", cells, energy), 1e-8)))


def colours(g, words):
    """The share of the image near each colour word."""
    small = g("Conv", g("AveragePool", "pixel_values", kernel_shape=[4, 4], strides=[4, 4]), OPPONENT[:, :, None, None])
    # -T |x - w|^2 without |x|^2, which softmax doesn't see.
    near = g("Conv", small, 80 * words[:, :, None, None], -40 * (words**2).sum(1))
    share = g("GlobalAveragePool", g("Softmax", near, axis=1))
    return g("Flatten", g("Sqrt", g("Add", share, 1e-4)))


def run(model, pixels):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"pixel_values": pixels[i : i + 16]})[0] for i in range(0, len(pixels), 16)])


def k_means(points, k, rounds=15):
    centres = points[np.random.default_rng(0).permutation(len(points))[:k]]
    for _ in range(rounds):
        nearest = ((points**2).sum(1)[:, None] - 2 * points @ centres.T + (centres**2).sum(1)).argmin(1)
        centres = np.stack([points[nearest == i].mean(0) if (nearest == i).any() else centres[i] for i in range(k)])
    return centres


def save(out, name, value):
    """JSON as the project's formatter has it: lists on one line."""
    text = re.sub(r"\[[^\]]*\]", lambda m: json.dumps(json.loads(m[0])), json.dumps(value, indent=2))
    Path(out, name).write_text(text + "\n")


def main(data, out):
    photos = [fit_square(Image.open(p).convert("RGB"), SIZE, FIT) for p, _ in listing(data, "gallery")]
    pixels = np.stack([np.asarray(p, np.float32).transpose(2, 0, 1) / 255 for p in photos])

    g = Graph()
    raw = run(g.model(gradients(g), None), pixels)
    mean = raw.mean(0)
    _, spread, axes = np.linalg.svd(raw - mean, full_matrices=False)
    # Half of a whitening: the first axes say little but "something in the middle".
    axes = axes[:AXES].T / np.sqrt(spread[:AXES] / spread[0])

    patches = pixels.reshape(len(pixels), 3, SIZE // 8, 8, SIZE // 8, 8).mean((3, 5))
    words = k_means(patches.transpose(0, 2, 3, 1).reshape(-1, 3) @ OPPONENT.T, WORDS)
    g = Graph()
    usual = run(g.model(colours(g, words), None), pixels).mean(0)

    g = Graph()
    shape = g.unit(g("MatMul", g("Sub", gradients(g), mean), axes))
    colour = g("Mul", g.unit(g("Sub", colours(g, words), usual)), COLOUR_WEIGHT)
    model = g.model(g("Concat", shape, colour, axis=1, out="image_embeds"), AXES + WORDS)

    Path(out, "onnx").mkdir(parents=True, exist_ok=True)
    onnx.save(model, Path(out, "onnx", "model.onnx"))
    save(out, "config.json", {
        # The class that transformers.js runs an image-only encoder with; the network is our own.
        "model_type": "mobilenet_v2",
        "architectures": ["MobileNetV2Model"],
        "image_size": SIZE,
        "num_channels": 3,
        "hidden_size": AXES + WORDS,
        "_name_or_path": "vitrine/builtin",
    })
    save(out, "preprocessor_config.json", {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": SIZE},
        "resample": 1,
        "do_center_crop": True,
        "crop_size": {"height": SIZE, "width": SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0, 0, 0],
        "image_std": [1, 1, 1],
        "vitrine_fit": FIT,
    })


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", default="models/builtin")
    args = parser.parse_args()
    main(args.data, args.out)
    report(args.out, args.data, near=True)
