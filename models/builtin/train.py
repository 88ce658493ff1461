"""Makes the built-in model: engineered gradients beside a small network distilled from two larger ones.

    python models/builtin/train.py --data ../shared/data/products --teachers ../shared/models \\
        --out models/builtin --work /tmp/vitrine-builtin [--holdout]

Only the photos in gallery/ are trained on, never those in queries/, and never with a label: a photo's
category is read for one thing, to hold half of the categories out (--holdout), and to keep the two halves
apart where photos are mixed. The work folder (about 9 GB) keeps what can be kept between runs.

Needs: numpy==2.4.6 pillow==13.0.0 onnx==1.23.2 onnxruntime==1.31.1 torch==2.15.0
"""

import argparse
import json
import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFilter
from torch import nn

from evaluate import Model, fit_square, listing, report, retrieval

SIZE, FIT = 128, "crop"
SEED = 7

# --- Views: many pictures out of few photos, each shown to the teachers as it is ---

# What a teacher tells: its embedding, and two maps that say what it sees where.
TEACHERS = {"mobilenet-v3-small": ("add_8", "hardswish_17", 576, 64), "mobilenet-v2": ("add_71", "relu6_95", 1280, 96)}
SEEN = 224  # what the teachers see
KEPT = 160  # what is kept: more than SIZE, so that another size can be tried without asking them again
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
CELLS = 8  # every map is brought to 8 x 8
BOTH = 2  # the "half" of a drawing, which shows no photo


def piece(rng, image, least):
    width, height = image.size
    for _ in range(10):
        area, ratio = width * height * rng.uniform(least, 1.0), np.exp(rng.uniform(-0.35, 0.35))
        w, h = np.sqrt(area * ratio), np.sqrt(area / ratio)
        if w <= width and h <= height:
            break
    else:
        w = h = min(width, height)
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return image.resize((SEEN, SEEN), Image.BICUBIC, box=(x, y, x + w, y + h))


def drawing(rng):
    """Stripes, checks and shapes: what teachers say of these is worth as much as what they say of photos."""

    def colour():
        return tuple(int(v) for v in rng.integers(0, 256, 3))

    image = Image.new("RGB", (SEEN, SEEN), colour())
    yy, xx = np.mgrid[:SEEN, :SEEN] / SEEN
    if rng.random() < 0.6:
        f, t = rng.uniform(2, 25), rng.uniform(0, np.pi)
        wave = np.sin(2 * np.pi * f * (xx * np.cos(t) + yy * np.sin(t)) + rng.uniform(0, 6))
        if rng.random() < 0.4:
            wave = wave * np.sin(2 * np.pi * f * (-xx * np.sin(t) + yy * np.cos(t)))
        if rng.random() < 0.5:
            wave = np.sign(wave)
        wave = (wave[..., None] + 1) / 2
        image = Image.fromarray((wave * np.array(colour()) + (1 - wave) * np.array(colour())).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, 9)):
        kind, (x, y), (w, h) = rng.integers(3), rng.uniform(-30, SEEN, 2), rng.uniform(10, 150, 2)
        if kind == 0:
            draw.ellipse((x, y, x + w, y + h), fill=colour())
        elif kind == 1:
            draw.polygon([tuple(rng.uniform(-20, SEEN + 20, 2)) for _ in range(rng.integers(3, 7))], fill=colour())
        else:
            line = [tuple(rng.uniform(0, SEEN, 2)) for _ in range(rng.integers(2, 6))]
            draw.line(line, fill=colour(), width=int(rng.integers(1, 20)))
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4)))
    noisy = np.asarray(image, np.float32) + rng.normal(0, rng.uniform(0, 15), (SEEN, SEEN, 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def mask(rng):
    image = Image.new("L", (SEEN, SEEN), 0)
    draw, kind = ImageDraw.Draw(image), rng.integers(3)
    if kind == 0:
        w, h = rng.uniform(0.3, 0.8, 2) * SEEN
        x, y = rng.uniform(0, SEEN - w), rng.uniform(0, SEEN - h)
        draw.rectangle((x, y, x + w, y + h), fill=255)
    elif kind == 1:
        w, h = rng.uniform(0.4, 1, 2) * SEEN
        x, y = rng.uniform(-0.2 * SEEN, SEEN - 0.8 * w), rng.uniform(-0.2 * SEEN, SEEN - 0.8 * h)
        draw.ellipse((x, y, x + w, y + h), fill=255)
    else:
        draw.rectangle((0, 0, rng.uniform(0.3, 0.7) * SEEN, SEEN), fill=255)
        image = image.rotate(rng.uniform(0, 360))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 8)))


