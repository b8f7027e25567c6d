"""Families of 2021 to 2023."""

from rope_lab.atlas.family import Family
from rope_lab.atlas.sources import LITGPT, MLC, ROFORMER, code, default
from rope_lab.encodings import PositionInterpolation

ROWS = (
    Family(
        name="RoFormer", aliases=("roformer-chinese-base",), year=2021, model_type="roformer",
        base=10_000, head_dim=64, layout="interleaved", context=1536,
        source=default("RoFormerConfig"), elsewhere=(("base", ROFORMER),),
    ),
    Family(
        name="GPT-J 6B", aliases=("gpt-j",), year=2021, model_type="gptj",
        base=10_000, head_dim=256, rotated=64, layout="interleaved", context=2048,
        source=default("GPTJConfig"), elsewhere=(("base", code("gptj.modeling_gptj")),),
    ),
    Family(
        name="GPT-NeoX 20B", aliases=("gpt-neox",), year=2022, model_type="gpt_neox",
        base=10_000, head_dim=96, rotated=24, layout="half", context=2048, source=default("GPTNeoXConfig"),
    ),
    Family(
        name="CodeGen 6B", aliases=("codegen",), year=2022, model_type="codegen",
        base=10_000, head_dim=256, rotated=64, layout="interleaved", context=2048,
        source=default("CodeGenConfig"), elsewhere=(("base", code("codegen.modeling_codegen")),),
    ),
    Family(
        name="Pythia 1.4B", aliases=("pythia",), year=2023, model_type="gpt_neox",
        base=10_000, head_dim=128, rotated=32, layout="half", context=2048, source=LITGPT,
    ),
    Family(
        name="LLaMA", aliases=("llama-1",), year=2023, model_type="llama",
        base=10_000, head_dim=128, layout="half", context=2048, source=default("LlamaConfig"),
    ),
    Family(
        name="OpenLLaMA 7B", aliases=("open-llama",), year=2023, model_type="llama",
        base=10_000, head_dim=128, layout="half", context=2048, source=LITGPT,
    ),
    Family(
        name="Llama 2", aliases=("llama-2-7b", "llama-2-70b"), year=2023, model_type="llama",
        base=10_000, head_dim=128, layout="half", context=4096, source=LITGPT,
    ),
    Family(
        name="Code Llama", aliases=("codellama",), year=2023, model_type="llama",
        base=1_000_000, head_dim=128, layout="half", context=16_384, source=LITGPT,
    ),
    Family(
        name="LLaMA-2-7B-32K", aliases=("together-32k",), year=2023, model_type="llama",
        base=10_000, head_dim=128, layout="half", context=32_768, scaling=PositionInterpolation(8.0),
        source=LITGPT, note="the context is 8 times the 4,096 tokens of Llama 2",
    ),
    Family(
        name="RedPajama 3B", aliases=("redpajama-incite-3b",), year=2023, model_type="gpt_neox",
        base=10_000, head_dim=80, rotated=80, layout="half", context=2048, source=MLC,
    ),
    Family(
        name="Falcon 7B", aliases=("falcon",), year=2023, model_type="falcon",
        base=10_000, head_dim=64, layout="half", context=2048, source=default("FalconConfig"),
    ),
    Family(
        name="Phi-1", aliases=("phi-1-5",), year=2023, model_type="phi",
        base=10_000, head_dim=64, rotated=32, layout="half", context=2048, source=default("PhiConfig"),
    ),
    Family(
        name="Phi-2", year=2023, model_type="phi",
        base=10_000, head_dim=80, rotated=32, layout="half", context=2048, source=LITGPT,
    ),
    Family(
        name="StableLM 3B", aliases=("stablelm-3b-4e1t",), year=2023, model_type="stablelm",
        base=10_000, head_dim=80, rotated=20, layout="half", context=4096, source=default("StableLmConfig"),
    ),
    Family(
        name="Mistral 7B v0.1", aliases=("mistral-7b",), year=2023, model_type="mistral",
        base=10_000, head_dim=128, layout="half", context=32_768, window=4096, limited=True,
        source=MLC,
    ),
    Family(
        name="Mixtral 8x7B", aliases=("mixtral",), year=2023, model_type="mixtral",
        base=1_000_000, head_dim=128, layout="half", context=32_768, source=LITGPT,
    ),
    Family(
        name="Nemotron-3 8B", aliases=("nemotron-3-8b",), year=2023, model_type="nemotron",
        base=10_000, head_dim=128, rotated=64, layout="half", context=4096, source=default("NemotronConfig"),
    ),
)  # fmt: skip
