"""A Llama of ours against the same checkpoint loaded by transformers; nothing is downloaded."""

import json
import signal
import sys
from dataclasses import asdict, replace

import pytest
import safetensors
import torch
import transformers
from runs import corpus, tiny
from torch import Tensor

from rope_lab import NoPE, RoFormer, RoFormerConfig, RotaryEmbedding
from rope_lab.encodings import ALiBi, PositionInterpolation
from rope_lab.interop.huggingface import convert_layout, export_llama, import_llama
from rope_lab.training import sample, train

V, N = 23, 32
SMALL = {"context": 64, "dim": 48, "depth": 3, "heads": 4}
KINDS = {
    "as it comes": {},
    "grouped": {"kv_heads": 2},
    "one key head, tied": {"kv_heads": 1, "tied": True},
    "another base": {"base": 500_000.0},
    "interleaved": {"layout": "interleaved"},
    "interleaved, grouped": {"layout": "interleaved", "kv_heads": 2},
    "usual eps": {"norm_eps": None},
    "an eps that is seen": {"norm_eps": 0.1},
    "wide": {"ff_mult": 3.1, "ff_multiple": 256},
    "dropout": {"dropout": 0.3},
}


def llama(**fields) -> RoFormer:
    """Every weight drawn anew, those of norms too, so large that attention looks at something."""
    torch.manual_seed(0)
    model = RoFormer(RoFormerConfig.llama(V, **(SMALL | fields))).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=p.shape[-1] ** -0.5) if p.ndim == 2 else p.uniform_(0.5, 1.5)
    return model


def tokens(vocab_size: int = V) -> Tensor:
    return torch.randint(vocab_size, (3, N), generator=torch.Generator().manual_seed(1))


def loaded(model: RoFormer, folder, **options) -> transformers.LlamaForCausalLM:
    export_llama(model, folder)
    theirs, report = transformers.LlamaForCausalLM.from_pretrained(
        folder, output_loading_info=True, **options
    )
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return theirs.eval()


def agree(model: RoFormer, theirs: transformers.LlamaForCausalLM, ids: Tensor) -> None:
    """In the logits of a full pass, and in the text that each writes without chance."""
    with torch.no_grad():
        ours, its = model(ids), theirs(ids).logits
    assert ours.std() > 0.1
    torch.testing.assert_close(ours, its, rtol=0, atol=1e-5)
    prompt, count = ids[:1, :5], model.config.context - 5
    written = theirs.generate(prompt, max_new_tokens=count, do_sample=False)[0, 5:]
    assert written.tolist() == [*sample(model, prompt[0].tolist(), count, temperature=0)]


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_it_to_the_same_logits_and_text(kind, tmp_path):
    model = llama(**KINDS[kind])
    theirs = loaded(model, tmp_path)
    assert theirs.dtype == torch.float32
    agree(model, theirs, tokens())


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_a_trained_one_too(layout, tmp_path):
    config = tiny().change(architecture="llama", layout=layout, steps=30, context=32)
    run = train(config, corpus(), quiet=True)
    assert run.val < 2.8  # of the 3.3 that an even guess costs
    agree(run.model.eval(), loaded(run.model, tmp_path), tokens(run.model.config.vocab_size))


def test_training_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    config = tiny().change(architecture="llama", kv_heads=1)
    whole = train(config, corpus(), quiet=True)
    module = sys.modules[train.__module__]
    original = module.set_learning_rates

    def stop(optimizers, config, now):
        original(optimizers, config, now)
        if now == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(module, "set_learning_rates", stop)
    with pytest.raises(KeyboardInterrupt):
        train(config, corpus(), folder=tmp_path, quiet=True)
    monkeypatch.undo()
    resumed = train(config, corpus(), folder=tmp_path, resume=True, quiet=True)
    for mine, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_weights_keep_their_dtype(dtype, tmp_path):
    model = llama(kv_heads=2).to(dtype)
    theirs = loaded(model, tmp_path)
    assert {p.dtype for p in theirs.parameters()} == {dtype}
    agree(model.float(), theirs.float(), tokens())