def recoloured(rng, pixels, strong):
    """Saturation, hue, brightness, white balance and contrast, as one matrix."""
    s = 0.35 if strong else 0.12
    saturation = rng.uniform(1 - 2 * s, 1 + s)
    turn = rng.normal(0, 1.2 if strong and rng.random() < 0.4 else 0.1)
    grey, axis = np.array([0.299, 0.587, 0.114], np.float32), np.ones(3) / np.sqrt(3)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    hue = np.eye(3) * np.cos(turn) + (1 - np.cos(turn)) * np.outer(axis, axis) + np.sin(turn) * cross
    matrix = (saturation * np.eye(3) + (1 - saturation) * np.outer(np.ones(3), grey)) @ hue
    matrix = matrix * rng.uniform(1 - s, 1 + s) * rng.uniform(1 - s / 3, 1 + s / 3, (3, 1))
    pixels = pixels.astype(np.float32) / 255
    middle, contrast = pixels.mean(), rng.uniform(1 - s, 1 + s)
    pixels = (pixels.reshape(-1, 3) @ matrix.T.astype(np.float32)).reshape(pixels.shape)
    return (((pixels - middle) * contrast + middle).clip(0, 1) * 255).astype(np.uint8)


def view(photos, i):
    """The i-th view and the half it belongs to. The first views are the photos as the product sees them."""
    rng = np.random.default_rng([SEED, i])
    if i < len(photos):
        return np.asarray(fit_square(photos[i][0], SEEN, FIT, Image.BICUBIC)), photos[i][1]
    kind = rng.random()
    if kind < 0.08:
        return recoloured(rng, np.asarray(drawing(rng)), False), BOTH
    photo, half = photos[int(rng.integers(len(photos)))]
    mild = kind < 0.3
    image = piece(rng, photo, 0.4 if mild else 0.1)
    if rng.random() < 0.5:
        image = image.transpose(Image.FLIP_LEFT_RIGHT)
    if rng.random() < 0.25:
        ground = rng.normal(0, 12), tuple(int(v) for v in rng.integers(0, 256, 3))
        image = image.rotate(ground[0], Image.BILINEAR, fillcolor=ground[1])
    if not mild:
        mix = rng.random()
        if mix < 0.5:
            while True:
                other, other_half = photos[int(rng.integers(len(photos)))]
                if other_half == half:
                    break
            other = piece(rng, other, 0.1) if rng.random() < 0.85 else drawing(rng)
            if mix < 0.35:
                image = Image.composite(other, image, mask(rng))
            else:
                image = Image.blend(image, other, rng.uniform(0.2, 0.5))
    return recoloured(rng, np.asarray(image), not mild), half


def session(model, threads=1):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def open_teachers(teachers):
    opened, rng = {}, np.random.default_rng(3)
    for name, (middle, last, channels, kept) in TEACHERS.items():
        model = onnx.load(Path(teachers, name, "onnx", "model.onnx"))
        for output in (middle, last):
            model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
        # A random projection shortens the last map without having looked at any photo.
        opened[name] = session(model), (rng.standard_normal((channels, kept)) / np.sqrt(channels)).astype(np.float32)
    return opened


def to_cells(maps):
    """Maps of any square size brought to CELLS x CELLS."""
    unit = np.eye(maps.shape[-1], dtype=np.float32)
    shrink = [np.asarray(Image.fromarray(row[None]).resize((CELLS, 1), Image.BILINEAR))[0] for row in unit]
    shrink = np.stack(shrink, 1)
    return np.einsum("oh,bchw,pw->bcop", shrink, maps, shrink, optimize=True)


