"""Keras layers: against rope_lab, through fit and save, on a second backend, and against the tutorial's mistake."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"  # before the first import of keras

import keras
import numpy as np
import pytest
import torch
from keras import ops

import rope_lab
from rope_lab.interop import keras as ours

ROOT = Path(__file__).resolve().parents[2]

# Keras asks tensors of torch for an array in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def pick(seed: int) -> tuple[dict, dict, torch.Tensor, torch.Tensor]:
    """Options of a layer and of a call, with queries and keys (B, N, H, D) or (B, H, N, D)."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    axis, dim, batch, n_k = rng.choice([1, 2]), 2 * rng.randint(1, 8), rng.randint(1, 3), rng.randint(1, 12)
    layer = {"base": rng.choice([100.0, 10_000.0]), "layout": rng.choice(["interleaved", "half"])}
    layer |= {"dim": dim, "sequence_axis": axis}
    positions = rng.choice([None, torch.randint(-50, 9_000, (n_k,)), torch.randint(0, 9_000, (batch, n_k))])
    call = {"positions": positions, "offset": rng.choice([0, 7, 1_000_000])}
    width, n_q = dim + rng.choice([0, 0, 3]), rng.randint(1, n_k)
    q, k = torch.randn(batch, n_q, 4, width), torch.randn(batch, n_k, rng.choice([1, 2, 4]), width)
    return layer, call, *((x if axis == 1 else x.transpose(1, 2)).requires_grad_() for x in (q, k))


