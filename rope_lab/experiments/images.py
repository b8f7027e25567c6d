"""Handwritten digits, read at resolutions that a small vision transformer was not trained on.

The images are scikit-learn's digits, 8×8 pixels. A model cuts them into patches of 2×2 pixels, has no causal mask, and
is trained on random sections of the images, enlarged to 8×8 pixels, so that it meets strokes of many sizes. It is
tested on whole images at several resolutions, where patches keep their size and there are more or fewer of them.

The rule for the learning rates, fixed before the runs: each encoding is trained with the same rates times 0.25, 0.5, 1
and 2; the factor with the lowest mean loss on images kept for that choice is the encoding's own. Results are read on
others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rope_lab.config import RoFormerConfig
from rope_lab.encodings import (
    NoPE,
    PositionEncoding,
    RotaryEmbeddingND,
    axial_frequencies,
    golden_frequencies,
    grid_coordinates,
    mixed_frequencies,
    sinusoidal,
)
from rope_lab.experiments.lab import Experiment, Lab, Scale
from rope_lab.experiments.seeds import shown
from rope_lab.experiments.store import Results
from rope_lab.model import Block
from rope_lab.training import Stopped, TrainConfig, make_optimizers, seeded, set_learning_rates

SIDE, PATCH = 8, 2  # pixels of an image in training, and of a patch
CELLS = SIDE // PATCH
SIZES = (6, 8, 10, 12, 16)  # pixels of an image in the tests
TRAIN, CHOOSE = 1_000, 300  # images for training and for the choice of rates; the others are the test
SMALLEST = 0.5  # side of the smallest section that is trained on, as a fraction of the image
GRID = (0.25, 0.5, 1.0, 2.0)
STEPS = {"smoke": 2, "cpu": 500, "gpu": 2_000}
DIM, DEPTH, HEADS, BATCH = 64, 2, 4, 50
LEARNING = {"lr": 0.005, "matrix_lr": 0.015}
HEAD = DIM // HEADS

ROTARY: dict[str, Callable[[], Tensor]] = {
    "axial": lambda: axial_frequencies(HEAD, 2),
    "axial, base 10": lambda: axial_frequencies(HEAD, 2, 10.0),  # the spectrum of mixed
    "mixed": lambda: mixed_frequencies(HEAD, HEADS),
    "golden ratio": lambda: golden_frequencies(HEAD, heads=HEADS),
}
ENCODINGS = ("no position", "learned", "sinusoidal", *ROTARY)


class Digits(NamedTuple):
    """Images (N, 8, 8) from 0 to 1, and which digit each shows, (N,)."""

    images: Tensor
    labels: Tensor

    def part(self, first: int, last: int | None) -> Digits:
        return Digits(self.images[first:last], self.labels[first:last])


@cache
def digits() -> Digits:
    """The 1,797 digits of scikit-learn, in an order that was drawn once.

    Raises:
        ModuleNotFoundError: without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        message = "the digits come with scikit-learn: pip install scikit-learn"
        raise ModuleNotFoundError(message, name="sklearn") from error
    found = load_digits()
    order = torch.randperm(len(found.images), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(found.images).float() / 16
    return Digits(images[order], torch.from_numpy(found.target)[order])


def resized(images: Tensor, size: int) -> Tensor:
    """The same images with `size`×`size` pixels, (N, size, size); pixels are squares that fill the image."""
    if size == images.shape[-1]:
        return images
    return F.interpolate(images[:, None], (size, size), mode="bilinear", antialias=True)[:, 0]


def sections(images: Tensor) -> Tensor:
    """A random square section of each image, at least half as wide, enlarged to the size of the image."""
    count, device = len(images), images.device
    side = SMALLEST + (1 - SMALLEST) * torch.rand(count, 1, device=device)
    centre = (2 * torch.rand(count, 2, device=device) - 1) * (1 - side)
    to_image = torch.cat((torch.diag_embed(side.expand(count, 2)), centre[..., None]), dim=-1)
    where = F.affine_grid(to_image, [count, 1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images[:, None], where, padding_mode="border", align_corners=False)[:, 0]


def places(size: int, *, scaled: bool) -> Tensor:
    """Coordinates of the patches of an image with `size`×`size` pixels, (N, 2), rows first.

    Patches are counted from 0 as in training. If `scaled`, they are measured in patches of training instead: a patch
    has the coordinates of its centre in an image of the trained resolution.
    """
    cells = size // PATCH
    index = grid_coordinates(cells, cells)
    return (index + 0.5) * (CELLS / cells) - 0.5 if scaled else index


class OnGrid(PositionEncoding):
    """Rotates the tokens of an image by coordinates that the model sets before each pass."""

    coordinates: Tensor

    def __init__(self, rope: RotaryEmbeddingND) -> None:
        super().__init__()
        self.rope = rope

    @property
    def reach(self) -> int:
        return self.rope.reach

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        return (*self.rope(q, k, coordinates=self.coordinates), v)


class VisionTransformer(nn.Module):
    """Images (B, n, n) in, logits of the ten digits (B, 10) out: blocks without a causal mask, and a mean at the end.

    Args:
        encoding: one of `ENCODINGS`. Learned and sinusoidal vectors are added to the patches; a learned table is read
            between its rows where a coordinate is not whole, and at its edge beyond it.
    """

    def __init__(self, encoding: str) -> None:
        super().__init__()
        config = RoFormerConfig(
            10, dim=DIM, depth=DEPTH, heads=HEADS, position="none", causal=False, qk_gain=True
        )
        self.encoding = encoding
        self.patch = nn.Linear(PATCH**2, DIM)
        self.table = nn.Parameter(0.02 * torch.randn(1, DIM, CELLS, CELLS)) if encoding == "learned" else None
        self.grids = [self._grid() for _ in range(DEPTH)] if encoding in ROTARY else []
        inside: list[PositionEncoding] = [*self.grids] or [NoPE()] * DEPTH
        self.blocks = nn.ModuleList(Block(config, layer, inside[layer]) for layer in range(DEPTH))
        self.norm = nn.RMSNorm(DIM)
        self.head = nn.Linear(DIM, 10)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    def _grid(self) -> OnGrid:
        return OnGrid(RotaryEmbeddingND(ROTARY[self.encoding](), learned=self.encoding == "mixed"))

    __call__: Callable[..., Tensor]

    def forward(self, images: Tensor, coordinates: Tensor) -> Tensor:
        x = self.patch(F.unfold(images[:, None], PATCH, stride=PATCH).mT)  # (B, N, C)
        if self.table is not None:
            where = (coordinates.to(x).flip(-1) + 0.5) * (2 / CELLS) - 1  # (N, 2), x first, from −1 to 1
            read = F.grid_sample(self.table, where[None, None], padding_mode="border", align_corners=False)
            x = x + read[0, :, 0].T
        if self.encoding == "sinusoidal":
            rows, columns = (sinusoidal(along, DIM // 2) for along in coordinates.unbind(-1))
            x = x + torch.cat((rows, columns), dim=-1).to(x)
        for grid in self.grids:
            grid.coordinates = coordinates
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def trained(encoding: str, factor: float, seed: int, steps: int) -> tuple[VisionTransformer, float]:
    """A model trained with `factor` times the rates, and the mean loss of its last 20 updates.

    Raises:
        Stopped: if a loss is not finite.
    """
    rates = TrainConfig(
        steps=steps,
        seed=seed,
        lr=factor * LEARNING["lr"],
        matrix_lr=factor * LEARNING["matrix_lr"],
    )
    images, labels = digits().part(0, TRAIN)
    where, losses = places(SIDE, scaled=False), []
    with seeded(seed):
        model = VisionTransformer(encoding)
        optimizers = make_optimizers(model, rates)
        for step in range(steps):
            set_learning_rates(optimizers, rates, step)
            chosen = torch.randint(TRAIN, (BATCH,))
            loss = F.cross_entropy(model(sections(images[chosen]), where), labels[chosen])
            if not loss.isfinite():
                raise Stopped(f"the loss is {loss.item()} at step {step + 1} of {encoding}, seed {seed}")
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
    last = losses[-20:]
    return model.eval(), sum(last) / len(last)


@torch.inference_mode()
def tested(model: VisionTransformer, data: Digits, size: int, *, scaled: bool) -> tuple[float, float]:
    """Fraction of the images that a model reads correctly at a resolution, and its loss."""
    logits = model(resized(data.images, size), places(size, scaled=scaled))
    correct = (logits.argmax(-1) == data.labels).double().mean().item()
    return correct, F.cross_entropy(logits, data.labels).item()


def measure(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Train an encoding with a factor, and test it at every resolution with patches counted and with scaled ones."""
    encoding, factor = variant.rsplit(" ×", 1)
    model, train_loss = trained(encoding, float(factor), seed, STEPS[lab.scale.name])
    last = TRAIN + CHOOSE + 10 if lab.scale.name == "smoke" else None
    kept, test = digits().part(TRAIN, TRAIN + CHOOSE), digits().part(TRAIN + CHOOSE, last)
    val_accuracy, val_loss = tested(model, kept, SIDE, scaled=False)
    return {
        "train_loss": train_loss,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "sizes": list(SIZES),
        "counted": [tested(model, test, size, scaled=False)[0] for size in SIZES],
        "scaled": [tested(model, test, size, scaled=True)[0] for size in SIZES],
    }


def chosen(results: Results, encoding: str) -> str:
    """The variant of an encoding whose mean loss on the images kept for the choice is lowest."""
    names = [_name(encoding, factor) for factor in GRID]

    def loss(name: str) -> float:
        values = results.values(name, "val_loss")
        return sum(values) / len(values) if values else float("inf")

    return min(names, key=loss)


def accuracies(results: Results, encoding: str, size: int, *, scaled: bool) -> list[float]:
    """Fraction of correct answers of each seed at a resolution, with the encoding's own rates."""
    return results.values(chosen(results, encoding), "scaled" if scaled else "counted", SIZES.index(size))


def table(results: Results) -> str:
    """Fraction of correct answers at the trained resolution and at 1.5 times it, by encoding."""
    heads = ("rates ×", "as trained", "1.5×, counted", "1.5×, scaled")
    lines = [f"{'':16s}{heads[0]:>9s}" + "".join(f"{head:>17s}" for head in heads[1:])]
    for encoding in ENCODINGS:
        cells = [
            accuracies(results, encoding, size, scaled=scaled)
            for size, scaled in ((SIDE, False), (12, False), (12, True))
        ]
        if all(cells):
            factor = chosen(results, encoding).rpartition("×")[2]
            lines.append(f"{encoding:16s}{factor:>9s}" + "".join(f"{shown(cell):>17s}" for cell in cells))
    return "\n".join(lines)


def _name(encoding: str, factor: float) -> str:
    return f"{encoding} ×{factor:g}"


def _variants(scale: Scale) -> list[str]:
    return [_name(encoding, factor) for encoding in ENCODINGS for factor in GRID]


def _kept(record: dict[str, Any]) -> dict[str, Any]:
    return {"val_accuracy": record["val_accuracy"], "scaled": record["scaled"][1:4]}


EXPERIMENTS = {
    "images": Experiment(
        "Which positions let a model read digits at a resolution it was not trained on?",
        _variants,
        measure,
        table,
        kept=_kept,  # another processor rounds otherwise, and an image more or less is then read correctly
        tolerance=0.05,
    ),
}
