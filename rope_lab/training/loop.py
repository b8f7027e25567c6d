"""The training loop, short enough to read aloud."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rope_lab.model import RoFormer
from rope_lab.training.checkpoint import seeded
from rope_lab.training.data import Corpus
from rope_lab.training.distributed import Team
from rope_lab.training.evaluate import evaluate, require_model
from rope_lab.training.machine import bfloat16_is_native, compiled, enough_memory, lower, require_memory
from rope_lab.training.optim import make_optimizers, set_learning_rates
from rope_lab.training.presets import TrainConfig, preset
from rope_lab.training.record import PAUSE, Run, interruptible, prepare, provenance
from rope_lab.training.tracking import Tracker


class Batches:
    """The batches of a text, which depend only on the step.

    Every epoch cuts the text into segments, starting from a new offset, and visits each once, in a new order.
    """

    def __init__(self, ids: Tensor, config: TrainConfig) -> None:
        self.ids, self.batch, self.seed = ids, config.batch, config.seed
        self.context = config.architecture(1).context
        self.segments = (len(ids) - self.context) // self.context  # of an epoch, whatever its offset
        self._epoch = -1

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:  # inputs and targets, each (B, N)
        numbers = range(step * self.batch, (step + 1) * self.batch)
        starts = torch.tensor([self._start(number) for number in numbers])
        index = starts[:, None] + torch.arange(self.context + 1)
        tokens = self.ids[index.to(self.ids.device)]
        return tokens[:, :-1], tokens[:, 1:]

    def _start(self, number: int) -> int:
        epoch, place = divmod(number, self.segments)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            offset = torch.randint(self.context, (), generator=generator)
            order = torch.randperm(self.segments, generator=generator)
            self._epoch, self._starts = epoch, (offset + self.context * order).tolist()
        return int(self._starts[place])


def train(
    config: TrainConfig | str, corpus: Corpus, *, start: RoFormer | None = None, folder: str | Path | None = None,
    device: str | None = None, resume: bool = False, quiet: bool = False,
) -> Run:  # fmt: skip
    """Train a RoFormer on a text; processes that `torchrun` has started train it together.

    Args:
        config: the settings, or the name of a preset.
        corpus: the text.
        start: a model to train further, in place, instead of a new one.
        folder: for checkpoint, record and log, written at each report; with None nothing is written.
        device: "cuda", "mps" or "cpu"; by default the first that is available.
        resume: continue from the checkpoint in `folder`; the result is bit-identical to a run without the pause.
            Workers that `torchrun` restarts do so automatically.
        quiet: print no progress.

    Returns:
        The run: its model, its history and where its numbers come from. Only the first worker measures `val`.

    Raises:
        ValueError: naming the unsuitable argument.
        Stopped: if the loss is not finite, the memory runs out or the disk is full.
        KeyboardInterrupt: on Ctrl-C, after the step is done and the checkpoint written. Without a `folder` only a
            model given as `start` is left, as trained so far.
    """
    config = preset(config) if isinstance(config, str) else config
    team = Team.here(device)
    team.divide(config.batch, config.accumulate)
    require_memory(config, len(corpus.vocab), team.size, team.device)
    if len(corpus.vocab) < 2:
        raise ValueError(f"corpus must have two distinct characters or more, got only {corpus.vocab!r}")
    if start is not None and require_model(start, "start").config.vocab_size != len(corpus.vocab):
        size, got = len(corpus.vocab), start.config.vocab_size
        raise ValueError(f"start must have vocab_size={size} as the text has, got {got}")
    batches = Batches(corpus.encode(corpus.train).to(team.device), config)
    held_out = corpus.encode(corpus.val)
    if batches.segments < 1:
        least, got = 2 * batches.context, len(batches.ids)
        raise ValueError(f"corpus must have {least} characters to train on (two contexts), got {got}")
    place = prepare(folder, resume, team.launch) if team.first else nullcontext((None, None))
    low = config.bfloat16 and bfloat16_is_native(team.device)
    precision = torch.autocast(team.device.type, torch.bfloat16, enabled=low)

    with (
        place as (folder, saved), seeded(config.seed), enough_memory(lower(config)), team.joined(),
        interruptible(terminated=team.launch is None) as interrupted,
        Tracker(folder, quiet=quiet or not team.first) as tracker,
    ):  # fmt: skip
        model = (start or RoFormer(config.architecture(len(corpus.vocab)))).to(team.device)
        optimizers = make_optimizers(model, config)
        run = Run(model, config, provenance(corpus, team.device) | team.record(), folder=folder)
        net: nn.Module = model
        if config.compile:
            (inputs, _), *_ = team.share(*batches(0), config.accumulate)
            with precision:
                net = compiled(model, inputs, tracker.say)
        net = team.parallel(net)
        with team.copy(saved) as checkpoint:
            if checkpoint:
                run.resume(checkpoint, optimizers)
        for point in run.history:
            tracker.log(point.step, run.numbers(point))
        began = time.perf_counter() - run.seconds

        for step in range(run.step, config.steps):
            set_learning_rates(optimizers, config, step)
            team.seed(config.seed, step)
            losses = []
            pieces = team.share(*batches(step), config.accumulate)
            for piece, (inputs, targets) in enumerate(pieces, 1):
                with team.apart(net, piece, len(pieces)), precision:
                    logits = net(inputs)  # (B, N, V)
                loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten()) / len(pieces)
                loss.backward()
                losses.append(loss.detach())
            if config.clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()

            run.step = step + 1
            run.recent.append(team.mean(torch.stack(losses).sum()))
            if team.device.type == "cpu":  # reading a loss from a GPU waits for it
                run.watch(1)
            measure = due(run.step, config.evaluations, config.steps)
            report = measure or due(run.step, config.reports, config.steps)
            val = evaluate(model, held_out) if measure and team.first else None
            run.seconds = time.perf_counter() - began
            if report:
                run.report(val)
            before = run.saved
            if report or interrupted or run.seconds - run.saved > PAUSE:
                run.save(optimizers)
            if report or run.seconds - before > PAUSE:
                tracker.say(run.line())
            if report:
                tracker.log(run.step, run.numbers(run.history[-1]))
            if interrupted:
                raise KeyboardInterrupt
    return run


def due(step: int, times: int, steps: int) -> bool:
    """Whether step is one of `times` that divide `steps` evenly, the last of which is `steps`."""
    return step * times // steps > (step - 1) * times // steps
