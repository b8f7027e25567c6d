"""Known bugs: what each is, how it is corrected, and where it happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Bug:
    """A known bug. A "fault" gives wrong scores; a "limit" is harmless within bounds that `says` names."""

    name: str
    level: Literal["fault", "limit"]
    says: str
    fix: str
    threads: tuple[str, ...] = ()


def _bug(name: str, level: Literal["fault", "limit"], says: str, fix: str, *threads: str) -> tuple[str, Bug]:
    return name, Bug(name, level, says, fix, threads)


KNOWN: dict[str, Bug] = dict(
    (
        _bug(
            "half tables",
            "fault",
            "The rotation pairs neighbours, but cosine and sine come in the order of the half layout, so the two "
            "coordinates of a pair turn by different angles.",
            "Repeat each angle twice, `angle.repeat_interleave(2, -1)`, instead of `cat((angle, angle), -1)`.",
            "transformers#47328",
            "ark-nlp#47",
            "vjepa2#15",
        ),
        _bug(
            "interleaved tables",
            "fault",
            "The rotation pairs i with i + R/2, but cosine and sine repeat each angle twice, so the two coordinates "
            "of a pair turn by different angles.",
            "Build the tables with `cat((angle, angle), -1)` instead of `repeat_interleave(2, -1)`.",
            "how-to-train-your-gpt#6",
        ),
        _bug(
            "angles differ",
            "fault",
            "The two coordinates of a pair turn by different angles.",
            "Give both coordinates of a pair the same cosine and sine.",
        ),
        _bug(
            "gain",
            "limit",
            "Each coordinate is multiplied by a number of its own before it turns, such as the gain of a norm. Whether "
            "these numbers are in the order of the weights, the rotation alone cannot tell.",
            "If the rows of the projections were reordered for another layout, reorder the gains with them, "
            "`gain[order]`, and compare one layer before and after.",
        ),
        _bug(
            "gain after",
            "fault",
            "Each coordinate is multiplied by a number of its own after it turned, such as the gain of a norm, so "
            "scores depend on more than the distance.",
            "Multiply before the rotation, or by one number for both coordinates of a pair.",
        ),
        _bug(
            "sign",
            "fault",
            "Both sines have the same sign: a pair is reflected or stretched instead of turned.",
            "One of the two sines needs a minus: (a cos − b sin, b cos + a sin).",
        ),
        _bug(
            "xpos layout",
            "fault",
            "The two coordinates of a pair grow by different scales: the scales of xPos come in the order of the other "
            "layout.",
            "Repeat the scales in the same order as the angles.",
            "rotary-embedding-torch 0.6.5",
        ),
        _bug(
            "clockwise queries",
            "fault",
            "Queries and keys turn in opposite directions, so scores depend on the sum of the positions.",
            "Use the same sign of the sine for queries and keys.",
        ),
        _bug(
            "one side only",
            "fault",
            "Queries turn and keys do not, or the other way round, so scores depend on one position instead of the "
            "distance.",
            "Rotate both, and pass on both results: a kernel may have written one of them elsewhere.",
            "kvcache-ai/sglang#31",
        ),
        _bug(
            "layouts differ",
            "fault",
            "Queries and keys are turned in different layouts, or one of them comes back in another order.",
            "Rotate both in one layout, and reorder both or neither.",
            "flash-attention#862",
        ),
        _bug(
            "frequencies differ",
            "fault",
            "Queries and keys turn by different frequencies.",
            "Compute one table and use it for both.",
        ),
        _bug(
            "row index for position",
            "fault",
            "The positions that it is given are ignored: token number i is turned as position i. Padding, packing and "
            "caches come out wrong.",
            "Index the tables by the positions, `cos[positions]`, instead of taking the first N rows.",
            "Megatron-LM#453",
            "NeMo Automodel#2377",
        ),
        _bug(
            "batch index for position",
            "fault",
            "The batch index is taken for the position: the tokens of one row are all turned alike.",
            "Put the angles on the token axis, `angles[None, :, :]` for a tensor (B, N, D).",
            "the Keras tutorial's layer",
        ),
        _bug(
            "head index for position",
            "fault",
            "The head index is taken for the position: all tokens of a head are turned alike.",
            "Put the angles on the token axis: (B, H, N, D) and (B, N, H, D) need different shapes.",
            "open_lm#4",
        ),
        _bug(
            "first row's positions for all rows",
            "fault",
            "The positions of the first row are used for all rows of a batch, which is wrong with left padding.",
            "Keep the batch axis of the positions: cosine and sine of shape (B, 1, N, R).",
            "unsloth#3795",
        ),
        _bug(
            "off by one",
            "fault",
            "With a cache the new token is turned one position too early or too late.",
            "The position of the first new token is the number of tokens in the cache.",
        ),
        _bug(
            "restarts",
            "fault",
            "With a cache the new token is turned as the first token of a sequence.",
            "Pass on the number of cached tokens as the offset of the positions.",
            "keras-hub#1544",
            "executorch#2010",
        ),
        _bug(
            "half positions",
            "fault",
            "Tensors of half precision are turned by positions or angles of half precision: beyond 256 (bfloat16) or "
            "2,048 (float16) neighbouring tokens share a position.",
            "Form positions and angles in float32 or float64 whatever the dtype of the tensor; round the result.",
            "transformers#29285",
            "keras-hub#1508",
            "DeepSpeed#4932",
        ),
        _bug(
            "rounded buffers",
            "fault",
            "`.bfloat16()` on the module rounds its frequencies or tables, and `.float()` cannot restore them.",
            "Compute the frequencies at every call, or keep them out of the casts of the module.",
            "NeMo Automodel#2549",
            "gpt-neox#1003",
        ),
        _bug(
            "coarse",
            "fault",
            "Angles are so coarse that scores of distant tokens are wrong.",
            "Form positions, frequencies and their products in float32 or float64.",
            "transformers#25681",
        ),
        _bug(
            "float32 angles",
            "limit",
            "Angles are products in float32: off by 1e-4 rad at position 1,000 and by about 0.05 rad at 1,000,000.",
            "For contexts beyond 100,000 tokens, form the product in float64 and reduce it to [−π, π].",
            "arXiv:2411.13476",
        ),
        _bug(
            "poisoned",
            "fault",
            "A call changes what later calls return: a cache of cosine and sine is filled by one kind of call and read "
            "by another.",
            "Key the cache by all that it depends on (dtype, offset, length), or do without it.",
            "rotary-embedding-torch#11",
            "rotary-embedding-torch 0.9.1",
        ),
        _bug(
            "in place",
            "fault",
            "It writes into its input.",
            "Work on a copy, or document that the input is overwritten.",
            "Liger-Kernel, on purpose",
        ),
        _bug(
            "values turned",
            "fault",
            "The values are turned as well, so what attention returns depends on the absolute position (unless the "
            "output is turned back, as in RoPER).",
            "Turn queries and keys only.",
        ),
        _bug(
            "clamped",
            "fault",
            "Positions are clamped: all tokens beyond some position share one rotation.",
            "Do not clip positions to the trained length; scale the frequencies instead.",
            "keras-hub, YaRN with truncate",
        ),
        _bug(
            "follows the length",
            "limit",
            "Frequencies depend on the length of the call (dynamic NTK or LongRoPE), so cached keys carry older ones.",
            "Fix the length in advance, or cache keys that are not turned.",
            "transformers#25104",
            "vllm#27414",
        ),
        _bug(
            "inverted",
            "fault",
            "The first frequency is above 1: positions are multiplied where they should be divided, or everything is "
            "turned more than once.",
            "For linear scaling divide positions by the factor; otherwise look for a second rotation.",
            "labml, RoPER before 2024-06-20",
        ),
        _bug(
            "ntk exponent",
            "fault",
            "The base is a usual one times factor^(D/(D−1)): NTK-aware scaling with the wrong exponent, so the last "
            "frequency is not divided by the factor.",
            "Raise the base by factor^(D/(D−2)).",
            "bloc97 2023; arXiv:2309.00071",
        ),
        _bug(
            "ntk everywhere",
            "fault",
            "Every frequency is divided by factor^(D/(D−2)); NTK-aware scaling keeps the first and divides the last by "
            "the factor.",
            "Multiply the base, not the positions, by factor^(D/(D−2)).",
            "keras-hub, rope_type='dynamic'",
        ),
        _bug(
            "exponent",
            "limit",
            "The base is 100: that of images, or 10,000 with the exponents −i/D instead of −2i/D.",
            "For text, use θ_i = base^(−2i/D), i = 0, …, D/2 − 1.",
        ),
        _bug(
            "lost",
            "fault",
            "A part of the head is lost: the coordinates that should pass through are taken from the wrong place.",
            "Return `cat((turned(x[..., :R]), x[..., R:]), -1)`: the tail begins where the rotated part ends.",
        ),
        _bug(
            "no rotation",
            "fault",
            "Nothing turns: often the frequencies are zeros, for example a buffer that was lost when the model was "
            "built on the meta device.",
            "Compute the frequencies after loading, or store them with the weights.",
            "executorch#19627",
        ),
        _bug(
            "scales",
            "limit",
            "Lengths grow or shrink with the position, as in xPos: scores are relative only if queries and keys do the "
            "opposite about one fixed centre, and far from it the scale overflows.",
            "Keep one centre for queries, keys and cache, and keys that are not yet scaled in the cache.",
            "local-attention#14",
        ),
        _bug(
            "rounded tables",
            "limit",
            "Tables or products are rounded to half precision: lengths and scores are off by some thousandths.",
            "Keep tables and products in float32 and round the result.",
        ),
        _bug(
            "dtype",
            "limit",
            "The result has another dtype than the tensor, or one of the dtypes raises an error.",
            "Cast the result to the dtype of the input.",
            "labml_nn, local-attention with bfloat16",
        ),
        _bug(
            "double",
            "limit",
            "A float64 tensor is turned by angles of float32, which a test with float64 gradients notices.",
            "Form the angles in float64 where the tensor is float64.",
        ),
        # with something to compare with
        _bug(
            "partial dropped",
            "fault",
            "The whole head turns where the config has only a part turn.",
            "Multiply the head dimension by `partial_rotary_factor` on this path too.",
            "maxtext#4616",
        ),
        _bug(
            "wrong place",
            "fault",
            "The right number of coordinates turns, in the wrong place of the head.",
            "Turn the part of the head that the config names: in latent attention, the last coordinates.",
        ),
        _bug(
            "wrong share",
            "fault",
            "Another number of coordinates turns than the config says.",
            "Take the rotated width from the config.",
            "vllm#41185",
        ),
        _bug(
            "wrong layout",
            "fault",
            "The layout is the other one than the weights were trained for.",
            "Rotate in the layout of the weights, or reorder the rows of both projections "
            "(`rope_lab.encodings.convert_projection`).",
            "llama3-from-scratch#20",
            "LLMs-from-scratch#747",
        ),
        _bug(
            "wrong direction",
            "fault",
            "It turns in the other direction than the config says.",
            "Change the sign of the sine.",
        ),
        _bug(
            "wrong base",
            "fault",
            "The base is another than the config's; a default may have been read in place of a field that moved.",
            "Read `rope_theta` where the config keeps it (`rope_parameters` or the top level), without a default.",
            "airllm#368",
        ),
        _bug(
            "scaling dropped",
            "fault",
            "The frequencies are those of the base alone: the config's scaling is not applied.",
            "Apply the scaling that the config names.",
        ),
        _bug(
            "wrong frequencies",
            "fault",
            "The frequencies are others than the config's.",
            "Compare the lists: `rope_lab.interop.huggingface.frequencies(config)`.",
        ),
        _bug(
            "attention factor",
            "fault",
            "Cosine and sine are multiplied by another factor than the config's (1 where it was dropped, its square "
            "where it was applied twice).",
            "Multiply cosine and sine once by the attention factor, or scores once by its square.",
            "sglang#33558",
        ),
    )
)
