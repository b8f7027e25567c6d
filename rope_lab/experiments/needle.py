"""A needle in a text: which models find one letter behind a rare sign, how far back, and in longer texts than trained.

    … my sea sha$bl suck them dry, and 3kell so … another sign is &

The needle is the letter behind the first of three rare signs, the decoy one behind the second, and the third sign asks:
what comes after it is to be the needle's letter. Text, signs and answers are learned together, first on short segments
and then on longer ones.
"""

from __future__ import annotations

import dataclasses
import string
import time
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.experiments.lab import Experiment, Lab, Scale
from rope_lab.experiments.seeds import shown
from rope_lab.experiments.store import Results
from rope_lab.local import LocalConfig, LocalTransformer
from rope_lab.model import RoFormer
from rope_lab.training import (
    Corpus,
    Stopped,
    choose_device,
    make_optimizers,
    seeded,
    set_learning_rates,
    token_losses,
)

UPDATES = {"smoke": 4, "cpu": 300, "gpu": 2_000}
STAGES = 4  # of training: each twice as long as the one before, the last is the trained length
ASKS = 8  # per segment of training; in a test one, at the end
DISTANCES = (0.125, 0.5, 0.875, 1.5, 2.5, 3.875, 6.0, 7.75)  # from the letter to the question, in windows
FEWER = (0.5, 3.875, 7.75, 15.5, 31.0)  # those tried in longer texts
WINDOWS = 8  # of them in a trained length
ROWS = {1: 32, 2: 16, 4: 16}  # texts per distance, by their length in trained lengths

FULL, WINDOW, MIXED = "full attention", "window in all layers", "window, last layer global"
NO_POSITIONS = ", that one without positions"
VARIANTS = (FULL, f"{FULL}, last layer without positions", WINDOW, MIXED, MIXED + NO_POSITIONS)


class Signs(NamedTuple):
    """Ids of the three signs, and of the letters that may be behind the first two."""

    needle: int
    ask: int
    decoy: int
    letters: Tensor

    @classmethod
    def of(cls, corpus: Corpus) -> Signs:
        """The three rarest characters of a text, the rarest first, and its other small letters.

        Raises:
            ValueError: if fewer than two small letters are left.
        """
        counts = corpus.encode(corpus.text).bincount(minlength=len(corpus.vocab))
        rare = counts.argsort(stable=True)[:3].tolist()
        small = [i for i, character in enumerate(corpus.vocab) if character in string.ascii_lowercase]
        letters = [i for i in small if i not in rare]
        if len(letters) < 2:
            raise ValueError(f"corpus must have two of the letters a to z or more, got {corpus.vocab!r}")
        needle, ask, decoy = rare
        return cls(needle, ask, decoy, torch.tensor(letters))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Two different letters for each of `count` rows, (count, 2)."""
        order = torch.rand(count, len(self.letters), generator=generator).argsort(1)
        return self.letters[order[:, :2]]


class Rows(NamedTuple):
    """Planted texts: ids and the next characters, (B, N), where is asked, and the needle's letter, (B,)."""

    ids: Tensor
    targets: Tensor
    asked: Tensor
    letter: Tensor


def segments(ids: Tensor, count: int, length: int, generator: torch.Generator) -> Tensor:
    """Random segments of a text, (count, length + 1)."""
    starts = torch.randint(len(ids) - length, (count,), generator=generator)
    return ids[starts[:, None] + torch.arange(length + 1)]


def practice(text: Tensor, signs: Signs, generator: torch.Generator) -> Rows:
    """Rows of training: a needle and a decoy anywhere, and questions anywhere after the needle.

    The answer does not follow the question in the text: the text goes on as if nothing had been asked.

    Args:
        text: (B, N + 1).
        signs: of its corpus.
        generator: draws places and letters.
    """
    ids, targets = text[:, :-1].clone(), text[:, 1:].clone()
    asked = torch.zeros_like(ids, dtype=torch.bool)
    length, letters = ids.shape[1], signs.draw(len(text), generator)
    for row, (letter, other) in enumerate(letters.tolist()):
        at = int(torch.randint(length - ASKS, (), generator=generator))
        decoy = int(torch.randint(length - 2, (), generator=generator))
        if abs(decoy - at) > 1:
            ids[row, decoy : decoy + 2] = torch.tensor([signs.decoy, other])
        ids[row, at : at + 2] = torch.tensor([signs.needle, letter])
        places = torch.randint(at + 2, length, (ASKS,), generator=generator)
        places = places[(places - decoy).abs() > 1]
        ids[row, places], targets[row, places], asked[row, places] = signs.ask, letter, True
    return Rows(ids, targets, asked, letters[:, 0])