def test_gradients_equal_theirs(tmp_path):
    model = llama(kv_heads=2, tied=True)
    theirs, ids = loaded(model, tmp_path), tokens()
    for logits in (model(ids), theirs(ids).logits):
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    block, layer = model.blocks[1], theirs.model.layers[1]
    pairs = [
        (model.embedding, theirs.model.embed_tokens),
        (model.norm, theirs.model.norm),
        (block.attention_norm, layer.input_layernorm),
        (block.feed_forward_norm, layer.post_attention_layernorm),
        (block.attention.query, layer.self_attn.q_proj),
        (block.attention.out, layer.self_attn.o_proj),
        (block.gate, layer.mlp.gate_proj),
        (block.up, layer.mlp.up_proj),
        (block.down, layer.mlp.down_proj),
    ]
    for mine, other in pairs:
        assert mine.weight.grad.abs().max() > 1e-3
        torch.testing.assert_close(mine.weight.grad, other.weight.grad, rtol=1e-4, atol=1e-6)


def test_it_leaves_the_model_alone(tmp_path):
    model = llama(layout="interleaved").train()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    export_llama(model, tmp_path / "a" / "b")
    assert model.training
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def test_the_sizes_are_those_of_llama():
    """7B as it was published: its feed-forward width comes from the rule."""
    config = RoFormerConfig.llama(32_000, dim=4096, depth=32, heads=32, ff_multiple=256)
    published = transformers.LlamaConfig()
    assert config.ff_width == published.intermediate_size == 11_008
    assert (config.vocab_size, config.dim) == (published.vocab_size, published.hidden_size)
    assert RoFormerConfig.llama(65, dim=96).ff_width == 256  # 8/3, a whole number here
    assert RoFormerConfig.llama(65, dim=80).ff_width == 216