def lab(layer: dict, call: dict, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by rope_lab, which has tokens last but one."""
    rope = rope_lab.RotaryEmbedding(layer["dim"], base=layer["base"], layout=layer["layout"])
    if layer["sequence_axis"] == 2:
        return rope(q, k, **call)
    q, k = rope(q.transpose(1, 2), k.transpose(1, 2), **call)
    return q.transpose(1, 2), k.transpose(1, 2)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("seed", range(20))
def test_equals_rope_lab_forward_and_backward(seed: int, dtype: str, tolerance: float):
    layer, call, q, k = pick(seed)
    reach = call["offset"] + (0 if call["positions"] is None else 9_000)
    tolerance = max(tolerance, 1e-15 * reach)  # the last bits of a float64 angle
    q, k = (x.detach().to(getattr(torch, dtype)).requires_grad_() for x in (q, k))
    results = []
    for rotated in (ours.RotaryEmbedding(**layer, dtype=dtype)(q, k, **call), lab(layer, call, q, k)):
        loss = sum(x.pow(3).sum() for x in rotated)
        results.append((*rotated, *torch.autograd.grad(loss, (q, k))))
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype
        scale = max(1.0, float(b.detach().abs().max()))
        torch.testing.assert_close(a / scale, b / scale, rtol=0, atol=tolerance)


def test_queries_alone_without_heads_and_full_width_by_default():
    q = torch.randn(2, 5, 8)
    expected = rope_lab.RotaryEmbedding(8)(q[:, None], q[:, None])[0][:, 0]
    torch.testing.assert_close(ours.RotaryEmbedding()(q), expected, rtol=0, atol=1e-6)
    both = ours.RotaryEmbedding()(q[:, -2:], q)
    torch.testing.assert_close(both[0], expected[:, -2:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("first", [0, 10_000_000, 2**31 - 8, -(2**31), -5])
def test_positions_are_exact_however_they_come(first: int):
    """Static, as an offset tensor, and as tensors of positions: all from the float64 angle."""
    x, rope = torch.randn(1, 8, 1, 64), ours.RotaryEmbedding()
    angle = (torch.arange(8).double() + first)[:, None] * rope_lab.frequencies(64)
    pairs = torch.view_as_complex(x[0, :, 0].double().unflatten(-1, (-1, 2))) * torch.exp(1j * angle)
    expected = torch.view_as_real(pairs).flatten(-2).float()[None, :, None]
    m = torch.arange(8) + first
    ways = {
        "static": rope(x, offset=first),
        "offset": rope(x, offset=torch.tensor(first)),
        "positions": rope(x, positions=m),
        "list": rope(x, positions=m.tolist()),
        "rows": rope(x, positions=m[None].int()),
    }
    for way, rotated in ways.items():
        torch.testing.assert_close(rotated, expected, rtol=0, atol=2e-6, msg=lambda text, way=way: way + text)


def test_small_unsigned_positions_do_not_wrap():
    x, rope = torch.randn(1, 3, 1, 8), ours.RotaryEmbedding()
    m = torch.tensor([250, 251, 252])
    torch.testing.assert_close(rope(x, positions=m.to(torch.uint8), offset=100), rope(x, positions=m + 100))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
@pytest.mark.parametrize("positions", [None, torch.arange(2048) + 100_000])
def test_a_mixed_policy_rounds_the_result_alone(policy: str, positions: torch.Tensor | None):
    x = torch.randn(1, 2048, 2, 16)
    low = x.to(getattr(torch, policy.removeprefix("mixed_")))
    rotated = ours.RotaryEmbedding(dtype=policy)(x, positions=positions)
    expected = ours.RotaryEmbedding()(low.float(), positions=positions)
    assert rotated.dtype == low.dtype
    torch.testing.assert_close(rotated, expected.to(low.dtype), rtol=0, atol=0)


def test_order_of_calls_changes_nothing():
    x, rope = torch.randn(2, 9, 2, 8), ours.RotaryEmbedding()
    calls = [{}, {"offset": 4}, {"positions": torch.arange(9) * 3}]
    first = [rope(x, **call) for call in calls]
    again = [rope(x, **call) for call in reversed(calls)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_decoding_equals_the_full_pass():
    q, rope = torch.randn(2, 6, 2, 8), ours.RotaryEmbedding()
    full = rope(q)
    steps = [rope(q[:, i : i + 1], offset=torch.tensor(i)) for i in range(6)]
    torch.testing.assert_close(torch.cat(steps, 1), full, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [ours.RotaryEmbedding, ours.RotaryEmbeddingLayer])
def test_config_round_trip(kind: type):
    options = {
        ours.RotaryEmbedding: {"dim": 6, "base": 500.0, "layout": "half", "sequence_axis": 2},
        ours.RotaryEmbeddingLayer: {"seq_len": 5, "dim": 6, "base": 500.0},
    }[kind]
    layer = kind(**options, name="turn", dtype="mixed_bfloat16")
    config = keras.saving.serialize_keras_object(layer)
    assert config["registered_name"] == f"rope_lab>{kind.__name__}"
    back = keras.saving.deserialize_keras_object(config)
    assert type(back) is kind
    assert back.get_config() == layer.get_config()
    assert {name: getattr(back, name) for name in options} == options
    assert not layer.weights


@keras.saving.register_keras_serializable(package="rope_lab_tests")
class RotaryAttention(keras.layers.Layer):
    """Attention as a user of the layer writes it, inside a layer of their own."""

    def __init__(self, heads: int, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.rope = heads, ours.RotaryEmbedding()

    def build(self, shape):
        self.project = keras.layers.Dense(3 * shape[-1])
        self.project.build(shape)

    def call(self, x, positions=None):
        batch, length, width = ops.shape(x)
        qkv = ops.reshape(self.project(x), (batch, length, 3, self.heads, width // self.heads))
        q, k = self.rope(qkv[:, :, 0], qkv[:, :, 1], positions=positions)
        return ops.reshape(ops.dot_product_attention(q, k, qkv[:, :, 2]), (batch, length, width))

    def compute_output_shape(self, x_shape, positions_shape=None):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "heads": self.heads}


def classifier(attention: bool, length: int | None = 10) -> keras.Model:
    """The tutorial's model: ids, embeddings, their rotation, a transformer block, the mean, a class."""
    ids = keras.Input((length,), dtype="int32")
    x = keras.layers.Embedding(12, 16)(ids)
    if attention:
        mixed = RotaryAttention(2)(x)
    else:
        x = ours.RotaryEmbeddingLayer()(x)
        mixed = keras.layers.MultiHeadAttention(num_heads=2, key_dim=8)(x, x)
    x = keras.layers.LayerNormalization()(x + mixed)
    wide = keras.layers.Dense(32, activation="relu")(x)
    x = keras.layers.LayerNormalization()(x + keras.layers.Dense(16)(wide))
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(ids, keras.layers.Dense(2, activation="softmax")(x))


@pytest.fixture(scope="module")
def words() -> tuple[np.ndarray, np.ndarray]:
    """Sequences whose class is the order of two tokens: the bag of words alone says nothing."""
    rng = np.random.default_rng(0)
    ids = rng.integers(2, 12, (256, 10))
    where = np.sort(np.stack([rng.choice(10, 2, replace=False) for _ in ids]), axis=1)
    label = rng.integers(0, 2, len(ids))
    rows = np.arange(len(ids))
    ids[rows, where[:, 0]], ids[rows, where[:, 1]] = label, 1 - label
    return ids.astype("int32"), label


@pytest.mark.slow
@pytest.mark.parametrize("attention", [False, True], ids=["the tutorial's layer", "queries and keys"])
def test_the_whole_model_fits_saves_and_loads(attention: bool, words, tmp_path: Path):
    keras.utils.set_random_seed(0)
    ids, label = words
    model = classifier(attention)
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(ids, label, batch_size=32, epochs=20, verbose=0).history
    assert history["accuracy"][-1] > 0.8, history["accuracy"]
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    before = model.predict(ids, verbose=0)
    assert model.predict(ids[:1], verbose=0).shape == (1, 2)  # the tutorial's batch of one became ten
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(ids, verbose=0), before)


