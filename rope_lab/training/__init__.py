"""The training lab: the text, the training loop, and everything that a run leaves behind."""

from rope_lab.training.checkpoint import Checkpoint, seeded, whole
from rope_lab.training.data import Corpus, tiny_shakespeare
from rope_lab.training.distributed import Team, rank
from rope_lab.training.evaluate import check_length, evaluate, token_losses
from rope_lab.training.loop import Batches, due, train
from rope_lab.training.machine import enough_memory
from rope_lab.training.optim import Muon, make_optimizers, orthogonalise, schedule, set_learning_rates
from rope_lab.training.presets import PRESETS, TrainConfig, preset
from rope_lab.training.record import Run, Stopped, choose_device, provenance, resolved
from rope_lab.training.sample import sample

__all__ = [
    "PRESETS",
    "Batches",
    "Checkpoint",
    "Corpus",
    "Muon",
    "Run",
    "Stopped",
    "Team",
    "TrainConfig",
    "check_length",
    "choose_device",
    "due",
    "enough_memory",
    "evaluate",
    "make_optimizers",
    "orthogonalise",
    "preset",
    "provenance",
    "rank",
    "resolved",
    "sample",
    "schedule",
    "seeded",
    "set_learning_rates",
    "tiny_shakespeare",
    "token_losses",
    "train",
    "whole",
]
