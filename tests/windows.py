"""Dense attention whose window is written out key by key, for the tests of local attention."""

import torch

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
KINDS = {"exact": {}, "inclusive": {"inclusive": True}, "block": {"exact": False}}


def sees(i, j, *, window, causal=True, look_backward=1, look_forward=None, exact=True, inclusive=False):
    """The table of `rope_lab.local.attention`, for two integers."""
    w, b, f = window, look_backward, int(not causal) if look_forward is None else look_forward
    if causal and j > i:
        return False
    if not exact:
        return i // w - b <= j // w <= i // w + f
    if inclusive:
        return -w * f <= i - j <= w * b
    return i == j or -w * f < i - j < w * b


def dense(q, k, v, *, mask=None, segments=None, bias=None, exclude_self=False, scale=None, first=0, **window):
    """softmax(scale·q·kᵀ + bias)·v with every score formed."""
    heads, n_q, n_k = q.shape[1], q.shape[2], k.shape[2]
    rows, columns = range(first + n_k - n_q, first + n_k), range(first, first + n_k)
    allowed = torch.tensor([[sees(i, j, **window) for j in columns] for i in rows])[None, None]
    if mask is not None:
        allowed = allowed & mask.reshape(-1, 1, 1, n_k)
    if segments is not None:
        mine = segments[:, None, n_k - n_q :, None]
        allowed = allowed & (mine == segments[:, None, None]) & (mine >= 0)
    if exclude_self:
        itself = torch.tensor([[i == j for j in columns] for i in rows])
        alone = ~(allowed & ~itself).any(-1, keepdim=True)
        allowed = allowed & (~itself | alone)
    k, v = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (k, v))
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        w, b = window["window"], window.get("look_backward", 1)
        spots = [
            [(i % w, min(max(j - (i // w - b) * w, 0), bias.shape[-1] - 1)) for j in columns] for i in rows
        ]
        r, c = torch.tensor(spots).unbind(-1)
        scores = scores + bias[:, r, c]
    weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
    return weights.masked_fill(~allowed, 0) @ v  # a query without keys has NaN weights before


def gradients(f, inputs):
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    out = f(*inputs)
    seed = torch.randn(out.shape, generator=torch.Generator().manual_seed(7)).to(out.dtype)
    return [out, *torch.autograd.grad(out, inputs, seed)]


def close(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def qkv(batch=2, heads=4, kv_heads=None, count=23, dim=8, dtype=torch.float64, seed=0, queries=None):
    torch.manual_seed(seed)
    q = torch.randn(batch, heads, queries or count, dim, dtype=dtype)
    return [q, *(torch.randn(batch, kv_heads or heads, count, dim, dtype=dtype) for _ in range(2))]