@pytest.mark.parametrize("attention", [False, True])
def test_a_model_of_unknown_length_takes_any(attention: bool):
    model = classifier(attention, length=None)
    assert [model.predict(np.ones((2, n), "int32"), verbose=0).shape for n in (1, 7)] == [(2, 2)] * 2


def test_positions_are_an_input_of_a_model():
    q, positions = keras.Input((None, 2, 8)), keras.Input((None,), dtype="int32")
    model = keras.Model([q, positions], ours.RotaryEmbedding()(q, positions=positions))
    x, m = torch.randn(3, 5, 2, 8), torch.randint(0, 99, (3, 5))
    torch.testing.assert_close(model([x, m]), ours.RotaryEmbedding()(x, positions=m), rtol=0, atol=0)


def test_a_padding_mask_passes_through():
    embedded = keras.layers.Embedding(5, 8, mask_zero=True)(torch.tensor([[1, 2, 0], [3, 0, 0]]))
    expected = [[True, True, False], [True, False, False]]
    for layer in (ours.RotaryEmbeddingLayer(), ours.RotaryEmbedding()):
        assert layer(embedded)._keras_mask.tolist() == expected


ELSEWHERE = """
import sys, numpy as np, keras
from rope_lab.interop import keras as ours
data, out, jit = dict(np.load(sys.argv[1])), {}, lambda step: step
if keras.backend.backend() == "jax":
    from jax import jit
q, k, m = data["q"], data["k"], data["m"]
for layout in ("interleaved", "half"):
    rope = ours.RotaryEmbedding(6, layout=layout)
    out[layout + "_q"], out[layout + "_k"] = rope(q, k, offset=3)
    out[layout + "_rows"] = jit(lambda k, m: rope(k, positions=m))(k, m)
    out[layout + "_step"] = jit(lambda q, m: rope(q, offset=m))(q, m[0, 0])
    out[layout + "_half"] = np.array(ours.RotaryEmbedding(6, layout=layout, dtype="mixed_float16")(k), "float32")
out["table"] = ours.get_rotary_embedding(9, 8)
model = keras.saving.load_model(sys.argv[2])
out["classes"] = model.predict(data["ids"], verbose=0)
np.savez(sys.argv[3], backend=keras.backend.backend(), **{name: np.array(x) for name, x in out.items()})
"""


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="jax is not installed, and the numpy backend of keras imports it too",
)
@pytest.mark.parametrize("backend", ["jax", "numpy"])
def test_another_backend_gives_the_same(backend: str, tmp_path: Path):
    """Layers, compiled where the backend compiles, and a model saved on torch, loaded there."""
    model, ids = classifier(False), np.arange(40).reshape(4, 10) % 12
    model.save(tmp_path / "model.keras")
    data = {"q": torch.randn(2, 4, 3, 8), "k": torch.randn(2, 9, 1, 8), "m": torch.randint(0, 10**8, (2, 9))}
    np.savez(tmp_path / "in.npz", ids=ids, **{name: x.numpy() for name, x in data.items()})
    files = [tmp_path / name for name in ("in.npz", "model.keras", "out.npz")]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *files],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    q, k, m = data.values()
    expected = {
        "table": ours.get_rotary_embedding(9, 8),
        "classes": model.predict(ids, verbose=0),
        "backend": backend,
    }
    for layout in ("interleaved", "half"):
        rope = ours.RotaryEmbedding(6, layout=layout)
        expected[layout + "_q"], expected[layout + "_k"] = rope(q, k, offset=3)
        expected[layout + "_rows"] = rope(k, positions=m)
        expected[layout + "_step"] = rope(q, offset=int(m[0, 0]))
        expected[layout + "_half"] = rope(k.half().float()).half().float()
    found = np.load(tmp_path / "out.npz")
    assert sorted(found) == sorted(expected)
    assert found["backend"] == expected.pop("backend")
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], np.asarray(value), rtol=0, atol=2e-6, err_msg=name)


