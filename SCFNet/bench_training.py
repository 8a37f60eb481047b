"""Speed of training on one core: the SP loss, loading, and a whole step, beside the obvious way."""

import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets.augment import RELEASE
from datasets.images import MEAN, STD
from datasets.loader import Recipe as LoadRecipe
from datasets.loader import load_batch
from datasets.sod import Sample, list_pairs
from SCFNet.device import paddle, set_device
from SCFNet.engine import new_run, train_step
from SCFNet.loss import dice_loss, fs_loss, weighted_sum
from SCFNet.recipe import Recipe

Tensor = paddle.Tensor
functional = paddle.nn.functional

BATCH = 8
LOSS_SIDE, STEP_SIDE, K = 224, 288, 13
PHOTO = (300, 400)  # height and width of most of DUTS-TR
JPEG_QUALITY = 86  # gives DUTS-TR's 25 KB a photo


def compare(rounds: int) -> List[Dict[str, object]]:
    """A row per part of training: ms an image of the obvious way, of ours, and their ratio.

    The two ways take turns, `rounds` times; the numbers are medians of the time on a CPU's core.
    """
    set_device("cpu")
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        samples = write_photos(Path(folder))
        ways = {
            f"training step, {STEP_SIDE} px": training_steps(samples),
            f"SP loss, k = {K}, {LOSS_SIDE} px, four maps": sp_losses(),
            "load and augment a pair of 400x300": loaders(samples),
        }
        names = ("network alone", "square pools, mask's boundary four times", "floats throughout")
        rows = []
        for (part, (obvious, ours)), name in zip(tqdm(ways.items(), disable=None), names):
            slow, fast = alternate(obvious, ours, rounds)
            rows.append(
                {
                    "part": part,
                    "compared with": name,
                    "its ms an image": 1000 * slow / BATCH,
                    "ours": 1000 * fast / BATCH,
                    "ours / its": fast / slow,
                }
            )
    cv2.setNumThreads(threads)
    return rows


def alternate(
    first: Callable[[], object], second: Callable[[], object], rounds: int
) -> Tuple[float, float]:
    """Median seconds of computing of both calls, which take turns, after one call of each."""
    times = []
    for _ in range(rounds + 1):
        start = time.process_time()
        first()
        middle = time.process_time()
        second()
        times.append((middle - start, time.process_time() - middle))
    return tuple(np.median(times[1:], axis=0))


def sp_losses() -> Tuple[Callable[[], object], Callable[[], object]]:
    """The SP loss of four maps [8, 1, 224, 224], forward and backward: obvious way, and ours."""
    mask = paddle.to_tensor(ellipses(LOSS_SIDE))
    rng = np.random.default_rng(0)
    maps = []
    for level in range(4):
        side = LOSS_SIDE >> (level + 2)
        noise = paddle.to_tensor(rng.standard_normal((BATCH, 1, side, side), "float32"))
        logits = functional.interpolate(noise, size=mask.shape[2:], mode="bilinear")
        maps.append((2 * logits + 4 * (mask - 0.5)).detach())
        maps[-1].stop_gradient = False

    def run(loss: Callable[..., Tensor]) -> None:
        loss(maps, mask, K).backward()
        for logits in maps:
            logits.clear_gradient()

    return lambda: run(obvious_fs_loss), lambda: run(fs_loss)