def hidden(
    text: Tensor, signs: Signs, distance: int, generator: torch.Generator, sign: int | None = -1
) -> Rows:
    """Rows of a test: the letter `distance` before the one question, which is the last character.

    Args:
        text, signs, generator: as `practice`.
        distance: in characters.
        sign: before the letter, by default the needle's; None leaves sign and letter out.
    """
    ids, targets = text[:, :-1].clone(), text[:, 1:].clone()
    length, letters = ids.shape[1], signs.draw(len(text), generator)
    at = length - 2 - distance
    for row, (letter, other) in enumerate(letters.tolist()):
        place = int(torch.randint(length - 4, (), generator=generator))
        place += 3 * (abs(place - at) < 2)
        ids[row, place : place + 2] = torch.tensor([signs.decoy, other])
        if sign is not None:
            ids[row, at : at + 2] = torch.tensor([signs.needle if sign < 0 else sign, letter])
    ids[:, -1], targets[:, -1] = signs.ask, letters[:, 0]
    asked = torch.zeros_like(ids, dtype=torch.bool)
    asked[:, -1] = True
    return Rows(ids, targets, asked, letters[:, 0])


def model_for(lab: Lab, variant: str, seed: int) -> LocalTransformer:
    """The model of the scale for four times its context: global layers, and a window in the others."""
    config = lab.config(seed)
    depth, context = config.model["depth"], 4 * config.model["context"]
    layers = {FULL: depth, MIXED: 1}
    shape = config.model | {
        "context": context,
        "window": context // WINDOWS,
        "global_layers": next((n for name, n in layers.items() if variant.startswith(name)), 0),
        "nope_every": depth if variant.endswith("positions") else None,
    }
    return LocalTransformer(LocalConfig(len(lab.corpus.vocab), **shape))