WORKER = {}


def start_worker(data, teachers):
    names = sorted({c for _, c in listing(data, "gallery")})
    photos = [(Image.open(p).convert("RGB"), names.index(c) % 2) for p, c in listing(data, "gallery")]
    WORKER.update(photos=photos, teachers=open_teachers(teachers))


def make_chunk(first, last):
    parts = []
    for start in range(first, last, 16):
        seen, halves = zip(*(view(WORKER["photos"], i) for i in range(start, min(start + 16, last))))
        kept = [np.asarray(Image.fromarray(v).resize((KEPT, KEPT), Image.LANCZOS)) for v in seen]
        pixels = ((np.stack(seen).astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2).copy()
        embeds, middles, lasts = [], [], []
        for name, (middle, last_map, *_) in TEACHERS.items():
            teacher, projection = WORKER["teachers"][name]
            e, m, f = teacher.run(["image_embeds", middle, last_map], {"pixel_values": pixels})
            embeds.append(e)
            middles.append(to_cells(m))
            lasts.append(to_cells(np.einsum("bchw,cd->bdhw", f, projection, optimize=True)))
        joined = [np.concatenate(v, 1).astype(np.float16) for v in (embeds, middles, lasts)]
        parts.append((np.stack(kept), np.array(halves, np.uint8), *joined))
    return [np.concatenate(p) for p in zip(*parts)]


ARRAYS = {"small": ((KEPT, KEPT, 3), np.uint8), "grp": ((), np.uint8), "emb": ((1856,), np.float16),
          "mid": ((144, CELLS, CELLS), np.float16), "fin": ((160, CELLS, CELLS), np.float16)}  # fmt: skip


def make_views(data, teachers, work, count, workers):
    """The views and what the teachers say of them, as arrays on disk."""
    if not Path(work, "done").exists():
        arrays = [np.lib.format.open_memmap(Path(work, f"{n}.npy"), "w+", d, (count, *s)) for n, (s, d) in ARRAYS.items()]
        with ProcessPoolExecutor(workers, initializer=start_worker, initargs=(data, teachers)) as pool:
            firsts = range(0, count, 320)
            for first, made in zip(firsts, pool.map(make_chunk, firsts, [min(f + 320, count) for f in firsts])):
                for array, rows in zip(arrays, made):
                    array[first : first + len(rows)] = rows
        for array in arrays:
            array.flush()
        Path(work, "done").write_text(str(count))
    return {name: np.load(Path(work, f"{name}.npy"), mmap_mode="r") for name in ARRAYS}


# --- The engineered part, written once, as the graph that ships ---

ORIENTATIONS, SCALES = 12, (1, 2, 4)
CHANNELS = ORIENTATIONS * len(SCALES) + 6


class Graph:
    """Just enough to write a graph line by line."""

    def __init__(self):
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, value, dtype=np.float32):
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def half(self, value):
        """A constant kept in half precision: half the file, and onnxruntime widens it once, on loading."""
        return self("Cast", self.constant(value, np.float16), to=TensorProto.FLOAT)

    def __call__(self, op, *inputs, out=None, **attributes):
        self.count += 1
        out = out or f"t{self.count}"
        inputs = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self.nodes.append(helper.make_node(op, inputs, [out], **attributes))
        return out

    def channel_sum(self, x):
        return self("ReduceSum", x, self.constant([1], np.int64), keepdims=1)

    def shrink(self, x, by):
        return self("AveragePool", x, kernel_shape=[by, by], strides=[by, by]) if by > 1 else x

    def unit(self, x):
        return self("Div", x, self("Add", self("ReduceL2", x, axes=[1], keepdims=1), 1e-6))

    def model(self, output, shape):
        graph = helper.make_graph(
            self.nodes, "vitrine-builtin",
            [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *shape])], self.constants,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def engineered_maps(g):
    """Soft orientations at three scales, each against the energy around it, and colours: CHANNELS x 32 x 32."""
    angles = np.arange(ORIENTATIONS) * 2 * np.pi / ORIENTATIONS
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    steered = (np.cos(angles)[:, None, None] * sobel + np.sin(angles)[:, None, None] * sobel.T)[:, None]
    edges = g.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    half = g.shrink("pixel_values", 2)
    grey = g("Conv", half, np.array([0.299, 0.587, 0.114])[None, :, None, None])
    maps, energies = [], []
    for scale in SCALES:
        slope = g("Conv", g("Pad", g.shrink(grey, scale), edges, mode="edge"), steered)
        power = g.channel_sum(g("Mul", slope, slope))
        magnitude = g("Sqrt", g("Add", g("Mul", power, 2 / ORIENTATIONS), 1e-6))
        # cos^4 shares an edge among the two or three orientations nearest to it.
        cosine = g("Relu", g("Div", slope, magnitude))
        square = g("Mul", cosine, cosine)
        share = g("Mul", square, square)
        votes = g("Mul", share, g("Div", magnitude, g("Add", g.channel_sum(share), 1e-6)))
        votes = g.shrink(votes, 2) if scale == 1 else votes
        around = g("AveragePool", g.channel_sum(g("Mul", votes, votes)), kernel_shape=[5, 5], pads=[2, 2, 2, 2])
        energy = g("Sqrt", g("Add", around, 1e-4))
        votes = g("Sqrt", g("Add", g("Div", votes, energy), 1e-6))
        if scale == 4:
            votes = g("Resize", votes, "", np.array([1, 1, 2, 2], np.float32), mode="nearest",
                      coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
        maps.append(votes)
        energies.append(energy)
    # Red, green, blue; red against green; blue against both.
    opponent = np.array([[2, 0, 0], [0, 2, 0], [0, 0, 2], [3, -3, 0], [-1.5, -1.5, 3]], np.float32)
    colour = g("Conv", g.shrink(half, 2), opponent[:, :, None, None], np.array([-1, -1, -1, 0, 0]))
    contrast = g("Add", g("Mul", g("Log", g("Add", energies[0], 0.01)), 0.5), 1.0)
    return g("Concat", *maps, colour, contrast, axis=1)


def histograms(maps):
    """The orientations' energy in 7 x 7 overlapping cells; the same in numpy as in the graph below."""
    m = np.square(maps[:, : CHANNELS - 6].astype(np.float32)).reshape(len(maps), CHANNELS - 6, 8, 4, 8, 4).mean((3, 5))
    m = (m[:, :, 1:, 1:] + m[:, :, 1:, :-1] + m[:, :, :-1, 1:] + m[:, :, :-1, :-1]) / 4
    return np.sqrt(m + 1e-8).reshape(len(maps), -1)


def histograms_graph(g, maps):
    first = [g.constant([v], np.int64) for v in (0, CHANNELS - 6, 1)]
    m = g("Slice", maps, *first)
    m = g("AveragePool", g.shrink(g("Mul", m, m), 4), kernel_shape=[2, 2])
    return g("Flatten", g("Sqrt", g("Add", m, 1e-8)))


def whitening(rows, dims, power):
    """Principal axes, each divided by its spread to the power: 0 keeps the spread, 1 evens it out."""
    values, axes = np.linalg.eigh(np.cov(rows - rows.mean(0), rowvar=False))
    values, axes = values[::-1][:dims].clip(1e-12), axes[:, ::-1][:, :dims]
    return axes / (values / values[0]) ** (power / 2)


# --- The learned part: a network over the engineered maps, distilled from the teachers ---

MIDDLE, LAST, HEAD = 64, 128, 512
BATCH, RATE, DECAY = 96, 3e-3, 0.05
PARTS = 256  # dimensions of each half of the embedding


def layer(inward, outward, kernel, stride=1):
    conv = nn.Conv2d(inward, outward, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outward))


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first, self.second = layer(channels, channels, 3), layer(channels, channels, 3)

    def forward(self, x):
        return F.relu(x + self.second(F.relu(self.first(x))))


