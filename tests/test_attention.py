"""Attention against the definition written out, and each promise of its masks."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from rope_lab import MultiHeadAttention, PositionEncoding, RotaryEmbedding
from rope_lab.attention import attend, attention_mask
from rope_lab.encodings import RotaryEmbeddingND, RotaryValueEmbedding, axial_frequencies

B, H, N, D = 2, 4, 6, 4
QKV = torch.randn(3, B, H, N, D)
WINDOWS = (None, *range(1, N + 2))
SEGMENTS = {
    "one": None,
    "left padding": [[-1, -1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
    "right padding": [[0, 0, 0, -1, -1, -1], [0, 0, 0, 0, 0, -1]],
    "packed": [[0, 0, 1, 1, 1, 2], [3, 3, 3, 3, 7, -1]],
}


class EveryHook(PositionEncoding):
    """Fills every hook with something that depends on positions: a wrong wire changes the result."""

    def __init__(self, heads: int = H, query_block: int | None = None) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.linspace(-1, 1, heads))
        self.query_block = query_block

    def scale(self, x: Tensor, positions: Tensor) -> Tensor:
        return x * (1 + 0.1 * positions.to(x.dtype)).view(-1, 1, positions.shape[-1], 1)

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        return self.scale(q, positions), k, self.scale(v, 1 - positions)

    def relate(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.scale(q, -q_positions), self.scale(k, k_positions)

    def unrotate(self, out: Tensor, positions: Tensor) -> Tensor:
        return self.scale(out, 3 - positions)

    def bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        assert q.shape[2] == q_positions.shape[-1]
        assert k.shape[2] == k_positions.shape[-1]
        back = q_positions[..., :, None] - k_positions[..., None, :]  # (N_q, N_k) or (B, N_q, N_k)
        back = 0.1 * back.square() - back  # not linear: softmax would forgive wrong query positions
        return self.slopes[:, None, None] * back.view(-1, 1, *back.shape[-2:]).to(self.slopes.dtype)


POSITIONS = {
    "none": lambda: None,
    "rope": lambda: RotaryEmbedding(D),
    "every hook": EveryHook,
    "in blocks": lambda: EveryHook(query_block=4),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def mask_by_hand(causal: bool, window: int | None, segments: Tensor | None, count: int = N) -> Tensor:
    """One entry at a time: may query m see key n? (B, 1, N, N)"""
    rows = [[0] * count] * B if segments is None else segments.tolist()
    allowed = torch.zeros(B, 1, count, count, dtype=torch.bool)
    for b, m, n in product(range(B), range(count), range(count)):
        in_window = window is None or abs(m - n) < window
        alike = rows[b][m] == rows[b][n] != -1
        allowed[b, 0, m, n] = in_window and alike and (n <= m or not causal)
    return allowed


def dense(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q·kᵀ/√D + bias)·v from its definition, zero where nothing is allowed."""
    k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    scores = scores if bias is None else scores + bias
    scores = scores.where(allowed, torch.finfo(scores.dtype).min)
    weights = (scores - scores.amax(-1, keepdim=True)).exp() * allowed
    total = weights.sum(-1, keepdim=True)
    return (weights / torch.where(total > 0, total, 1)) @ v


def dense_module(module: MultiHeadAttention, x: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
    def heads(projection: nn.Linear) -> Tensor:
        return projection(x).view(B, x.shape[1], -1, D).transpose(1, 2)

    q, k, v = heads(module.query), heads(module.key), heads(module.value)
    if module.qk_norm:
        q, k = (t / (t.square().mean(-1, keepdim=True) + torch.finfo(t.dtype).eps).sqrt() for t in (q, k))
    q, k, v = module.position.rotate(q, k, v, positions)
    q, k = module.position.relate(q, k, positions, positions)
    out = dense(q, k, v, allowed, module.position.bias(q, k, positions, positions))
    out = module.position.unrotate(out, positions)
    return module.out(out.transpose(1, 2).reshape(B, x.shape[1], -1))


def value_and_gradients(
    module: MultiHeadAttention, run: Callable[..., Tensor], x: Tensor, **options: Tensor
) -> list[Tensor]:
    x = x.clone().requires_grad_()
    out = run(x, **options)
    probe = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out, *torch.autograd.grad((out * probe).sum(), [x, *module.parameters()])]