def test_a_model_of_ones_own_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"^model must be a RoFormer, got Linear$"):
        export_llama(torch.nn.Linear(3, 3), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_characters_stand_beside_it(tmp_path):
    characters = sorted("abcdefghijklmnopqrstuv\n")
    files = export_llama(llama(), tmp_path, vocab=characters)
    assert sorted(files) == sorted(tmp_path.iterdir())
    assert json.loads((tmp_path / "characters.json").read_text("utf-8")) == characters
    with pytest.raises(ValueError, match=r"^vocab must hold 23 characters, got 2$"):
        export_llama(llama(), tmp_path / "other", vocab="ab")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"qk_norm": True}, "qk_norm must be False in a Llama, got True"),
        ({"activation": "relu2"}, "activation must be 'swiglu' in a Llama, got 'relu2'"),
        ({"bias": True}, "bias must be False in a Llama, got True"),
        ({"window": 8}, "window must be None in a Llama, got 8"),
        ({"causal": False}, "causal must be True in a Llama, got False"),
        ({"norm": "layer"}, "norm must be 'rms' in a Llama, got 'layer'"),
        ({"post_norm": True}, "post_norm must be False in a Llama, got True"),
        ({"proportion": 0.5}, "proportion must be 1.0 in a Llama, got 0.5"),
        ({"rotary_dim": 8}, "rotary_dim must be 12, a whole head, in a Llama, got 8"),
        *(
            ({"position": word}, f"position must be 'rope' in a Llama, got a model with {name}")
            for word, name in {
                "learned": "LearnedEmbedding",
                "sinusoidal": "SinusoidalEmbedding",
                "xpos": "XPos",
                "roper": "RotaryValueEmbedding",
                "t5": "T5Bias",
                "alibi": "ALiBi",
                "none": "NoPE",
            }.items()
        ),
    ],
    ids=str,
)
def test_what_is_no_llama_is_refused_by_the_name_of_the_field(fields, message, tmp_path):
    with pytest.raises(
        ValueError, match=f"^{message}(; RoFormerConfig.llama and .* --architecture llama.*)?$"
    ):
        export_llama(llama(**fields), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("position", "said"),
    [
        (ALiBi(4), "ALiBi"),
        (NoPE(), "NoPE"),
        (RotaryEmbedding(12, scaling=PositionInterpolation(4.0)), "scaling"),
        (RotaryEmbedding(12, learned=True), "learned_freqs"),
        (RotaryEmbedding(12, freqs=torch.ones(6)), "custom_freqs"),
        (RotaryEmbedding(12, heads=2), "heads"),
        (RotaryEmbedding(8), "rotary_dim"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_encoding_given_to_the_model_is_looked_at(position, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        export_llama(RoFormer(RoFormerConfig.llama(V, **SMALL), position=position), tmp_path)


def test_a_plain_rotation_given_to_the_model_is_what_is_written(tmp_path):
    model = RoFormer(llama().config, position=RotaryEmbedding(12, base=77.0, layout="interleaved")).eval()
    model.load_state_dict(llama().state_dict())
    agree(model, loaded(model, tmp_path), tokens())


def test_nothing_is_overwritten_and_nothing_is_left_half(tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    for name in ("full", "full/note"):
        with pytest.raises(ValueError, match=rf"^folder must be new or empty, got '.*{name}'$"):
            export_llama(llama(), tmp_path / name)
    assert (tmp_path / "full" / "note").read_text() == "mine"

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="No space left"):
        export_llama(llama(), tmp_path / "new" / "inside")
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError, match="No space left"):
        export_llama(llama(), tmp_path / "empty")
    assert not any((tmp_path / "empty").iterdir())


def test_a_full_disk_is_the_error_of_the_system_and_leaves_no_folder(tmp_path, monkeypatch):
    """safetensors raises an error of its own, whose text ends with the number of the system's."""

    def full(*_, **__):
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: '.*model\.safetensors'$"):
        export_llama(llama(), tmp_path / "new")
    assert not (tmp_path / "new").exists()

    def broken(*_, **__):
        raise safetensors.SafetensorError("something else")

    monkeypatch.setattr("safetensors.torch.save_file", broken)
    with pytest.raises(safetensors.SafetensorError, match=r"^something else$"):
        export_llama(llama(), tmp_path / "new")


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_exported_comes_back_with_the_same_logits(kind, tmp_path):
    model = llama(**KINDS[kind])
    export_llama(model, tmp_path)
    back = import_llama(tmp_path)
    changed = {"dropout": 0.0, "layout": "half", "ff_mult": back.config.ff_mult, "ff_multiple": 1}
    changed |= {"norm_eps": model.norm.eps}
    assert back.config == replace(model.config, **changed)
    assert back.config.ff_width == model.config.ff_width
    with torch.no_grad():
        torch.testing.assert_close(back(tokens()), model(tokens()), rtol=0, atol=1e-5)


SCALED = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
SCALED |= {"original_max_position_embeddings": 16}
THEIRS = {
    "vocab_size": V,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 80,
}


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize(
    "fields", [{}, {"rope_parameters": SCALED}, {"num_key_value_heads": 2, "dtype": "bfloat16"}]
)
def test_a_llama_of_transformers_becomes_a_roformer(fields, layout, tmp_path):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **THEIRS, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, **fields
    )
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        expected = theirs(tokens()).logits
    convert_layout(theirs, layout)
    theirs.save_pretrained(tmp_path)
    for source in (theirs, tmp_path):
        ours = import_llama(source)
        assert ours.position.layout == layout
        assert not ours.training
        with torch.no_grad():
            logits = ours(tokens())
        assert logits.dtype == expected.dtype
        if expected.dtype == torch.float32:
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_what_is_no_llama_is_not_imported(tmp_path):
    config = transformers.LlamaConfig(**THEIRS, bos_token_id=1, eos_token_id=2)
    model = transformers.LlamaForCausalLM(config)
    for name, value, message in (
        (
            "attention_bias",
            True,
            "^attention_bias must be False in a Llama that becomes a RoFormer, got True$",
        ),
        ("hidden_act", "gelu", "^hidden_act must be 'silu'"),
        ("model_type", "mistral", "^source must be a Llama, got LlamaConfig of model type 'mistral'$"),
        ("head_dim", 16, "^head_dim must be hidden_size / heads = 12, got 16$"),
        (
            "num_hidden_layers",
            1,
            r"^source must hold the tensors of a Llama, but has 'model\.layers\.1\..*'$",
        ),
        ("num_hidden_layers", 3, "^source must hold this model's parameters, but lacks"),
    ):
        before = getattr(config, name)
        setattr(config, name, value)
        with pytest.raises(ValueError, match=message):
            import_llama(model)
        setattr(config, name, before)
    with pytest.raises(FileNotFoundError, match=r"^source must hold config\.json and \*\.safetensors"):
        import_llama(tmp_path)


def test_an_architecture_is_a_name_for_its_fields():
    config = tiny().change(architecture="llama")
    assert config.architecture(
        V
    ) == RoFormerConfig.llama(  # without QK-norm the preset's gain has nothing to scale
        V, context=16, dim=16, depth=1, heads=2, qk_gain=True, dropout=0.1, attention_dropout=0.1
    )
    assert all(block.attention.gain is None for block in RoFormer(config.architecture(V)).blocks)
    assert config.change(architecture="roformer").architecture(V) == tiny().architecture(V)
    assert config.change(qk_norm=True).architecture(V).qk_norm
    assert tiny().change(architecture="llama", layout="interleaved").architecture(V).layout == "interleaved"
    assert asdict(config.change(steps=7))["model"] == config.model
    with pytest.raises(ValueError, match=r"^architecture must be one of roformer, llama, got 'gpt'$"):
        tiny().change(architecture="gpt")
