"""A Llama of this package and the same one of transformers: a token with a cache, and a training step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rope_lab.bench import counts
from rope_lab.bench.roofline import measure_machine
from rope_lab.bench.timing import Call, interleave
from rope_lab.bench.traffic import Traffic
from rope_lab.config import RoFormerConfig
from rope_lab.model import RoFormer

VOCAB, DEPTH, WIDTH, HEADS = 65, 6, 256, 4
CONTEXT = 1024


def pair(*, device: str = "cpu", depth: int = DEPTH, width: int = WIDTH) -> tuple[RoFormer, nn.Module]:
    """A Llama of transformers with random weights, and this package's model with the same ones, as (ours, theirs).

    Raises:
        ImportError: if transformers is not installed.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    from rope_lab.interop.huggingface import import_llama

    torch.manual_seed(0)
    shape = RoFormerConfig.llama(VOCAB, dim=width, depth=depth, heads=HEADS, context=CONTEXT)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=width,
        intermediate_size=shape.ff_width,
        num_hidden_layers=depth,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=shape.norm_eps,
        tie_word_embeddings=False,
    )
    theirs: nn.Module = LlamaForCausalLM(config)
    return import_llama(theirs).to(device), theirs.eval().to(device)


def token_calls(ours: RoFormer, theirs: nn.Module, prompt: Tensor, tokens: int) -> dict[str, Call]:
    """For each model a call that computes the logits of one more token, up to `tokens` times, after a prompt (B, N)."""
    from transformers import DynamicCache

    cache, past = ours.new_cache(prompt.shape[1] + tokens), DynamicCache()
    with torch.inference_mode():
        ours(prompt, cache=cache)
        theirs(input_ids=prompt, past_key_values=past)
    following = prompt[:, :1]

    def our_token() -> Tensor:
        with torch.inference_mode():
            return ours(following, cache=cache)

    def their_token() -> Tensor:
        with torch.inference_mode():
            logits: Tensor = theirs(input_ids=following, past_key_values=past).logits
            return logits

    return {"rope_lab": our_token, "transformers": their_token}


def step_calls(ours: RoFormer, theirs: nn.Module, text: Tensor) -> dict[str, Call]:
    """For each model a call that makes one training step on text (B, N + 1): the loss, its gradient, and Adam."""

    def step(model: nn.Module, optimiser: torch.optim.Optimizer) -> Tensor:
        out = model(text[:, :-1])
        logits = out if isinstance(out, Tensor) else out.logits
        loss = F.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    models: dict[str, nn.Module] = {"rope_lab": ours.train(), "transformers": theirs.train()}
    return {
        name: partial(step, model, torch.optim.AdamW(model.parameters(), lr=1e-4))
        for name, model in models.items()
    }


def bench_models(
    *,
    device: str = "cpu",
    threads: int = 1,
    past: int = 256,
    batch: int = 4,
    length: int = 256,
    rounds: tuple[int, int] = (150, 9),
    quick: bool = False,
) -> dict[str, Any]:
    """Seconds of a token with a cache and of a training step, on one thread, for both models alternately.

    Args:
        device: where.
        threads: of both.
        past: tokens of the prompt; the cache grows from there by one token per round.
        batch, length: of the text of a training step.
        rounds: number of tokens and of steps that are timed; medians are reported.
        quick: a small model and few rounds, to check that everything works.
    """
    depth, width = (1, 32) if quick else (DEPTH, WIDTH)
    if quick:
        past, length, rounds = 16, 16, (3, 2)
    shape = {"depth": depth, "width": width, "heads": HEADS, "vocabulary": VOCAB}
    shape |= {"past": past, "batch": batch, "length": length}
    result: dict[str, Any] = {"shape": shape, "threads": threads, "missing": []}
    try:
        ours, theirs = pair(device=device, depth=depth, width=width)
    except ImportError:
        return result | {"missing": ["transformers"]}
    with _threads(threads):
        small: dict[str, Any] = {"rounds": 2, "megabytes": 1, "width": 64} if quick else {}
        machine = measure_machine(device=device, **small)
        prompt = torch.randint(VOCAB, (1, past), device=device)
        calls = token_calls(ours, theirs, prompt, rounds[0] + 3)
        apart = float((calls["rope_lab"]() - calls["transformers"]()).abs().max())
        if apart > 1e-3:
            raise RuntimeError(f"both models have the same weights, but their logits differ by {apart:.1g}")
        operations = {name: _operations(call) for name, call in calls.items()}
        token = interleave(calls, rounds[0])
        text = torch.randint(VOCAB, (batch, length + 1), device=device)
        step = interleave(step_calls(ours, theirs, text), rounds[1])
    config = ours.config
    return result | {
        "machine": machine.as_dict(),
        "parameters": sum(p.numel() for p in ours.parameters()),
        "largest_difference_of_logits": apart,
        "token_operations": operations,
        "token_seconds": token,
        "token_floor": machine.seconds(counts.decoding(config, past + rounds[0] // 2)),
        "step_seconds": step,
        "step_floor": machine.seconds(counts.training_step(config, batch, length)),
    }


def _operations(call: Call) -> int:
    with Traffic() as traffic:
        call()
    return traffic.calls


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