@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("kv_heads", [H, 2, 1])
@pytest.mark.parametrize(
    ("causal", "position"), [c for c in product((True, False), POSITIONS) if c != (False, "in blocks")]
)
def test_equals_the_definition_with_gradients(causal, kv_heads, segments, position):
    x = torch.randn(B, N, H * D, dtype=torch.float64)
    positions = torch.stack((torch.arange(N), torch.arange(N) * 3 - 5))
    rows = None if SEGMENTS[segments] is None else torch.tensor(SEGMENTS[segments])
    for window, qk_norm in product(WINDOWS, (False, True)):
        encoding = POSITIONS[position]()
        options = {
            "kv_heads": kv_heads,
            "causal": causal,
            "window": window,
            "qk_norm": qk_norm,
            "bias": qk_norm,
        }
        module = MultiHeadAttention(H * D, H, position=encoding, **options).double()
        allowed = mask_by_hand(causal, window, rows)
        definition = partial(dense_module, module, allowed=allowed)
        for where in (positions, positions[1]):
            ours = value_and_gradients(module, module, x, positions=where, segments=rows)
            theirs = value_and_gradients(module, definition, x, positions=where)
            for name, a, b in zip(("out", "x", *dict(module.named_parameters())), ours, theirs, strict=True):
                message = f"window={window}, {name}: {(a - b).abs().max()}"
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11, msg=message)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("segments", ["one", "left padding", "packed"])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounds_no_worse_than_twice_the_definition(dtype, window, segments, position):
    count, width, draws = 24, H * D, 8
    rows = None
    if SEGMENTS[segments] is not None:
        rows = torch.tensor(SEGMENTS[segments]).repeat_interleave(count // N, dim=1)
    positions, allowed = torch.arange(count) % 7, mask_by_hand(True, window, rows, count)
    definition = partial(dense_module, positions=positions, allowed=allowed)
    errors: dict[str, list[Tensor]] = {}
    for _ in range(draws):
        options = {"kv_heads": 2, "position": POSITIONS[position](), "window": window}
        module = MultiHeadAttention(width, H, **options).to(dtype)
        exact, x = deepcopy(module).double(), torch.randn(B, count, width).to(dtype)
        truth = value_and_gradients(exact, partial(definition, exact), x.double())
        plain = value_and_gradients(module, partial(definition, module), x)
        ours = value_and_gradients(module, module, x, positions=positions, segments=rows)
        names = ("out", "x", *dict(module.named_parameters()))
        for name, t, p, o in zip(names, truth, plain, ours, strict=True):
            assert o.dtype == dtype
            sizes = torch.stack(((o.double() - t).norm(), (p.double() - t).norm(), t.norm()))
            errors.setdefault(name, []).append(sizes.square())
    for name, draw in errors.items():
        error, reference, size = torch.stack(draw).sum(0).sqrt()
        bound = 2 * reference + torch.finfo(dtype).eps * size
        assert error <= bound, f"{name}: {error} against {reference} of the definition"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("kv_heads", [H, 2])
def test_a_query_without_keys_returns_zeros_and_finite_gradients(kv_heads, biased, dtype):
    q, k, v = (torch.randn(B, h, N, D, dtype=dtype, requires_grad=True) for h in (H, kv_heads, kv_heads))
    bias = torch.randn(1, H, N, N, dtype=dtype, requires_grad=True) if biased else None
    segments = torch.tensor([[-1] * N, [-1, -1, 0, 0, 1, 1]])  # a row of nothing but padding, and a mixed one
    out = attend(q, k, v, attention_mask(N, N, segments=segments), bias)
    assert (out[0] == 0).all()
    assert (out[1, :, :2] == 0).all()
    assert (out[1, :, 2:] != 0).all()
    out.sum().backward()
    for t in (q, k, v) if bias is None else (q, k, v, bias):
        assert t.grad is not None
        assert t.grad.isfinite().all()
    assert (k.grad[0] == 0).all()
    assert (v.grad[1, :, :2] == 0).all()
    if bias is not None:
        assert (bias.grad[:, :, :2] == 0).all()
        assert (bias.grad[:, :, 3] != 0).any()


def test_no_kernel_meets_a_query_without_keys(monkeypatch):
    """The kernels differ in what they make of such a row (some NaN), so none is given one."""
    masks = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def watch(*args, attn_mask: Tensor, **options) -> Tensor:
        masks.append(attn_mask if attn_mask.dtype == torch.bool else attn_mask > -torch.inf)
        return kernel(*args, attn_mask=attn_mask, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
    segments = torch.tensor([[-1] * N, [-1, -1, 0, 0, 0, -1]])
    for position in (None, EveryHook()):
        MultiHeadAttention(H * D, H, position=position)(torch.randn(B, N, H * D), segments=segments)
    assert len(masks) == 2
    assert all(mask.any(-1).all() for mask in masks)


def test_a_learned_bias_trains_beside_padding():
    module = MultiHeadAttention(H * D, H, position=EveryHook())
    out = module(torch.randn(B, N, H * D), segments=torch.tensor([[-1] * N, [-1, -1, 0, 0, 0, 0]]))
    assert (out[0] == 0).all()  # the projections have no bias
    out.square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


@pytest.mark.parametrize("window", range(1, N + 2))
def test_a_window_counts_the_query_itself(window):
    causal = attention_mask(N, N, window=window)
    both = attention_mask(N, N, window=window, causal=False)
    for m in range(N):
        assert causal[0, 0, m].sum() == min(window, m + 1)
        seen = N if both is None else both[0, 0, m].sum()
        assert seen == min(window, m + 1) + min(window, N - m) - 1


@pytest.mark.parametrize("segments", SEGMENTS)
def test_the_mask_of_the_last_queries_is_the_last_rows(segments):
    rows = None if SEGMENTS[segments] is None else torch.tensor(SEGMENTS[segments])
    for causal, window, queries in product((True, False), WINDOWS, range(1, N + 1)):
        mask = attention_mask(queries, N, causal=causal, window=window, segments=rows)
        mask = torch.ones(1, 1, queries, N, dtype=torch.bool) if mask is None else mask
        expected = mask_by_hand(causal, window, rows)[:, :, N - queries :]
        assert torch.equal(mask.expand_as(expected), expected), (causal, window, queries)


def test_packed_documents_give_what_each_gives_alone():
    module = MultiHeadAttention(H * D, H, position=RotaryEmbedding(D)).double()
    x = torch.randn(1, 9, H * D, dtype=torch.float64)
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 2, 2]])
    alone = torch.cat([module(part) for part in x.split([4, 3, 2], dim=1)], dim=1)
    # the positions run on: only distances matter to RoPE
    torch.testing.assert_close(module(x, segments=segments), alone, rtol=0, atol=1e-13)
    restarted = torch.tensor([0, 1, 2, 3, 0, 1, 2, 0, 1])
    torch.testing.assert_close(module(x, segments=segments, positions=restarted), alone, rtol=0, atol=1e-13)
    changed = torch.cat(
        (torch.randn_like(x[:, :4]), x[:, 4:]), dim=1
    )  # not one bit leaks from another document
    assert torch.equal(module(changed, segments=segments)[:, 4:], module(x, segments=segments)[:, 4:])