def obvious_fs_loss(maps: Sequence[Tensor], mask: Tensor, k: int) -> Tensor:
    """`fs_loss` as its definition reads: square pools, and the mask's boundary for each map."""

    def boundary(x: Tensor) -> Tensor:
        edge = functional.max_pool2d(1 - x, 3, stride=1, padding=1) - (1 - x)
        return functional.max_pool2d(edge, k, stride=1, padding=k // 2)

    def boundary_dice(logits: Tensor) -> Tensor:
        p, g = boundary(functional.sigmoid(logits)), boundary(mask)
        overlap, total = (p * g).sum(axis=(2, 3)), (p + g).sum(axis=(2, 3))
        return (1 - (1 + 2 * overlap) / (1 + total)).mean()

    return weighted_sum([dice_loss(logits, mask) + boundary_dice(logits) for logits in maps])


def loaders(samples: Sequence[Sample]) -> Tuple[Callable[[], object], Callable[[], object]]:
    """A batch of 8 at 288 px: in floats from the first step, and ours."""
    indices = range(BATCH)
    recipe = LoadRecipe(samples, RELEASE, seed=0, epoch=0)
    return (
        lambda: obvious_batch([samples[i] for i in indices]),
        lambda: load_batch(recipe, indices, STEP_SIDE),
    )


def obvious_batch(samples: Sequence[Sample]) -> Tuple[np.ndarray, np.ndarray]:
    """What `load_batch` returns, by the release's steps in the release's order and types: floats,
    masks of three channels, everything on whole arrays."""
    rng = np.random.default_rng(0)
    images, masks = [], []
    for sample in samples:
        image = cv2.imread(str(sample.image))[:, :, ::-1].astype(np.float32)
        mask = cv2.imread(str(sample.mask))[:, :, ::-1].astype(np.float32)
        if rng.random() < 0.1:
            size = int(rng.integers(3, 10)) | 1
            image = cv2.GaussianBlur(image, (size, size), 0)
        image = np.clip(rng.uniform(0.5, 1.5, 1) * image + rng.integers(-15, 15), 0, 255)
        image = (image - MEAN.astype(float)) / STD.astype(float)
        mask = mask / 255
        height, width = mask.shape[:2]
        cut_y, cut_x = rng.integers(height // 8), rng.integers(width // 8)
        top, left = rng.integers(cut_y + 1), rng.integers(cut_x + 1)
        window = np.s_[top : top + height - cut_y, left : left + width - cut_x]
        image, mask = image[window], mask[window]
        for axis, chance in ((1, 0.5), (0, 0.2)):
            if rng.random() < chance:
                image, mask = np.flip(image, axis).copy(), np.flip(mask, axis).copy()
        images.append(cv2.resize(image, (STEP_SIDE, STEP_SIDE)))
        masks.append(cv2.resize(mask, (STEP_SIDE, STEP_SIDE)))
    image_batch = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)
    mask_batch = np.stack(masks).transpose(0, 3, 1, 2).mean(axis=1, keepdims=True)
    return image_batch, mask_batch.astype(np.float32)


def training_steps(samples: Sequence[Sample]) -> Tuple[Callable[[], object], Callable[[], object]]:
    """A step of M3_0.5 on 8 images: forward, backward and update alone, and loading, SP loss and
    all that the training loop does in a step."""
    recipe = Recipe(pretrained="none", batch_size=BATCH)
    run = new_run(recipe)
    load_recipe = LoadRecipe(samples, RELEASE, seed=0, epoch=0)
    fixed = paddle.to_tensor(load_batch(load_recipe, range(BATCH), STEP_SIDE)[0])

    def network_alone() -> None:
        sum(logits.mean() for logits in run.net(fixed)).backward()
        run.optimizer.step()
        run.optimizer.clear_grad()

    def whole() -> None:
        images, masks = load_batch(load_recipe, range(BATCH), STEP_SIDE)
        images, masks = paddle.to_tensor(images), paddle.to_tensor(masks)
        train_step(run, recipe, images, masks, rate=1e-3, kernel=K)

    run.optimizer.set_lr(1e-3)
    return network_alone, whole


def write_photos(folder: Path) -> List[Sample]:
    """Eight pairs of DUTS-TR's usual size, made of scikit-image's photos."""
    from skimage import data

    sources = (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())
    masks = ellipses(*PHOTO)
    for name in ("image", "mask"):
        (folder / name).mkdir()
    for i in range(BATCH):
        source = sources[i % len(sources)][:, :: -1 if i >= len(sources) else 1]
        photo = Image.fromarray(cv2.resize(source, PHOTO[::-1]))
        photo.save(folder / "image" / f"{i}.jpg", quality=JPEG_QUALITY)
        Image.fromarray(masks[i, 0] > 0).save(folder / "mask" / f"{i}.png")
    return list_pairs(folder)


def ellipses(height: int, width: int = 0) -> np.ndarray:
    """Eight masks, float32 [8, 1, H, W], H = W where W is 0."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : (width or height) * 1j]
    found = [(y - i / 20) ** 2 / 0.4 + x**2 / (0.2 + i / 20) < 1 for i in range(BATCH)]
    return np.stack(found)[:, None].astype("float32")
