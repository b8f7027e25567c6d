"""The interface of the package `local-attention` (1.11.2).

    from rope_lab.interop.local_attention import LocalAttention, LocalMHA, LocalTransformer

Parameters have the neighbour's names, so its checkpoints load. Where it differs on purpose, and the real package
does not:

- Without `causal`, queries turn by their true positions; there, by those of the forward window, W·look_forward on.
- `autopad` never lets a token see padding; there, it does where no mask is given and keys ahead may be seen.
- Cached decoding equals the full pass at every step. There, at most the first cached step does (with `qk_rmsnorm` or
  `shared_qk` not even that): the keys it hands back are already rotated, and are rotated again at the next step; block
  windows fail at multiples of W besides.
- `dropout` of `LocalMHA` and `attn_dropout` of `LocalTransformer` drop attention weights in training; there they do
  nothing.
- `window_size=` for one call moves the bound of an exact window too; there the bound stays that of the constructor.
- bfloat16 runs with rotary positions, at exact angles. A query that may see no key gets zeros instead of a mean.
- `generate` keeps at least one token to draw from, however small the vocabulary, and drops the cache once the text
  outgrows `max_seq_len`, where the learned positions end.

What is kept: with `exact_windowsize` a query sees W·look_backward keys before itself, one more than an exact window of
`rope_lab.LocalAttention`, which counts the query among its W.

`LocalAttention(..., reproduce=True)` brings back the shifted queries and the visible padding.
"""

from rope_lab.interop.local_attention.attention import LocalAttention
from rope_lab.interop.local_attention.transformer import DynamicPositionBias, LocalMHA, LocalTransformer

__all__ = ["DynamicPositionBias", "LocalAttention", "LocalMHA", "LocalTransformer"]