def test_left_and_right_padding_equal_no_padding():
    module = MultiHeadAttention(H * D, H, position=RotaryEmbedding(D), causal=False).double()
    x = torch.randn(1, 5, H * D, dtype=torch.float64)
    for left in range(4):
        padded = torch.randn(1, 8, H * D, dtype=torch.float64)
        padded[:, left : left + 5] = x
        real = torch.zeros(1, 8, dtype=torch.bool)
        real[:, left : left + 5] = True
        out = module(padded, segments=real.long() - 1)
        torch.testing.assert_close(out[:, left : left + 5], module(x), rtol=0, atol=1e-13)
        assert (out[~real] == 0).all()


def test_positions_of_each_row_are_its_own_where_every_axis_has_one_size():
    size = 4  # B = H = N = D: nothing may broadcast by accident
    module = MultiHeadAttention(size * size, size, position=RotaryEmbedding(size)).double()
    x, positions = (
        torch.randn(size, size, size * size, dtype=torch.float64),
        torch.randint(0, 99, (size, size)),
    )
    rows = [module(x[b : b + 1], positions=positions[b]) for b in range(size)]
    torch.testing.assert_close(module(x, positions=positions), torch.cat(rows), rtol=0, atol=1e-13)


def test_dropout_acts_in_training_only():
    module = MultiHeadAttention(H * D, H, dropout=0.5)
    x = torch.randn(B, N, H * D)
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


def test_no_tokens_and_no_rows_pass():
    module = MultiHeadAttention(H * D, H, position=RotaryEmbedding(D), window=2)
    assert module(torch.randn(B, 0, H * D)).shape == (B, 0, H * D)
    assert module(torch.randn(0, N, H * D)).shape == (0, N, H * D)