def load_anew() -> None:
    """Run the module under another name, as a first import would."""
    spec = importlib.util.spec_from_file_location("first_import", ours.__file__)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def one_line(caught: pytest.ExceptionInfo) -> str:
    (line,) = str(caught.value).splitlines()
    return line


def test_without_keras_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ImportError) as caught:
        load_anew()
    assert one_line(caught) == 'keras 3 is not installed: pip install "rope-lab[keras]"'


def test_without_a_backend_the_error_says_how_to_choose_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With a stand-in for a keras whose backend is missing."""
    (tmp_path / "keras.py").write_text("import a_missing_backend\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "keras")
    with pytest.raises(ImportError) as caught:
        load_anew()
    assert "(No module named 'a_missing_backend'): set KERAS_BACKEND" in one_line(caught)


X = torch.randn(2, 4, 3, 8)


@pytest.mark.parametrize(
    ("call", "error", "names"),
    [
        (lambda: ours.RotaryEmbedding(3), ValueError, "dim must be a positive even integer, got 3"),
        (lambda: ours.RotaryEmbedding(base=0), ValueError, "base must be positive"),
        (lambda: ours.RotaryEmbedding(layout="split"), ValueError, "layout must be one of"),
        (lambda: ours.RotaryEmbedding(sequence_axis=3), ValueError, "sequence_axis must be 1 or 2, got 3"),
        (lambda: ours.RotaryEmbedding(10)(X), ValueError, "dim must be at most .* 8 of q, got 10"),
        (lambda: ours.RotaryEmbedding()(X[..., :7]), ValueError, "must be even and equal, got 7"),
        (lambda: ours.RotaryEmbedding()(X, X[..., :6]), ValueError, "8 of q and 6 of k"),
        (
            lambda: ours.RotaryEmbedding()(X[0, 0]),
            ValueError,
            r"q must have shape \(B, N, H, D\) or \(B, N, D\)",
        ),
        (lambda: ours.RotaryEmbedding()(X, X[:, :, 0]), ValueError, "k must have shape"),
        (
            lambda: ours.RotaryEmbedding(sequence_axis=2)(X[0]),
            ValueError,
            r"q must have shape \(B, H, N, D\), ",
        ),
        (lambda: ours.RotaryEmbedding()(X, X[:, :3]), ValueError, "4 queries and 3 keys"),
        (lambda: ours.RotaryEmbedding()(X[:1], X), ValueError, "same batch, got 1 and 2"),
        (
            lambda: ours.RotaryEmbedding()(X, positions=torch.arange(3)),
            ValueError,
            r"\(4,\) or \(2, 4\), got \(3,\)",
        ),
        (lambda: ours.RotaryEmbedding()(X, positions=torch.arange(4)[None]), ValueError, "positions"),
        (
            lambda: ours.RotaryEmbedding()(X, positions=torch.arange(4.0)),
            ValueError,
            "positions must be integers",
        ),
        (
            lambda: ours.RotaryEmbedding()(X, positions=torch.ones(4).bool()),
            ValueError,
            "positions .* got bool",
        ),
        (lambda: ours.RotaryEmbedding()(X, offset=0.5), ValueError, "offset must be integers"),
        (lambda: ours.RotaryEmbedding()(X, offset=torch.arange(4)), ValueError, "offset must have no axes"),
        (lambda: ours.RotaryEmbedding()(keras.Input((4, 3, 7))), ValueError, "must be even"),
        (lambda: ours.RotaryEmbeddingLayer(0), ValueError, "seq_len must be at least 1"),
        (lambda: ours.RotaryEmbeddingLayer(4, 7), ValueError, "dim must be a positive even"),
        (lambda: ours.RotaryEmbeddingLayer(dim=6)(X[:, :, 0]), ValueError, "dim must .* got 6 and 8"),
        (lambda: ours.RotaryEmbeddingLayer()(X[:, :, 0, :7]), ValueError, "dim must .* and 7"),
        (
            lambda: ours.RotaryEmbeddingLayer(3)(X[:, :, 0]),
            ValueError,
            "seq_len must be at least the 4 tokens",
        ),
        (lambda: ours.RotaryEmbeddingLayer()(X), ValueError, r"inputs must have shape \(B, N, D\)"),
        (lambda: ours.get_rotary_embedding(-1, 8), ValueError, "seq_len must not be negative, got -1"),
        (lambda: ours.get_rotary_embedding(4, 7), ValueError, "dim must be a positive even integer, got 7"),
    ],
)
def test_bad_arguments_are_named(call, error: type, names: str):
    with pytest.raises(error, match=names):
        call()
