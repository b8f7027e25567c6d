"""Families of 2024 and of January and February 2025."""

from rope_lab.atlas.factors import PHI_3_5, PHI_4_MINI
from rope_lab.atlas.family import Family, Rotation
from rope_lab.atlas.sources import LITGPT, MLC, code, default
from rope_lab.encodings import Llama3, YaRN

ROWS = (
    Family(
        name="TinyLlama 1.1B", aliases=("tinyllama",), year=2024, model_type="llama",
        base=10_000, head_dim=64, layout="half", context=2048, source=LITGPT,
    ),
    Family(
        name="OLMo 7B", aliases=("olmo",), year=2024, model_type="olmo",
        base=10_000, head_dim=128, layout="half", context=2048, source=LITGPT,
    ),
    Family(
        name="Gemma 7B", aliases=("gemma", "gemma-1"), year=2024, model_type="gemma",
        base=10_000, head_dim=256, layout="half", context=8192, source=default("GemmaConfig"),
    ),
    Family(
        name="Nomic Embed", aliases=("nomic-bert",), year=2024, model_type="nomic_bert",
        base=1_000, head_dim=64, layout="half", context=2048, source=default("NomicBertConfig"),
    ),
    Family(
        name="StarCoder2 7B", aliases=("starcoder2",), year=2024, model_type="starcoder2",
        base=1_000_000, head_dim=128, layout="half", context=16_384, window=4096, limited=True,
        source=MLC,
    ),
    Family(
        name="JetMoE 8B", aliases=("jetmoe",), year=2024, model_type="jetmoe",
        base=10_000, head_dim=128, layout="half", context=4096, source=default("JetMoeConfig"),
    ),
    Family(
        name="RecurrentGemma 2B", aliases=("recurrentgemma", "griffin"), year=2024, model_type="recurrent_gemma",
        base=10_000, head_dim=256, rotated=128, layout="half", context=None, window=2048, limited=True,
        source=default("RecurrentGemmaConfig"),
        note="its config states no context, because two layers of three are recurrent and the third has a window",
    ),
    Family(
        name="Llama 3", aliases=("llama-3-8b", "llama-3-70b"), year=2024, model_type="llama",
        base=500_000, head_dim=128, layout="half", context=8192, source=LITGPT,
    ),
    Family(
        name="Phi-3 mini 4K", aliases=("phi-3", "phi-3-mini-4k-instruct"), year=2024, model_type="phi3",
        base=10_000, head_dim=96, layout="half", context=4096, source=default("Phi3Config"),
    ),
    Family(
        name="DeepSeek-V2 Lite", aliases=("deepseek-v2",), year=2024, model_type="deepseek_v2",
        base=10_000, head_dim=192, rotated=64, decoupled=True, layout="interleaved", context=163_840,
        scaling=YaRN(40.0, 4096, beta_fast=32, beta_slow=1, mscale=0.707, mscale_all_dim=0.707), source=MLC,
    ),
    Family(
        name="Aya 23 8B", aliases=("aya-23",), year=2024, model_type="cohere",
        base=10_000, head_dim=128, layout="interleaved", context=8192, source=MLC,
    ),
    Family(
        name="Mistral 7B v0.3", year=2024, model_type="mistral",
        base=1_000_000, head_dim=128, layout="half", context=32_768, source=MLC,
    ),
    Family(
        name="Qwen2 7B", aliases=("qwen2",), year=2024, model_type="qwen2",
        base=1_000_000, head_dim=128, layout="half", context=32_768, source=MLC,
    ),
    Family(
        name="Gemma 2 2B", aliases=("gemma-2", "gemma-2-9b"), year=2024, model_type="gemma2",
        base=10_000, head_dim=256, layout="half", context=8192, window=4096, source=default("Gemma2Config"),
    ),
    Family(
        name="Llama 3.1", aliases=("llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b", "llama-3.3"), year=2024,
        model_type="llama", base=500_000, head_dim=128, layout="half", context=131_072,
        scaling=Llama3(8.0, 1.0, 4.0, 8192), source=LITGPT,
    ),
    Family(
        name="Llama 3.2 1B", aliases=("llama-3.2",), year=2024, model_type="llama",
        base=500_000, head_dim=64, layout="half", context=131_072, scaling=Llama3(32.0, 1.0, 4.0, 8192),
        source=LITGPT,
    ),
    Family(
        name="Llama 3.2 3B", year=2024, model_type="llama",
        base=500_000, head_dim=128, layout="half", context=131_072, scaling=Llama3(32.0, 1.0, 4.0, 8192),
        source=LITGPT,
    ),
    Family(
        name="GTE multilingual", aliases=("gte-multilingual-base",), year=2024, model_type="gte",
        base=160_000, head_dim=64, layout="half", context=8192, source=default("GteConfig"),
    ),
    Family(
        name="Phi-3.5 mini", aliases=("phi-3.5", "phi-3.5-mini-instruct"), year=2024, model_type="phi3",
        base=10_000, head_dim=96, layout="half", context=131_072, scaling=PHI_3_5, source=MLC,
    ),
    Family(
        name="OLMoE 1B-7B", aliases=("olmoe",), year=2024, model_type="olmoe",
        base=10_000, head_dim=128, layout="half", context=4096, source=default("OlmoeConfig"),
    ),
    Family(
        name="Jina Embeddings v3", aliases=("jina-embeddings-v3",), year=2024, model_type="jina_embeddings_v3",
        base=20_000, head_dim=64, layout="half", context=8194, source=default("JinaEmbeddingsV3Config"),
    ),
    Family(
        name="Moshi", year=2024, model_type="moshi",
        base=10_000, head_dim=128, layout="half", context=3000, window=3000, limited=True,
        source=default("MoshiConfig"),
    ),
    Family(
        name="Qwen2-VL 72B", aliases=("qwen2-vl",), year=2024, model_type="qwen2_vl_text",
        base=1_000_000, head_dim=128, layout="half", context=32_768, axes=3, source=default("Qwen2VLTextConfig"),
        elsewhere=(("axes", code("qwen2_vl.modeling_qwen2_vl")),),
    ),
    Family(
        name="Qwen2.5 7B", aliases=("qwen2.5", "qwq-32b"), year=2024, model_type="qwen2",
        base=1_000_000, head_dim=128, layout="half", context=131_072, source=LITGPT,
    ),
    Family(
        name="SmolLM2 1.7B", aliases=("smollm2",), year=2024, model_type="llama",
        base=130_000, head_dim=64, layout="half", context=8192, source=LITGPT,
    ),
    Family(
        name="OLMo 2 7B", aliases=("olmo-2",), year=2024, model_type="olmo2",
        base=500_000, head_dim=128, layout="half", context=4096, source=LITGPT,
    ),
    Family(
        name="Falcon 3 7B", aliases=("falcon-3",), year=2024, model_type="llama",
        base=1_000_042, head_dim=256, layout="half", context=32_768, source=LITGPT,
    ),
    Family(
        name="Phi-4", year=2024, model_type="phi3",
        base=250_000, head_dim=128, layout="half", context=16_384, source=LITGPT,
    ),
    Family(
        name="ModernBERT base", aliases=("modernbert",), year=2024, model_type="modernbert",
        base=160_000, head_dim=64, layout="half", context=8192, local=Rotation(10_000, 64), window=128,
        source=default("ModernBertConfig"),
        note="an encoder: the window is its local_attention; a query sees itself and up to 64 tokens on each side",
    ),
    Family(
        name="Phi-4 mini", aliases=("phi-4-mini-instruct",), year=2025, model_type="phi3",
        base=10_000, head_dim=128, rotated=96, layout="half", context=131_072, scaling=PHI_4_MINI, source=MLC,
    ),
    Family(
        name="Helium 1", aliases=("helium",), year=2025, model_type="helium",
        base=100_000, head_dim=128, layout="interleaved", context=4096, source=default("HeliumConfig"),
    ),
)  # fmt: skip
