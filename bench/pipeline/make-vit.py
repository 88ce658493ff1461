"""Makes an image encoder of the size of CLIP's ViT-B/32 with random weights: what it computes means nothing, what it costs does.

    python3 -m venv venv && venv/bin/pip install onnx numpy
    venv/bin/python bench/pipeline/make-vit.py FOLDER/vit-b32-random

`npm run bench -- pipeline --models-dir FOLDER --model vit-b32-random` measures with it.
"""

import json
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

SIZE, PATCH, WIDTH, HEADS, LAYERS, DIMENSION = 224, 32, 768, 12, 12, 512
TOKENS = (SIZE // PATCH) ** 2 + 1
HEAD = WIDTH // HEADS
random = np.random.default_rng(32)
nodes, weights = [], []


def weight(name, array):
    weights.append(numpy_helper.from_array(np.asarray(array), name))
    return name


def normal(name, *shape):
    return weight(name, random.normal(0, 0.02, shape).astype(np.float32))


def apply(kind, inputs, output, **attributes):
    nodes.append(helper.make_node(kind, inputs, [output], **attributes))
    return output


def normalise(x, name):
    scale = weight(f"{name}.scale", np.ones(WIDTH, np.float32))
    bias = weight(f"{name}.bias", np.zeros(WIDTH, np.float32))
    return apply("LayerNormalization", [x, scale, bias], name, axis=-1, epsilon=1e-5)


def linear(x, name, rows, columns):
    product = apply("MatMul", [x, normal(f"{name}.weight", rows, columns)], f"{name}.product")
    return apply("Add", [product, normal(f"{name}.bias", columns)], name)


def attend(x, name):
    parts = []
    for part in ("query", "key", "value"):
        heads = apply("Reshape", [linear(x, f"{name}.{part}", WIDTH, WIDTH), "heads_shape"], f"{name}.{part}.heads")
        order = [0, 2, 3, 1] if part == "key" else [0, 2, 1, 3]
        parts.append(apply("Transpose", [heads], f"{name}.{part}.turned", perm=order))
    query, key, value = parts
    scores = apply("Mul", [apply("MatMul", [query, key], f"{name}.scores"), "scale"], f"{name}.scaled")
    mixed = apply("MatMul", [apply("Softmax", [scores], f"{name}.shares", axis=-1), value], f"{name}.mixed")
    turned = apply("Transpose", [mixed], f"{name}.back", perm=[0, 2, 1, 3])
    return linear(apply("Reshape", [turned, "tokens_shape"], f"{name}.joined"), f"{name}.out", WIDTH, WIDTH)


def think(x, name):
    wide = linear(x, f"{name}.in", WIDTH, 4 * WIDTH)
    gate = apply("Sigmoid", [apply("Mul", [wide, "gelu"], f"{name}.slope")], f"{name}.gate")
    return linear(apply("Mul", [wide, gate], f"{name}.active"), f"{name}.out", 4 * WIDTH, WIDTH)


weight("heads_shape", np.array([0, TOKENS, HEADS, HEAD], np.int64))
weight("tokens_shape", np.array([0, TOKENS, WIDTH], np.int64))
weight("patches_shape", np.array([0, WIDTH, TOKENS - 1], np.int64))
weight("scale", np.array(HEAD**-0.5, np.float32))
weight("gelu", np.array(1.702, np.float32))
weight("first", np.array(0, np.int64))

patches = apply("Conv", ["pixel_values", normal("patch", WIDTH, 3, PATCH, PATCH)], "patches", strides=[PATCH, PATCH])
flat = apply("Transpose", [apply("Reshape", [patches, "patches_shape"], "flat")], "tokens", perm=[0, 2, 1])
# One more token in front, as CLIP's class token, for every image of the batch.
padded = apply("Pad", [flat, weight("pads", np.array([0, 1, 0, 0, 0, 0], np.int64))], "padded")
x = normalise(apply("Add", [padded, normal("positions", TOKENS, WIDTH)], "placed"), "before")
for layer in range(LAYERS):
    name = f"layer{layer}"
    x = apply("Add", [x, attend(normalise(x, f"{name}.norm1"), f"{name}.attention")], f"{name}.attended")
    x = apply("Add", [x, think(normalise(x, f"{name}.norm2"), f"{name}.mlp")], f"{name}.thought")
pooled = apply("Gather", [x, "first"], "pooled", axis=1)
apply("MatMul", [normalise(pooled, "after"), normal("projection", WIDTH, DIMENSION)], "image_embeds")

graph = helper.make_graph(
    nodes,
    "vit-b32-random",
    [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
    [helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch", DIMENSION])],
    weights,
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
checker.check_model(model)

folder = Path(sys.argv[1])
(folder / "onnx").mkdir(parents=True, exist_ok=True)
save(model, folder / "onnx" / "model.onnx")
(folder / "config.json").write_text(json.dumps({"model_type": "clip_vision_model", "projection_dim": DIMENSION}) + "\n")
preprocessing = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": SIZE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": SIZE, "width": SIZE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
(folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")