@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("position", POSITIONS)
def test_weights_are_those_that_forward_sums_values_with(position, window, segments):
    module = MultiHeadAttention(16, H, kv_heads=2, window=window, position=POSITIONS[position]()).double()
    x, seg = torch.randn(B, N, 16, dtype=torch.float64), SEGMENTS[segments]
    options = {"segments": None if seg is None else torch.tensor(seg), "positions": torch.randint(20, (B, N))}
    weights = module.weights(x, **options)
    allowed = mask_by_hand(True, window, options["segments"]).expand_as(weights)
    assert weights.shape == (B, H, N, N)
    assert (weights[~allowed] == 0).all()
    torch.testing.assert_close(weights.sum(-1), allowed.any(-1).double(), rtol=0, atol=1e-12)
    _, _, v, positions, _ = module._project(x, options["positions"], None, None, None)
    out = module.position.unrotate(weights @ v.repeat_interleave(2, dim=1), positions)
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(module.out(out.transpose(1, 2).flatten(-2)), module(x, **options), **close)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads must divide dim=16, got 3"),
        ({"heads": 0}, "heads must be a positive integer, got 0"),
        ({"heads": 2.0}, "heads must be a positive integer, got 2.0"),
        ({"heads": 4, "kv_heads": 3}, "kv_heads must divide heads=4, got 3"),
        ({"heads": 4, "kv_heads": 0}, "kv_heads must be a positive integer, got 0"),
        ({"heads": 4, "window": 0}, "window must be a positive integer, got 0"),
        ({"heads": 4, "window": 2.5}, "window must be a positive integer, got 2.5"),
        ({"heads": 4, "head_dim": 0}, "head_dim must be a positive integer, got 0"),
        ({"heads": 4, "dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        (
            {"heads": 4, "position": RotaryEmbedding(6)},
            "position must turn within the 4 coordinates of a head, got 6",
        ),
        (
            {"heads": 4, "position": RotaryEmbedding(4, start=2)},
            "position must turn within the 4 coordinates of a head, got 6",
        ),
        (
            {"heads": 4, "position": RotaryValueEmbedding(4, value_dim=8)},
            "position must turn within the 4 coordinates of a head, got 8",
        ),
        (
            {"heads": 4, "position": RotaryEmbeddingND(axial_frequencies(8, 2))},
            "position must turn within the 4 coordinates of a head, got 8",
        ),
        (
            {"heads": 4, "position": EveryHook(query_block=2), "causal": False},
            "causal must be True for EveryHook, got False",
        ),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        MultiHeadAttention(16, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attention_mask(5, 3), "q_count must be at most k_count=3, got 5"),
        (lambda: attention_mask(5, 3, causal=False), "q_count must be at most k_count=3, got 5"),
        (lambda: attention_mask(3, 5, window=0), "window must be a positive integer, got 0"),
        (lambda: attention_mask(3, 5, window=2.5), "window must be a positive integer, got 2.5"),
        (lambda: attend(*QKV, torch.ones(N, N)), r"allowed must be .* \(2, 4, 6, 6\), got torch.float32 .*"),
        (lambda: attend(*QKV, torch.ones(N, 5).bool()), r"allowed must be .* got torch.bool \(6, 5\)"),
        (lambda: attend(*QKV, torch.ones(3, 1, N, N).bool()), r"allowed must be .* got .*\(3, 1, 6, 6\)"),
        (lambda: attend(*QKV, torch.ones(1, B, H, N, N).bool()), r"allowed must be .* \(1, 2, 4, 6, 6\)"),
    ],
)
def test_bad_masks_are_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


@pytest.mark.parametrize("shape", [(N, N), (B, 1, N, N), (1, H, 1, N), (N, 1), (N,), ()])
def test_a_mask_broadcasts(shape):
    allowed = torch.rand(shape) < 0.8
    whole = attend(*QKV, allowed.expand(B, H, N, N))
    torch.testing.assert_close(attend(*QKV, allowed), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"positions": torch.arange(N + 1)}, ValueError, "positions must have shape .* got .7,."),
        ({"positions": torch.zeros(N, B)}, ValueError, "positions must have shape .* got .6, 2."),
        ({"positions": torch.zeros(1, N)}, ValueError, "positions must have shape .* got .1, 6."),
        ({"segments": torch.zeros(N).long()}, ValueError, "segments must have shape .* got .6,."),
        ({"segments": torch.ones(B, N).bool()}, ValueError, "segments must be integers .* got torch.bool"),
        ({"x": torch.randn(N, 16)}, ValueError, "x must have shape .B, N, 16., got .6, 16."),
        ({"x": torch.randn(B, N, 15)}, ValueError, "x must have shape .B, N, 16., got .2, 6, 15."),
    ],
)
def test_bad_inputs_are_named(call, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        MultiHeadAttention(16, 4)(**({"x": torch.randn(B, N, 16)} | call))
