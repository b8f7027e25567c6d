"""Sampling: the same text with and without a cache, for every encoding, also past the context."""

from itertools import islice

import pytest
import torch
from runs import tiny

from rope_lab import RoFormer, RoFormerConfig
from rope_lab.model import choose
from rope_lab.training import sample

V = 9


def make(position="rope", **fields):
    torch.manual_seed(0)
    model = RoFormer(tiny(position=position, **fields).architecture(V))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return model


@pytest.mark.parametrize("position", ["rope", "learned", "sinusoidal", "none"])
@pytest.mark.parametrize("prompt", [[1], [1, 2, 3], list(range(V)) * 2, list(range(V)) * 9])
def test_the_cache_changes_nothing_also_past_the_context(position, prompt):
    model = make(position)
    drawn = [list(sample(model, prompt, 60, seed=3, cached=cached)) for cached in (True, False)]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 60


@pytest.mark.parametrize("context", [1, 2, 5, 16])
def test_each_token_is_drawn_from_the_whole_window_encoded_from_position_zero(context):
    model, text = make(), [4]
    window = text[:]
    generator = torch.Generator().manual_seed(7)
    for token in sample(model, text, 40, seed=7, context=context):
        if len(window) > context:
            window = window[-max(1, context // 2) :]
        assert len(window) <= context
        model.eval()
        with torch.no_grad():
            logits = model(torch.tensor([window]))[0, -1]
        assert token == choose(logits, 1.0, None, None, generator)
        window.append(token)


def test_the_seed_fixes_the_text():
    model = make()
    texts = [list(sample(model, [0], 50, seed=seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_it_streams_and_leaves_the_mode_and_the_generators_alone():
    model = make().train()
    state = torch.get_rng_state()
    stream = sample(model, [0], 10**9)
    assert len(list(islice(stream, 5))) == 5
    stream.close()
    assert model.training
    assert torch.equal(state, torch.get_rng_state())


def test_two_texts_drawn_in_turns_are_those_drawn_alone():
    model = make()
    turns = zip(sample(model, [0], 30, seed=1), sample(model, [0], 30, seed=2), strict=True)
    assert [list(text) for text in zip(*turns, strict=True)] == [
        list(sample(model, [0], 30, seed=seed)) for seed in (1, 2)
    ]


def test_temperature_zero_takes_the_likeliest():
    model = make().eval()
    first = next(sample(model, [2, 5], 1, temperature=0))
    assert first == int(model(torch.tensor([[2, 5]]))[0, -1].argmax())
    assert list(sample(model, [2], 30, temperature=0, seed=1)) == list(
        sample(model, [2], 30, temperature=0, seed=2)
    )


class TestChoose:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()

    def draws(self, count=4000, temperature=1.0, top_k=None, top_p=None, logits=logits):
        generator = torch.Generator().manual_seed(0)
        drawn = [choose(logits, temperature, top_k, top_p, generator) for _ in range(count)]
        return torch.bincount(torch.tensor(drawn), minlength=4) / count

    def close(self, found, expected):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), atol=0.04, rtol=0)

    def test_the_whole_distribution(self):
        self.close(self.draws(), [0.1, 0.4, 0.2, 0.3])

    def test_temperature_sharpens(self):
        weights = torch.tensor([0.1, 0.4, 0.2, 0.3]) ** 2
        self.close(self.draws(temperature=0.5), (weights / weights.sum()).tolist())

    def test_top_k(self):
        self.close(self.draws(top_k=2), [0, 4 / 7, 0, 3 / 7])
        self.close(self.draws(top_k=99), [0.1, 0.4, 0.2, 0.3])

    @pytest.mark.parametrize(
        ("top_p", "expected"),
        [
            (1.0, [0.1, 0.4, 0.2, 0.3]),
            (0.6, [0, 4 / 7, 0, 3 / 7]),
            (0.39, [0, 1, 0, 0]),
            (1e-9, [0, 1, 0, 0]),
        ],
    )
    def test_top_p_keeps_the_fewest_that_reach_it(self, top_p, expected):
        self.close(self.draws(top_p=top_p), expected)

    def test_both(self):
        self.close(self.draws(top_k=3, top_p=0.5), [0, 4 / 7, 0, 3 / 7])

    def test_the_smallest_temperature_is_still_a_distribution(self):
        assert self.draws(100, temperature=5e-324)[1] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prompt": []}, "prompt must hold at least one token"),
        ({"count": -1}, "count must not be negative, got -1"),
        ({"temperature": -0.1}, "temperature must be finite and not negative, got -0.1"),
        ({"temperature": float("nan")}, "temperature must be finite"),
        ({"temperature": float("inf")}, "temperature must be finite"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_p": 0.0}, r"top_p must lie in \(0, 1\], got 0.0"),
        ({"top_p": 1.1}, r"top_p must lie in \(0, 1\]"),
        ({"seed": -1}, r"seed must lie in \[0, 2\*\*63\), got -1"),
        ({"context": 0}, "context must be at least 1"),
        ({"prompt": [1, 9]}, r"prompt must hold ids from 0 to 8, got 9"),
        ({"prompt": [1, -1]}, r"prompt must hold ids from 0 to 8, got -1"),
    ],
)
def test_bad_input_is_named_before_the_first_token(arguments, said):
    with pytest.raises(ValueError, match=said):
        sample(make(), **({"prompt": [0], "count": 1} | arguments))


def test_of_a_long_prompt_the_whole_last_context_is_read():
    model = make().eval()
    prompts = torch.randint(9, (20, 50), generator=torch.Generator().manual_seed(0))
    context = model.config.context
    with torch.no_grad():
        likeliest = model(prompts[:, -context:])[:, -1].argmax(-1).tolist()
        half = model(prompts[:, -(context // 2) :])[:, -1].argmax(-1).tolist()
    assert likeliest != half  # so that it can be told
    assert [next(sample(model, prompt, 1, temperature=0)) for prompt in prompts.tolist()] == likeliest


def test_learned_positions_end_with_their_table():
    with pytest.raises(ValueError, match="context must be at most 16 for learned positions, got 17"):
        sample(make("learned"), [0], 1, context=17)


def test_rope_may_look_further_back_where_asked():
    model = make()
    far, near = ([*sample(model, [0], 60, seed=1, context=context)] for context in (40, 16))
    assert far[:15] == near[:15]
    assert far != near


def test_an_encoder_cannot_write():
    model = RoFormer(RoFormerConfig.encoder(V, context=16, dim=16, depth=1, heads=2))
    with pytest.raises(ValueError, match="model must be causal"):
        sample(model, [0], 1)
