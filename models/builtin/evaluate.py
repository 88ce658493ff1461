"""Measures an embedding model the way the product uses it: through onnxruntime, one thread.

    python models/builtin/evaluate.py --data ../shared/data/products [--model models/builtin] [--near]

Prints P@1, P@10 and mAP@10 of queries/ against gallery/, the time of one image, and with --near how
often a near-duplicate of a gallery photo finds its source first.
Needs: numpy==2.4.6 pillow==13.0.0 onnxruntime==1.31.1
"""

import argparse
import io
import json
import os
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageEnhance

FILTERS = {"lanczos": Image.LANCZOS, "bicubic": Image.BICUBIC, "bilinear": Image.BILINEAR}


def listing(data, split):
    """[(path, category)] in a fixed order."""
    return [(p, p.parent.name) for p in sorted(Path(data, split).glob("*/*.jpg"))]


def fit_square(image, size, fit, resample=Image.LANCZOS):
    """The image as a size x size square: padded with white, centre-cropped, or stretched."""
    width, height = image.size
    if fit == "stretch":
        return image.resize((size, size), resample)
    scale = size / (max if fit == "pad" else min)(width, height)
    image = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), resample)
    square = Image.new("RGB", (size, size), (255, 255, 255))
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square


class Model:
    def __init__(self, folder, resample="lanczos", fit=None, dims=None):
        config = json.loads(Path(folder, "preprocessor_config.json").read_text())
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = ort.InferenceSession(
            Path(folder, "onnx", "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        edge = config.get("crop_size") or config["size"]
        self.size = edge.get("height") or edge["shortest_edge"]
        self.fit = fit or config.get("vitrine_fit", "crop")
        self.resample = FILTERS[resample]
        self.dims = slice(*(int(d) for d in dims.split(":"))) if dims else slice(None)
        self.mean = np.array(config["image_mean"], np.float32)
        self.std = np.array(config["image_std"], np.float32)

    def pixels(self, image):
        square = fit_square(image.convert("RGB"), self.size, self.fit, self.resample)
        return ((np.asarray(square, np.float32) / 255 - self.mean) / self.std).transpose(2, 0, 1)

    def run(self, pixels):
        return self.session.run(["image_embeds"], {"pixel_values": pixels})[0][:, self.dims]

    def embed(self, images, batch=8):
        """Unit vectors, one a row."""
        out, waiting = [], []
        for image in images:
            waiting.append(self.pixels(image))
            if len(waiting) == batch:
                out.append(self.run(np.stack(waiting)))
                waiting = []
        if waiting:
            out.append(self.run(np.stack(waiting)))
        out = np.concatenate(out)
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def retrieval(gallery, gallery_labels, queries, query_labels):
    """P@1, P@10 and mAP@10 by cosine."""
    order = np.argsort(-queries @ gallery.T, axis=1, kind="stable")[:, :10]
    right = np.asarray(gallery_labels)[order] == np.asarray(query_labels)[:, None]
    precision = np.cumsum(right, 1) / np.arange(1, 11)
    average = (precision * right).sum(1) / np.maximum(right.sum(1), 1)
    return right[:, 0].mean(), right.mean(), average.mean()


def encoded(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def cropped(image, left, top):
    """Nine tenths of each side, taken at (left, top) of what can be cut away."""
    width, height = image.size
    w, h = round(width * 0.9), round(height * 0.9)
    x, y = round((width - w) * left), round((height - h) * top)
    return image.crop((x, y, x + w, y + h))


def turned(image, degrees):
    """The hue turned."""
    hsv = np.asarray(image.convert("HSV")).copy()
    hsv[..., 0] = (hsv[..., 0].astype(int) + round(degrees * 256 / 360)) % 256
    return Image.fromarray(hsv, "HSV").convert("RGB")


VARIANTS = {
    "re-encoded q40": lambda im: encoded(im, 40),
    "re-encoded q60": lambda im: encoded(im, 60),
    "resized to 50%": lambda im: im.resize((im.width // 2, im.height // 2), Image.BILINEAR),
    "cropped 10% centre": lambda im: cropped(im, 0.5, 0.5),
    "cropped 10% corner": lambda im: cropped(im, 0, 0),
    "brighter 10%": lambda im: ImageEnhance.Brightness(im).enhance(1.1),
    "darker 10%": lambda im: ImageEnhance.Brightness(im).enhance(0.9),
    "saturation +10%": lambda im: ImageEnhance.Color(im).enhance(1.1),
    "saturation -10%": lambda im: ImageEnhance.Color(im).enhance(0.9),
    "hue +10 degrees": lambda im: turned(im, 10),
    "hue -10 degrees": lambda im: turned(im, -10),
    "all together": lambda im: encoded(
        turned(ImageEnhance.Brightness(cropped(im, 1, 1).resize((im.width // 2, im.height // 2))).enhance(1.1), 10), 50
    ),
}


def near_duplicates(model, images, gallery):
    """Share of the gallery photos that each kind of variant finds first."""
    return {
        name: float((np.argmax(model.embed(map(change, images)) @ gallery.T, 1) == np.arange(len(images))).mean())
        for name, change in VARIANTS.items()
    }


def milliseconds(model, batch, repeats=60):
    """Median time an image takes in a batch, preprocessing not counted."""
    pixels = np.random.default_rng(0).random((batch, 3, model.size, model.size), np.float32)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        model.run(pixels)
        times.append((time.perf_counter() - start) / batch * 1e3)
    return float(np.median(times))


def report(folder, data, resample="lanczos", fit=None, near=False, dims=None):
    model = Model(folder, resample, fit, dims)
    gallery, queries = listing(data, "gallery"), listing(data, "queries")
    photos = [Image.open(p).convert("RGB") for p, _ in gallery]
    g, q = model.embed(photos), model.embed(Image.open(p) for p, _ in queries)
    alone = np.concatenate([model.run(model.pixels(im)[None]) for im in photos[:16]])
    alone /= np.linalg.norm(alone, axis=1, keepdims=True)
    p1, p10, m10 = retrieval(g, [c for _, c in gallery], q, [c for _, c in queries])
    print(f"{folder}  fit={model.fit} {model.size}px resize={resample} dims={g.shape[1]}")
    print(f"  P@1 {p1:.3f}  P@10 {p10:.3f}  mAP@10 {m10:.3f}   ({len(q)} queries, {len(g)} in the gallery)")
    print(f"  {milliseconds(model, 1):.2f} ms an image alone, {milliseconds(model, 8):.2f} ms in a batch of 8, one thread")
    print(f"  {os.path.getsize(Path(folder, 'onnx', 'model.onnx')) / 1e6:.2f} MB; "
          f"alone against in a batch: {np.abs(alone - g[:16]).max():.1e} apart at most")
    if near:
        found = near_duplicates(model, photos, g)
        for name, share in found.items():
            print(f"  near-duplicate found first, {name:<20} {share:.4f}")
        kinds = [share for name, share in found.items() if name != "all together"]
        print(f"  near-duplicates found first, mean of the {len(kinds)} single changes {np.mean(kinds):.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="models/builtin")
    parser.add_argument("--data", required=True)
    parser.add_argument("--resample", default="lanczos", choices=FILTERS)
    parser.add_argument("--fit", choices=["pad", "crop", "stretch"])
    parser.add_argument("--near", action="store_true")
    parser.add_argument("--dims", help="FIRST:LAST, a part of the embedding alone")
    args = parser.parse_args()
    report(args.model, args.data, args.resample, args.fit, args.near, args.dims)