def measure(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Train on text with needles; then how often the answer is the needle's letter, by distance and length."""
    steps, device, signs = UPDATES[lab.scale.name], choose_device(lab.device), Signs.of(lab.corpus)
    config = lab.config(seed, steps=steps)
    ids = lab.corpus.encode(lab.corpus.train)
    began = time.process_time()
    with seeded(seed):
        model = model_for(lab, variant, seed).to(device)
        context, optimizers = model.config.context, make_optimizers(model, config)
        generator = torch.Generator().manual_seed(seed)
        learned = []  # fraction of the answers that are right, by update
        for step in range(steps):
            set_learning_rates(optimizers, config, step)
            length = context >> (STAGES - 1 - step * STAGES // steps)
            count = config.batch * config.model["context"] // length
            rows = practice(segments(ids, count, length, generator), signs, generator)
            logits, targets, asked = (
                model(rows.ids.to(device)),
                rows.targets.to(device),
                rows.asked.to(device),
            )
            losses = F.cross_entropy(logits.mT, targets, reduction="none")
            loss = losses[asked].mean() + losses[~asked].mean()
            if not loss.isfinite():
                raise Stopped(f"the loss is {loss.item()} at step {step + 1} of {variant}, seed {seed}")
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            learned.append((logits.argmax(-1) == targets)[asked].double().mean().item())
    trained = time.process_time() - began
    model.eval()
    numbers = {
        "steps": steps,
        "context": context,
        "window": model.config.window,
        "val_loss": token_losses(model, lab.held_out[: lab.scale.characters + 1], context, batch=4)
        .mean()
        .item(),
        "learned": [sum(part) / len(part) for part in _parts(learned, 4 * STAGES)],
        "processor_seconds": trained,
    }
    if variant.startswith(FULL):
        narrow = with_windows(model, context)
        numbers["windowed"] = by_distance(narrow, lab.held_out, signs, seed, max(ROWS))[1]
    return numbers | tested(model, lab.held_out, signs, seed) | packed(model, lab.held_out, signs, seed)


def with_windows(model: LocalTransformer, window: int) -> LocalTransformer:
    """A copy whose layers below the last see a window."""
    copy = LocalTransformer(dataclasses.replace(model.config, window=window, global_layers=1))
    copy.load_parameters({name: p.detach() for name, p in model.named_parameters()})
    return copy.to(model.embedding.weight.device).eval()


def _parts(values: list[float], count: int) -> list[list[float]]:
    edges = [len(values) * i // count for i in range(count + 1)]
    return [values[a:b] for a, b in pairwise(edges) if b > a]


@torch.inference_mode()
def answers(model: RoFormer, ids: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """The likeliest answer at the end of each row, (B,), and the log-probabilities of all characters there, (B, V)."""
    device = model.embedding.weight.device
    batch = max(1, 4096 // ids.shape[1])
    parts = []
    for first in range(0, len(ids), batch):
        given = {
            name: x.to(device).expand(len(ids), -1)[first : first + batch] for name, x in options.items()
        }
        parts.append(model(ids[first : first + batch].to(device), **given)[:, -1].log_softmax(-1).cpu())
    found = torch.cat(parts)
    return found.argmax(-1), found


def by_distance(
    model: LocalTransformer, ids: Tensor, signs: Signs, seed: int, times: int
) -> tuple[list[int], list[float], list[float], dict[str, list[float]]]:
    """Distances, how often the answer is right, its loss, and two controls, in texts of `times` the trained length.

    The controls are a quarter of the same texts, and only of the trained length: the letter and its sign are not there
    (absent), or the sign is that of the decoy (other). The fraction says how often the answer is that letter all the
    same.
    """
    context = model.config.context
    length, window = times * context, context // WINDOWS
    far = [int(d * window) for d in (DISTANCES if times == 1 else FEWER) if d * window < length - 2]
    right, losses = [], []
    controls: dict[str, list[float]] = {"absent": [], "other": []}
    for distance in far:
        generator = torch.Generator().manual_seed(1_000 * seed + distance)
        text, state = segments(ids, ROWS[times], length, generator), generator.get_state()
        planted = hidden(text, signs, distance, generator)
        answer, log = answers(model, planted.ids)
        right.append((answer == planted.letter).double().mean().item())
        losses.append(-log.gather(1, planted.letter[:, None]).mean().item())
        for name, sign in (("absent", None), ("other", signs.decoy)) if times == 1 else ():
            generator.set_state(state)
            without = hidden(text, signs, distance, generator, sign)
            answer, _ = answers(model, without.ids[::4])
            controls[name].append((answer == without.letter[::4]).double().mean().item())
    return far, right, losses, controls


def tested(model: LocalTransformer, ids: Tensor, signs: Signs, seed: int) -> dict[str, Any]:
    """What `by_distance` finds at every length, and the controls at the trained one."""
    numbers: dict[str, Any] = {"lengths": [], "distances": [], "right": [], "answer_loss": []}
    names = tuple(numbers)
    for times in ROWS:
        far, right, losses, controls = by_distance(model, ids, signs, seed, times)
        for name, found in zip(names, (times * model.config.context, far, right, losses), strict=True):
            numbers[name].append(found)
        if times == 1:
            numbers |= controls
    return numbers


def packed(model: RoFormer, ids: Tensor, signs: Signs, seed: int) -> dict[str, Any]:
    """Two texts in one row, each with a needle of its own, and the question at the end of the second.

    How often the answer is the letter of the question's own text and how often that of the other text, with no mask,
    with the mask and positions that run on, and with the mask and positions that start again. In `stray` the second
    text has no needle.
    """
    half, count = model.config.context // 2, ROWS[1]
    generator = torch.Generator().manual_seed(seed)
    first = hidden(segments(ids, count, half, generator), signs, half // 2, generator)
    second = []
    for sign in (-1, None):
        again = torch.Generator().manual_seed(seed + 500)
        second.append(hidden(segments(ids, count, half, again), signs, half // 8, again, sign))
    first.ids[:, -1] = ids[0]  # no question in the first text
    document = torch.arange(2).repeat_interleave(half)[None]
    ways: dict[str, dict[str, Tensor]] = {
        "no mask": {},
        "mask": {"segments": document},
        "mask, positions from 0": {"segments": document, "positions": torch.arange(half).repeat(2)[None]},
    }
    numbers: dict[str, Any] = {"ways": list(ways), "own": [], "others": [], "stray": []}
    for options in ways.values():
        for rows, keys in zip(second, (("own", "others"), ("", "stray")), strict=True):
            answer, _ = answers(model, torch.cat((first.ids, rows.ids), dim=1), **options)
            for key, letter in zip(keys, (rows.letter, first.letter), strict=True):
                if key:
                    numbers[key].append((answer == letter).double().mean().item())
    return {"packed": numbers}


def table(results: Results) -> str:
    """Loss of the text, and the fraction of right answers at the trained length by distance, then in longer texts."""
    one = results.records[0]
    lines = []
    for at_length, (length, far) in enumerate(zip(one["lengths"], one["distances"], strict=True)):
        title = f"in {length:,d} characters, needle back"
        lines.append(f"{title:48s}" + "".join(f"{d:>14,d}" for d in far))
        for name in results.variants():
            cells = [shown(results.values(name, "right", at_length, i), 2) for i in range(len(far))]
            lines.append(f"{name:48s}" + "".join(f"{cell:>14s}" for cell in cells))
    return "\n".join(lines)


def kept(numbers: dict[str, Any]) -> dict[str, Any]:
    """What a second run gives again: fractions over all distances; single ones hang on the last bits."""
    found = {
        str(length): sum(row) / len(row)
        for length, row in zip(numbers["lengths"], numbers["right"], strict=True)
    }
    return found | {"val_loss": numbers["val_loss"]}


def _variants(scale: Scale) -> list[str]:
    return list(VARIANTS)


EXPERIMENTS = {
    "needle": Experiment(
        "Which models find a letter planted far back, and in longer texts than they were trained on?",
        _variants, measure, table, kept=kept, tolerance=0.1,
    ),
}  # fmt: skip
