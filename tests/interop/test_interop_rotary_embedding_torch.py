"""Against the installed rotary-embedding-torch, on random configurations; where it errs, against exact arithmetic."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import rotary_embedding_torch as theirs
import torch

from rope_lab import angles, frequencies, rotate
from rope_lab.interop import rotary_embedding_torch as ours


def options(seed: int) -> dict[str, Any]:
    pick = random.Random(seed)
    dim = 2 * pick.randint(2, 16)
    chosen = pick.choice(
        [
            {"theta": pick.choice([100, 10_000, 500_000])},
            {"freqs_for": "pixel", "max_freq": pick.choice([4, 10])},
            {"freqs_for": "constant", "num_freqs": dim // 2},
            {"custom_freqs": torch.rand(dim // 2)},
            {"learned_freq": True},
            {"theta_rescale_factor": pick.choice([1.0, 2.5])},
        ]
    )
    return {
        "dim": dim,
        "interpolate_factor": pick.choice([1.0, 2.0, 3.5]),
        "seq_before_head_dim": pick.random() < 0.5,
        **chosen,
    }


def pair(reproduce: bool = False, **kwargs: Any) -> tuple[theirs.RotaryEmbedding, ours.RotaryEmbedding]:
    their, our = theirs.RotaryEmbedding(**kwargs), ours.RotaryEmbedding(**kwargs, reproduce=reproduce)
    our.load_state_dict(their.state_dict(), strict=True)
    their.load_state_dict(our.state_dict(), strict=True)
    return their, our


def tokens(dim: int, length: int, seq_first: bool) -> torch.Tensor:
    x = torch.randn(2, 3, length, dim + 4)
    return x.transpose(1, 2) if seq_first else x


@pytest.mark.parametrize("seed", range(40))
def test_rotations_equal_theirs(seed: int):
    torch.manual_seed(seed)
    kwargs = options(seed)
    their, our = pair(**kwargs)
    q, k = (tokens(kwargs["dim"], 20, kwargs["seq_before_head_dim"]) for _ in range(2))
    axis = our.default_seq_dim
    close = {
        "rtol": 0,
        "atol": 1e-5 + 3e-7 * 30 * our.freqs.max().item(),
    }  # their angles are rounded to float32
    for offset in (0, 7):
        wanted = their.rotate_queries_or_keys(q, offset=offset)
        torch.testing.assert_close(our.rotate_queries_or_keys(q, offset=offset), wanted, **close)
        newest = q.narrow(axis, 15, 5)
        cached = our.rotate_queries_with_cached_keys(newest, k, offset=offset)
        for a, b in zip(cached, their.rotate_queries_with_cached_keys(newest, k, offset=offset), strict=True):
            torch.testing.assert_close(a, b, **close)
    for seq_dim in (-2, -3):
        wanted = their.rotate_queries_or_keys(q, seq_dim=seq_dim)
        torch.testing.assert_close(our.rotate_queries_or_keys(q, seq_dim=seq_dim), wanted, **close)


@pytest.mark.parametrize("seq_first", [False, True])
def test_gradients_of_tensors_and_learned_frequencies_equal_theirs(seq_first: bool):
    their, our = pair(dim=8, learned_freq=True, seq_before_head_dim=seq_first)
    q, results = tokens(8, 20, seq_first), []
    weights = torch.randn_like(q)  # the square of what turned would have no gradient in its frequencies
    for package in (their, our):
        x = q.clone().requires_grad_()
        newest, _ = package.rotate_queries_with_cached_keys(x, x)
        out = package.rotate_queries_or_keys(x, offset=3) * weights + newest.square() * weights
        results.append(torch.autograd.grad(out.sum(), (x, package.freqs)))
    for a, b in zip(*results, strict=True):
        assert a.abs().max() > 1
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_axial_angles_and_the_free_functions_equal_theirs(seed: int):
    torch.manual_seed(seed)
    kwargs = options(seed)
    their, our = pair(**kwargs, cache_if_possible=False)
    offsets = (1.5, -2.0) if seed % 2 else None
    freqs = our.get_axial_freqs(3, 5, offsets=offsets)
    torch.testing.assert_close(freqs, their.get_axial_freqs(3, 5, offsets=offsets), rtol=1e-6, atol=1e-5)
    x = torch.randn(2, 3, 5, freqs.shape[-1] + 3)
    wanted = theirs.apply_rotary_emb(freqs, x, start_index=2, scale=1.5)
    torch.testing.assert_close(
        ours.apply_rotary_emb(freqs, x, start_index=2, scale=1.5), wanted, rtol=0, atol=1e-5
    )
    flat, rows = torch.randn(2, 4, 6), torch.randn(9, 6)  # of a table, the last rows are used
    torch.testing.assert_close(
        ours.apply_rotary_emb(rows, flat), theirs.apply_rotary_emb(rows, flat), rtol=0, atol=1e-6
    )
    rotations, t = torch.randn(2, 7, 4), torch.randn(2, 7, 32)
    for ranges in (None, torch.rand(3)):
        a, b = (
            package.apply_learned_rotations(rotations, t, start_index=1, freq_ranges=ranges)
            for package in (ours, theirs)
        )
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    parts = [torch.randn(2, 1, 3), torch.randn(1, 4, 2)[..., :1].expand(1, 4, 3)]
    assert ours.broadcat(parts).equal(theirs.broadcat(parts))


@pytest.mark.parametrize("seq_first", [False, True])
@pytest.mark.parametrize("length", [1, 8, 33])
def test_xpos_equals_theirs_where_query_and_key_share_a_centre(length: int, seq_first: bool):
    their, our = pair(dim=16, use_xpos=True, xpos_scale_base=16, seq_before_head_dim=seq_first)
    q, k = tokens(16, length, seq_first), tokens(16, length, seq_first)
    for a, b in zip(our.rotate_queries_and_keys(q, k), their.rotate_queries_and_keys(q, k), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        our.get_scale(torch.arange(9.0)), their.get_scale(torch.arange(9.0)), rtol=1e-5, atol=0
    )


def test_xpos_with_cached_keys_equals_the_pass_without_cache_where_theirs_does_not():
    their, our = pair(dim=16, use_xpos=True, xpos_scale_base=64)
    q, k = torch.randn(2, 1, 2, 512, 16, dtype=torch.float64)
    a, b = our.rotate_queries_and_keys(q, k)
    scores = a[..., -1:, :] @ b.mT
    a, b = our.rotate_queries_with_cached_keys(q[..., -1:, :], k)
    torch.testing.assert_close(a @ b.mT, scores, rtol=1e-9, atol=1e-9)
    a, b = their.rotate_queries_with_cached_keys(q[..., -1:, :].float(), k.float())
    assert (a @ b.mT - scores).norm() > 0.2 * scores.norm()
    _, same = pair(dim=16, use_xpos=True, xpos_scale_base=64, reproduce=True)
    for x, y in zip(
        same.rotate_queries_with_cached_keys(q[..., -1:, :].float(), k.float()), (a, b), strict=True
    ):
        assert (x - y).norm() < 1e-4 * y.norm()  # their float32 angles, times scales up to 150


def test_half_precision_positions_are_exact_unless_theirs_are_asked_for():
    x = torch.randn(1, 1, 1024, 32).bfloat16()
    exact = rotate(x.double(), angles(torch.arange(1024), frequencies(32), dtype=torch.float64))
    wrong = theirs.RotaryEmbedding(32, cache_if_possible=False).rotate_queries_or_keys(x)
    assert (wrong - exact).abs().max() > 3
    assert (ours.RotaryEmbedding(32).rotate_queries_or_keys(x) - exact).abs().max() < 0.02
    same = ours.RotaryEmbedding(32, reproduce=True).rotate_queries_or_keys(x)
    torch.testing.assert_close(same, wrong, rtol=0.01, atol=0.01)


def test_no_call_depends_on_those_before_it():
    poisoned, x = ours.RotaryEmbedding(16), torch.randn(1, 1, 64, 16)
    poisoned.rotate_queries_or_keys(x.bfloat16())
    poisoned.get_axial_freqs(64, 64, offsets=(3, 5))
    fresh = ours.RotaryEmbedding(16)
    assert poisoned.rotate_queries_or_keys(x).equal(fresh.rotate_queries_or_keys(x))
    assert poisoned.get_axial_freqs(4, 4, offsets=(1, 2)).equal(fresh.get_axial_freqs(4, 4, offsets=(1, 2)))
    their = theirs.RotaryEmbedding(16)
    their.rotate_queries_or_keys(x.bfloat16())
    assert (
        their.rotate_queries_or_keys(x) - fresh.rotate_queries_or_keys(x)
    ).abs().max() < 1e-4  # 64 tokens: exact
    their.get_axial_freqs(4, 4)
    assert their.get_axial_freqs(4, 4, offsets=(1, 2)).equal(their.get_axial_freqs(4, 4))  # offsets ignored


def test_frequencies_learn_stay_float32_and_float64_stays_float64():
    our = ours.RotaryEmbedding(16, learned_freq=True).bfloat16()
    assert our.freqs.dtype == torch.float32
    our.rotate_queries_or_keys(torch.randn(1, 1, 9, 16)).square()[..., 0].sum().backward()
    assert our.freqs.grad.abs().max() > 0
    x = torch.randn(1, 1, 5000, 16, dtype=torch.float64)
    exact = rotate(x, angles(torch.arange(5000), frequencies(16), dtype=torch.float64))
    torch.testing.assert_close(ours.RotaryEmbedding(16).rotate_queries_or_keys(x), exact, rtol=0, atol=1e-12)
    assert ours.RotaryEmbedding(2).rotate_queries_or_keys(torch.randn(1, 5, 2)).shape == (1, 5, 2)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: ours.RotaryEmbedding(8, interpolate_factor=0.5), "interpolate_factor"),
        (
            lambda: ours.RotaryEmbedding(8, interpolate_factor=float("nan")),
            "^interpolate_factor must .* nan$",
        ),
        (lambda: ours.RotaryEmbedding(2, theta_rescale_factor=2.0), "^dim must be at least 4 .* got 2$"),
        (lambda: ours.RotaryEmbedding(8, theta_rescale_factor=-1), "^theta_rescale_factor must .* -1$"),
        (lambda: ours.RotaryEmbedding(8, use_xpos=True, xpos_scale_base=0), "^xpos_scale_base must .* 0$"),
        (lambda: ours.RotaryEmbedding(7, freqs_for="pixel"), "^dim must be a positive even integer, got 7$"),
        (lambda: ours.RotaryEmbedding(8, freqs_for="music"), "freqs_for"),
        (
            lambda: ours.RotaryEmbedding(8, use_xpos=True).rotate_queries_and_keys(
                torch.randn(1, 5, 8), torch.randn(1, 6, 8)
            ),
            "^k must be as long as q, 5 tokens, got 6$",
        ),
        (
            lambda: ours.apply_rotary_emb(torch.randn(5, 4), torch.randn(5, 6), start_index=-1),
            "^start_index must",
        ),
        (lambda: ours.apply_rotary_emb(torch.randn(5, 3), torch.randn(5, 6)), "^freqs must turn an even"),
        (
            lambda: ours.RotaryEmbedding(8, use_xpos=True).rotate_queries_or_keys(torch.randn(1, 5, 8)),
            "scale",
        ),
        (lambda: ours.RotaryEmbedding(8).rotate_queries_and_keys(*torch.randn(2, 1, 5, 8)), "use_xpos"),
        (lambda: ours.RotaryEmbedding(8).get_scale(torch.arange(4)), "use_xpos"),
        (lambda: ours.RotaryEmbedding(8).get_axial_freqs(3, 4, offsets=(1,)), "offsets"),
        (lambda: ours.apply_rotary_emb(torch.randn(5, 8), torch.randn(5, 6)), "freqs"),
        (
            lambda: ours.RotaryEmbedding(8).rotate_queries_with_cached_keys(
                torch.randn(1, 6, 8), torch.randn(1, 5, 8)
            ),
            "q must not be longer",
        ),
        (
            lambda: ours.RotaryEmbedding(8, use_xpos=True, xpos_scale_base=4).rotate_queries_and_keys(
                *torch.randn(2, 1, 900, 8)
            ),
            "reach of xPos",
        ),
    ],
)
def test_bad_arguments_are_named(call, names: str):
    with pytest.raises(ValueError, match=names):
        call()


@pytest.mark.parametrize(
    "options",
    [
        {"freqs_for": "pixel"},
        {"freqs_for": "pixel", "max_freq": 20},
        {"theta": 500},
        {"theta_rescale_factor": 4.0},
        {"freqs_for": "constant", "num_freqs": 8},
    ],
    ids=str,
)
def test_frequencies_start_where_theirs_do(options: dict[str, Any]):
    torch.testing.assert_close(
        ours.RotaryEmbedding(16, **options).freqs, theirs.RotaryEmbedding(16, **options).freqs
    )


def test_dims_of_numpy_are_taken_as_theirs_takes_them():
    x = torch.randn(1, 2, 9, 16)
    wanted = theirs.RotaryEmbedding(np.int64(8)).rotate_queries_or_keys(x)
    torch.testing.assert_close(
        ours.RotaryEmbedding(np.int64(8)).rotate_queries_or_keys(x), wanted, rtol=0, atol=1e-5
    )
    with pytest.raises(TypeError, match=r"^dim must be an integer, got 8\.0$"):
        ours.RotaryEmbedding(8.0)


def test_reproduce_brings_back_positions_in_bfloat16_but_not_their_angles_in_float32():
    """The size of what it does not reproduce, as the module says."""
    x = torch.randn(1, 1, 2048, 64)
    exact, with_flag = (
        ours.RotaryEmbedding(64, reproduce=flag).rotate_queries_or_keys(x) for flag in (False, True)
    )
    theirs_x = theirs.RotaryEmbedding(64).rotate_queries_or_keys(x)
    assert with_flag.equal(exact)  # float32 positions are whole numbers in either
    assert 1e-5 < (theirs_x - with_flag).abs().max() < 2e-3
    half = theirs.RotaryEmbedding(64).rotate_queries_or_keys(x.bfloat16())
    again = ours.RotaryEmbedding(64, reproduce=True).rotate_queries_or_keys(x.bfloat16())
    assert (half.float() - again.float()).abs().max() < 0.05


@pytest.mark.parametrize("dim", [32, 64, 128])
def test_scores_of_cached_xpos_are_off_by_40_to_50_percent_there(dim: int):
    errors = []
    for seed in range(5):
        torch.manual_seed(seed)
        q, k = torch.randn(2, 1, 1, 2048, dim)
        rope = theirs.RotaryEmbedding(dim, use_xpos=True)
        whole_q, whole_k = rope.rotate_queries_and_keys(q, k)
        last_q, last_k = rope.rotate_queries_with_cached_keys(q[:, :, -1:], k)
        right, wrong = whole_q[0, 0, -1] @ whole_k[0, 0].T, last_q[0, 0, 0] @ last_k[0, 0].T
        errors.append(float((wrong - right).norm() / right.norm()))
    assert 0.39 < sum(errors) / 5 < 0.51