class Student(nn.Module):
    """Plain 3 x 3 convolutions: depthwise ones multiply less, but trained several times slower on a CPU."""

    def __init__(self):
        super().__init__()
        self.middle, self.last = layer(CHANNELS, MIDDLE, 3, 2), layer(MIDDLE, LAST, 3, 2)
        self.blocks = nn.ModuleList([Block(LAST), Block(LAST)])
        self.head = layer(LAST, HEAD, 1)
        self.embed = nn.Linear(HEAD, PARTS)
        # Only for training: what the teachers see where, out of the student's own maps.
        self.tell_middle = nn.Conv2d(MIDDLE, ARRAYS["mid"][0][0], 1)
        self.tell_last = nn.Conv2d(HEAD, ARRAYS["fin"][0][0], 1)

    def forward(self, maps, everything=False):
        middle = F.relu(self.middle(maps))
        x = F.relu(self.last(middle))
        for block in self.blocks:
            x = block(x)
        x = F.relu(self.head(x))
        pooled = x.mean((2, 3))
        if not everything:
            return pooled
        return self.embed(pooled), self.tell_middle(F.avg_pool2d(middle, 2)), self.tell_last(x)


def targets(told, photos):
    """Both teachers' embeddings, each centred and of unit length, side by side on their principal axes."""
    told = torch.from_numpy(told.astype(np.float32))
    small, large = told[:, :576], told[:, 576:]
    both = [F.normalize(t - t[photos].mean(0)) for t in (small, large)]
    both = torch.cat(both, 1)
    _, axes = torch.linalg.eigh((both - both.mean(0)).T @ (both - both.mean(0)))
    return F.normalize((both - both.mean(0)) @ axes.flip(1)[:, :PARTS])


