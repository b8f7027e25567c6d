"""How sharply heads attend as a text grows, which frequencies they use, and the base that suits a dependency."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.config import RoFormerConfig
from rope_lab.experiments.extending import Sharpened, extended
from rope_lab.experiments.heads import Listening
from rope_lab.experiments.lab import Experiment, Lab, Scale
from rope_lab.experiments.looking import keys_attended
from rope_lab.experiments.rates import KINDS, STEPS, configured
from rope_lab.experiments.seeds import shown
from rope_lab.experiments.store import Results
from rope_lab.model import RoFormer
from rope_lab.training import (
    TrainConfig,
    choose_device,
    make_optimizers,
    seeded,
    set_learning_rates,
    token_losses,
)

MULTIPLES = (1, 2, 4, 8)  # of the trained length
BANDS = 4
AGES = ("untrained", "short", "long")

WIDTHS = (2, 8, 32, 96)  # distances from a symbol to the one it repeats
BASES = (3, 10, 100, 1_000, 10_000, 100_000)
_SYMBOLS, _LENGTH, _BATCH = 16, 128, 16


def measure_sharpness(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Over how many keys the last queries of a segment spread their attention, and the loss, at growing lengths.

    Each for the unchanged model and with YaRN's attention factor alone.
    """
    config = configured(lab, KINDS[variant], seed, long_run=True)
    model = lab.trained(config)[0].model.eval()
    context = model.config.context
    ids = lab.held_out[: lab.scale.characters + 1]
    numbers: dict[str, Any] = {
        "lengths": [],
        "keys": [],
        "keys_sharpened": [],
        "loss": [],
        "loss_sharpened": [],
    }
    for times in MULTIPLES:
        length = times * context
        last = length - context // 4
        numbers["lengths"].append(length)
        rows = ids[: len(ids) // length * length].view(-1, length)[: max(1, 8 // times)]
        for key, method in (("", "none"), ("_sharpened", "attention factor alone")):
            longer = extended(model, method if times > 1 else Sharpened(1.0), times)
            numbers[f"keys{key}"].append(keys_attended(longer, rows, first=last).mean().item())
            losses = token_losses(longer, ids, length, batch=max(1, 4096 // length))
            numbers[f"loss{key}"].append(losses[:, last:].mean().item())
    return numbers


def table_of_sharpness(results: Results) -> str:
    """Keys attended to at each length, without and with the factor."""
    lengths = results.records[0]["lengths"]
    lines = [f"{'keys attended to at':44s}" + "".join(f"{length:>16,d}" for length in lengths)]
    for name in results.variants():
        for key, said in (("keys", name), ("keys_sharpened", f"{name}, attention factor")):
            columns = [results.values(name, key, i) for i in range(len(lengths))]
            lines.append(f"{said:44s}" + "".join(f"{shown(column, 1):>16s}" for column in columns))
    return "\n".join(lines)


@dataclass(frozen=True)
class Still:
    """A scaling that leaves out the rotation of some pairs, from `first` up to `last`."""

    first: int
    last: int

    def __call__(self, freqs: Tensor, length: int) -> tuple[Tensor, float]:
        kept = freqs.clone()
        kept[self.first : self.last] = 0
        return kept, 1.0


def bands(pairs: int) -> list[tuple[int, int]]:
    """The pairs from the fastest to the slowest in BANDS groups as equal as possible: first and last, exclusive."""
    edges = [round(pairs * i / BANDS) for i in range(BANDS + 1)]
    return list(pairwise(edges))


def measure_spectrum(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """What each band of frequencies is worth: the loss by place with its rotation left out, for a model of some age.

    Also the mean squared coordinates of queries and keys in each pair, which bound what the pair adds to a score.
    """
    config = configured(lab, "RoPE", seed, long_run=variant == "long")
    if variant == "untrained":
        with seeded(seed):
            model = RoFormer(config.architecture(len(lab.corpus.vocab)))
    else:
        model = lab.trained(config)[0].model
    model.eval()
    context, pairs = model.config.context, model.config.dim // model.config.heads // 2
    ids = lab.held_out[: lab.scale.characters + 1]
    width = max(1, context // 8)

    def by_place(one: RoFormer) -> list[float]:
        return (
            token_losses(one, ids, context)
            .mean(0)[: context // width * width]
            .view(-1, width)
            .mean(1)
            .tolist()
        )

    return {
        "bands": [list(band) for band in bands(pairs)],  # as JSON gives them back
        "bin": width,
        "whole": by_place(model),
        "without": [by_place(extended(model, Still(*band), 1)) for band in bands(pairs)],
        "power": [_shares(q, k).tolist() for q, k in heard(model, ids[: 8 * context].view(8, context))],
    }


@torch.inference_mode()
def heard(model: RoFormer, ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Queries and keys of every layer of a RoPE model for ids (B, N), before rotation: (B, H, N, D) each."""
    shape = model.config
    listening = Listening(shape.dim // shape.heads, base=shape.base, layout=shape.layout)
    listener = RoFormer(shape, listening)
    listener.load_parameters({name: p.detach() for name, p in model.named_parameters()})
    listener.eval()(ids)
    return listening.heard


def _shares(q: Tensor, k: Tensor) -> Tensor:
    """Root of the product of the mean squares of queries and keys in each pair, as a share of all pairs: (H, D/2)."""
    squares = [x.double().unflatten(-1, (-1, 2)).square().sum(-1).mean((0, 2)) for x in (q, k)]  # (H, D/2)
    power = (squares[0] * squares[1]).sqrt()
    return power / power.sum(-1, keepdim=True)


def table_of_spectrum(results: Results) -> str:
    """What leaving out the rotation of each band costs, over all places."""
    lines = [
        f"{'cost without the rotation of pairs':36s}"
        + "".join(f"{f'{a} to {b - 1}':>18s}" for a, b in results.records[0]["bands"])
    ]
    for name in results.variants():
        records = [record for record in results.records if record["variant"] == name]
        costs = [
            [sum(r["without"][i]) / len(r["whole"]) - sum(r["whole"]) / len(r["whole"]) for r in records]
            for i in range(BANDS)
        ]
        lines.append(f"{name:36s}" + "".join(f"{shown(cost):>18s}" for cost in costs))
    return "\n".join(lines)


def repeats(width: int, count: int, length: int, generator: torch.Generator) -> Tensor:
    """Texts (count, length): with probability 0.9 a symbol repeats the one `width` places before, else it is drawn."""
    text = torch.randint(_SYMBOLS, (count, length), generator=generator)
    fresh = torch.rand(count, length, generator=generator) < 0.1
    for place in range(width, length):
        text[:, place] = torch.where(fresh[:, place], text[:, place], text[:, place - width])
    return text


def measure_width(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Train a model of two layers on such texts with a base; the loss at the places that can be predicted.

    Wu et al. 2026 (arXiv:2607.07678) claim that the best frequency for dependencies spread over a width falls as
    1/width. This is another question, since every symbol here depends on a single distance.
    """
    width, base = (int(number.replace(",", "")) for number in variant.removeprefix("width ").split(", base "))
    device = choose_device(lab.device)
    rates = TrainConfig(steps=STEPS[lab.scale.name][0], seed=seed)
    config = RoFormerConfig(
        _SYMBOLS, context=_LENGTH, dim=32, depth=2, heads=2, base=float(base), qk_gain=True
    )
    with seeded(seed):
        generator = torch.Generator().manual_seed(seed)
        model = RoFormer(config).to(device)
        optimizers = make_optimizers(model, rates)
        for step in range(rates.steps):
            set_learning_rates(optimizers, rates, step)
            text = repeats(width, _BATCH, _LENGTH + 1, generator).to(device)
            F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten()).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        with torch.inference_mode():
            text = repeats(width, 64, _LENGTH + 1, generator).to(device)
            losses = F.cross_entropy(model.eval()(text[:, :-1]).mT, text[:, 1:], reduction="none")
    return {"width": width, "base": base, "loss": losses[:, width:].mean().item()}


def table_of_widths(results: Results) -> str:
    """Loss for each width (rows) and base (columns)."""
    lines = [f"{'width':>8s}" + "".join(f"{f'base {base:,}':>18s}" for base in BASES)]
    for width in WIDTHS:
        cells = [results.values(f"width {width}, base {base:,}", "loss") for base in BASES]
        if all(cells):
            lines.append(f"{width:>8d}" + "".join(f"{shown(cell):>18s}" for cell in cells))
    return "\n".join(lines)


def _widths(scale: Scale) -> list[str]:
    return [f"width {width}, base {base:,}" for width in WIDTHS for base in BASES]


EXPERIMENTS = {
    "sharpness": Experiment(
        "Over how many keys does attention spread as the text grows, and what does sharpening it do?",
        lambda scale: list(KINDS), measure_sharpness, table_of_sharpness,
        tolerance=0.15,  # numbers of keys, without QK-norm as in `extension`; 0.09 seen
    ),
    "spectrum": Experiment(
        "Which frequencies do the heads use, early and late in training?",
        lambda scale: list(AGES), measure_spectrum, table_of_spectrum,
    ),
    "width": Experiment(
        "Which base suits a text in which every symbol depends on one a fixed distance before?",
        _widths, measure_width, table_of_widths,
    ),
}  # fmt: skip
