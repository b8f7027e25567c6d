"""What the tests of training share: a small text and a run of seconds."""

import string

from rope_lab.training import Corpus, TrainConfig, preset

_WORDS = ["once", "upon", "a", "time", "the", "fox", "sang", "of", "rope", "and", "ring", string.digits]
TEXT = " ".join(_WORDS[i * i % len(_WORDS)] + "\n" * (i % 7 == 0) for i in range(400))


def corpus() -> Corpus:
    return Corpus("words", TEXT)


def tiny(*, dropout: float = 0.1, **settings: object) -> TrainConfig:
    """Six steps of a model that takes part in everything a run can be made of, both kinds of dropout included."""
    small = {
        "context": 16,
        "dim": 16,
        "depth": 1,
        "heads": 2,
        "dropout": dropout,
        "attention_dropout": dropout,
    }
    return preset("smoke", **(small | {"steps": 6, "batch": 4, "reports": 3, "evaluations": 2} | settings))