def mirrored(maps):
    """Left and right swapped: the orientations swap too."""
    turned = [(ORIENTATIONS // 2 - k) % ORIENTATIONS for k in range(ORIENTATIONS)]
    order = [s * ORIENTATIONS + k for s in range(len(SCALES)) for k in turned]
    return maps.flip(3)[:, order + list(range(len(order), CHANNELS))]


def train(views, maps, use, steps):
    """A student that has seen the views in `use` alone."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    aim = targets(views["emb"][use], torch.from_numpy(views["grp"][use] != BOTH))

    def standard(name):
        some = torch.from_numpy(views[name][use[:: max(1, len(use) // 1500)]].astype(np.float32))
        mean, spread = some.mean((0, 2, 3), keepdim=True), some.std((0, 2, 3), keepdim=True) + 1e-3
        return lambda rows: (torch.from_numpy(views[name][rows].astype(np.float32)) - mean) / spread

    middles, lasts = standard("mid"), standard("fin")
    student = Student().to(memory_format=torch.channels_last)
    weights = [p for p in student.parameters() if p.ndim > 1]
    others = [p for p in student.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": weights, "weight_decay": DECAY}, {"params": others, "weight_decay": 0}])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    order, told, start = np.array([], int), np.zeros(4), time.time()
    for step in range(1, steps + 1):
        if len(order) < BATCH:
            order = np.concatenate([order, rng.permutation(len(use))])
        batch, order = np.sort(order[:BATCH]), order[BATCH:]
        rows = use[batch]
        x, middle, last = torch.from_numpy(maps[rows]).float(), middles(rows), lasts(rows)
        if rng.random() < 0.5:
            x, middle, last = mirrored(x), middle.flip(3), last.flip(3)
        with torch.autocast("cpu", torch.bfloat16):
            embed, tells_middle, tells_last = student(x.contiguous(memory_format=torch.channels_last), True)
        embed = F.normalize(embed.float())
        losses = (
            1 - (embed * aim[batch]).sum(1).mean(),
            5 * ((embed @ embed.T - aim[batch] @ aim[batch].T) ** 2).mean(),
            F.mse_loss(tells_last.float(), last),
            0.5 * F.mse_loss(tells_middle.float(), middle),
        )
        optimizer.zero_grad()
        sum(losses).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        told += [float(v.detach()) for v in losses]
        if step % 200 == 0 or step == steps:
            print(f"  step {step}: {told / (step % 200 or 200)} {time.time() - start:.0f} s", flush=True)
            told[:] = 0
    return student.eval()


# --- The whole: both parts in one graph ---

# Of the learned part against the engineered one. Categories held out want 0.4 to 0.5, categories seen 0.6 to 0.7.
WEIGHT = 0.6


def run_in_batches(model, batches):
    running = session(model)
    return np.concatenate([running.run(None, {"pixel_values": batch})[0] for batch in batches])


def make_maps(views, work):
    """The engineered maps of every view, by the graph that ships."""
    path, count = Path(work, "maps.npy"), len(views["grp"])
    if not path.exists():
        g = Graph()
        model = session(g.model(engineered_maps(g), (CHANNELS, 32, 32)))
        maps = np.lib.format.open_memmap(Path(work, "maps.tmp.npy"), "w+", np.float16, (count, CHANNELS, 32, 32))
        for i in range(0, count, 50):
            pixels = torch.from_numpy(views["small"][i : i + 50].copy()).permute(0, 3, 1, 2).float() / 255
            pixels = F.interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", antialias=True)
            maps[i : i + 50] = model.run(None, {"pixel_values": pixels.numpy()})[0]
        maps.flush()
        Path(work, "maps.tmp.npy").rename(path)
    return np.load(path, mmap_mode="r")


def learned_graph(g, maps, student, matrix, shift):
    def conv(x, made, stride=1):
        plain, norm = made
        scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
        weight = plain.weight.detach() * scale[:, None, None, None]
        bias = norm.bias.detach() - norm.running_mean * scale
        edge = plain.kernel_size[0] // 2
        return g("Conv", x, g.half(weight.numpy()), g.half(bias.numpy()), strides=[stride, stride], pads=[edge] * 4)

    x = g("Relu", conv(maps, student.middle, 2))
    x = g("Relu", conv(x, student.last, 2))
    for block in student.blocks:
        x = g("Relu", g("Add", x, conv(g("Relu", conv(x, block.first)), block.second)))
    x = g("Flatten", g("GlobalAveragePool", g("Relu", conv(x, student.head))))
    return g("Add", g("MatMul", x, g.half(matrix)), shift)


def assemble(views, maps, use, student):
    """One graph: [the engineered part's unit vector, WEIGHT x the learned part's]."""
    some = use[::4][views["grp"][use[::4]] != BOTH]
    photos = use[use < PHOTOS]  # the first views are the photos themselves

    engineered = np.concatenate([histograms(maps[some[i : i + 200]]) for i in range(0, len(some), 200)])
    axes = whitening(engineered, PARTS, 0.75)
    usual = histograms(maps[photos]).mean(0)

    def embeds(rows):
        with torch.no_grad():
            parts = [student(torch.from_numpy(maps[rows[i : i + 200]]).float()) for i in range(0, len(rows), 200)]
            return student.embed(torch.cat(parts)).numpy()

    evened = whitening(embeds(some), PARTS, 0.5)
    matrix = student.embed.weight.detach().numpy().T @ evened
    shift = (student.embed.bias.detach().numpy() - embeds(photos).mean(0)) @ evened

    g = Graph()
    shared = engineered_maps(g)
    shape = g.unit(g("MatMul", g("Sub", histograms_graph(g, shared), usual), g.half(axes)))
    learned = g("Mul", g.unit(learned_graph(g, shared, student, matrix, shift)), WEIGHT)
    g("Concat", shape, learned, axis=1, out="image_embeds")
    return g.model("image_embeds", (2 * PARTS,))


def save(out, model):
    """The graph and the two files beside it, in Hugging Face layout and as the project's formatter has them."""

    def write(name, value):
        text = re.sub(r"\[[^\]]*\]", lambda m: json.dumps(json.loads(m[0])), json.dumps(value, indent=2))
        Path(out, name).write_text(text + "\n")

    Path(out, "onnx").mkdir(parents=True, exist_ok=True)
    onnx.save(model, Path(out, "onnx", "model.onnx"))
    write("config.json", {
        # The class that transformers.js runs an image-only encoder with; the network is our own.
        "model_type": "mobilenet_v2",
        "architectures": ["MobileNetV2Model"],
        "image_size": SIZE,
        "num_channels": 3,
        "hidden_size": 2 * PARTS,
        "_name_or_path": "vitrine/builtin",
    })  # fmt: skip
    write("preprocessor_config.json", {
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
    })  # fmt: skip


def learn(name, views, maps, use, steps, work):
    """A trained student, kept in the work folder."""
    path = Path(work, f"student-{name}-{steps}.pt")
    if not path.exists():
        torch.save(train(views, maps, use, steps).state_dict(), path)
    student = Student().eval()
    student.load_state_dict(torch.load(path))
    return student


def hold_out(data, teachers, out, views, maps, steps, work):
    """Half of the categories is held out of everything that is fitted, and then the other half.

    Queries of the held-out half are searched among photos that nothing was fitted on: the held-out half's
    gallery, with the queries of the other half as photos that must not be found.
    """
    names = sorted({c for _, c in listing(data, "gallery")})
    photos, labels = {}, {}
    for split in ("gallery", "queries"):
        photos[split] = [Image.open(p).convert("RGB") for p, _ in listing(data, split)]
        labels[split] = np.array([names.index(c) for _, c in listing(data, split)])
    figures = {}

    def measure(name, held, gallery, queries):
        gallery, queries = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (gallery, queries))
        known = labels["gallery"] % 2 == held
        asked = labels["queries"] % 2 == held
        among = np.concatenate([gallery[known], queries[~asked]])
        among_labels = np.concatenate([labels["gallery"][known], labels["queries"][~asked]])
        result = retrieval(among, among_labels, queries[asked], labels["queries"][asked])
        figures.setdefault(name, []).append(np.array(result) * asked.mean())

    for half in (0, 1):
        use = np.flatnonzero((views["grp"][:] == half) | (views["grp"][:] == BOTH))
        student = learn(f"half{half}", views, maps, use, steps, work)
        with tempfile.TemporaryDirectory() as folder:
            save(folder, assemble(views, maps, use, student))
            model = Model(folder)
            gallery, queries = model.embed(photos["gallery"]), model.embed(photos["queries"])
        measure("this method, both parts", 1 - half, gallery, queries)
        measure("its engineered part alone", 1 - half, gallery[:, :PARTS], queries[:, :PARTS])
        measure("its learned part alone", 1 - half, gallery[:, PARTS:], queries[:, PARTS:])
    seen = {"the model in --out, all seen": Path(out), **{f"teacher {n}": Path(teachers, n) for n in TEACHERS}}
    for name, folder in seen.items():
        model = Model(folder)
        gallery, queries = model.embed(photos["gallery"]), model.embed(photos["queries"])
        for half in (0, 1):
            measure(name, 1 - half, gallery, queries)
    print("Categories held out (both halves in turn, all queries):")
    for name, halves in figures.items():
        print("  {:<28} P@1 {:.3f}  P@10 {:.3f}  mAP@10 {:.3f}".format(name, *sum(halves)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="the folder with gallery/ and queries/")
    parser.add_argument("--teachers", required=True, help="the folder with " + " and ".join(TEACHERS))
    parser.add_argument("--out", default="models/builtin")
    parser.add_argument("--work", required=True)
    parser.add_argument("--views", type=int, default=40000)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--holdout", action="store_true", help="measure with categories held out; writes no model")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    Path(args.work).mkdir(parents=True, exist_ok=True)
    PHOTOS = len(listing(args.data, "gallery"))
    views = make_views(args.data, args.teachers, args.work, args.views, args.threads)
    maps = make_maps(views, args.work)
    if args.holdout:
        hold_out(args.data, args.teachers, args.out, views, maps, args.steps, args.work)
    else:
        everything = np.arange(len(views["grp"]))
        student = learn("all", views, maps, everything, args.steps, args.work)
        save(args.out, assemble(views, maps, everything, student))
        report(args.out, args.data, near=True)
