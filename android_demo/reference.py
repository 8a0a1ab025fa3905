#!/usr/bin/env python3
"""What Python says, for the app's tests on the JVM; and whether Python reads what the app measured.

python android_demo/reference.py write FOLDER        # answers to the app's own images, rules and pictures
python android_demo/reference.py read BENCHMARK.json
"""

from pathlib import Path

import ai_edge_litert
import click
import numpy as np
from PIL import Image

from rdi_tf.calibration_source import image_digest
from rdi_tf.errors import RDIError
from rdi_tf.export.bundle import Bundle
from rdi_tf.export.runner import StageChain
from rdi_tf.latency import LatencyResult
from rdi_tf.policies import POLICIES, decide

ASSETS = Path(__file__).parent / "app" / "src" / "main" / "assets"
SEED = 0
PICTURES = {"shrunk": (113, 90, 28, 28), "grown": (9, 14, 28, 28), "same": (28, 28, 28, 28), "wide": (300, 40, 32, 20)}


@click.group()
def main():
    """Python's side of the app's tests."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
def write(folder):
    """Write the answers into FOLDER, and the path of LiteRT's library to litert.txt there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "litert.txt").write_text(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"), encoding="utf-8")
    with np.load(ASSETS / "samples" / "samples.npz") as samples:
        images = np.concatenate([samples[name] for name in ("clean", "adversarial", "slowdown")])
    images = images.astype(np.float32) / np.float32(255)
    for path in sorted((ASSETS / "bundles").iterdir()):
        np.savez(folder / f"{path.name}.npz", **_answers(Bundle.open(path), images))
    np.savez(folder / "policies.npz", **_policies())
    np.savez(folder / "pictures.npz", **_pictures())


def _answers(bundle, images):
    """Logits of every exit on every image, one at a time as the app runs them, and where each leaves."""
    manifest = bundle.manifest
    chain = StageChain(bundle.path, manifest.stages)
    logits = np.concatenate([chain.exit_logits(image[None]) for image in images])
    return {"exit_logits": logits, **_decision(manifest.policy.name, logits, manifest.policy.thresholds)}


def _decision(policy, logits, thresholds):
    decision = decide(POLICIES[policy], logits, thresholds)
    return {"exits": decision.exits, "predictions": decision.predictions, "scores": decision.scores}


def _policies():
    """Every exit rule on random logits of four exits, with thresholds at the middle of its scores."""
    logits = np.random.default_rng(SEED).normal(0, 3, (300, 4, 5)).astype(np.float32)
    arrays = {"exit_logits": logits}
    for name, policy in POLICIES.items():
        thresholds = np.median(policy.scores(logits), axis=0)[:-1] + 1e-9
        arrays[f"{name}_thresholds"] = thresholds
        arrays |= {f"{name}_{key}": values for key, values in _decision(name, logits, thresholds).items()}
    return arrays


def _pictures():
    """Random pictures, and how Pillow brings them to another size, in grey and in colour."""
    rng, arrays = np.random.default_rng(SEED), {}
    for name, (width, height, new_width, new_height) in PICTURES.items():
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        picture, size = Image.fromarray(pixels), (new_width, new_height)
        arrays[name] = pixels
        for mode, channels in (("L", 1), ("RGB", 3)):
            resized = picture.convert(mode).resize(size, Image.Resampling.BILINEAR)
            arrays[f"{name}_{channels}"] = np.asarray(resized).reshape(new_height, new_width, channels)
    return arrays


@main.command()
@click.argument("benchmark", type=click.Path(path_type=Path))
def read(benchmark):
    """Read what the app's benchmark wrote; what rdi-tf cannot read is an error."""
    try:
        result = LatencyResult.load(benchmark)
    except RDIError as error:
        raise click.ClickException(str(error)) from error
    bundle = Bundle.open(ASSETS / "bundles" / result.dtype)
    if result.bundle_sha256 != bundle.sha256 or result.images.sha256 not in _digests(bundle, result.images.count):
        raise click.ClickException(f"{benchmark}: not of the app's bundle, or not of its images")
    saving = result.summary()["macs_saving"]
    click.echo(
        f"{result.name} {result.dtype}: {result.images.count} images, {saving:.1%} of the multiply-adds saved, "
        f"{result.mix.latency.median:.3f} ms (median)"
    )


def _digests(bundle, count):
    """Digests of the first images of each set that the app can measure on."""
    with np.load(ASSETS / "samples" / "samples.npz") as samples:
        sets = [samples[name] / np.float32(255) for name in ("clean", "adversarial", "slowdown")]
    return [image_digest(images[:count]) for images in (bundle.golden().images, *sets)]


if __name__ == "__main__":
    main()
