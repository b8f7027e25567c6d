"""Families from 2025 on, and DeepSeek-V3."""

import math

from rope_lab.atlas.family import Family, Rotation
from rope_lab.atlas.sources import (
    DEEPSEEK_V3,
    GLM45,
    KIMI,
    KIMI_REPORT,
    LITGPT,
    MIMO,
    QWEN3_5,
    QWEN3_5_CARD,
    QWEN3_NEXT,
    QWEN3_NEXT_CARD,
    SMOLLM3,
    TORCHTUNE_LLAMA4,
    code,
    default,
)
from rope_lab.encodings import Llama3, PositionInterpolation, PRoPE, YaRN

_BELOW_1 = math.nextafter(1.0, 0.0)  # for a beta_slow of 1 where beta_fast is 1: a ramp of no width, a step

ROWS = (
    Family(
        name="DeepSeek-V3", aliases=("deepseek-r1", "deepseek-v3.1"), year=2024, model_type="deepseek_v3",
        base=10_000, head_dim=192, rotated=64, decoupled=True, layout="interleaved", context=163_840,
        scaling=YaRN(40.0, 4096, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0), source=DEEPSEEK_V3,
        elsewhere=(("context", default("DeepseekV32Config")),),
        note="the context is that of DeepSeek-V3.2, and 40 times the length before scaling; equal mscale and "
        "mscale_all_dim leave cosine and sine as they are, as its code does, which scales the scores instead",
    ),
    Family(
        name="Qwen2.5-1M", aliases=("qwen2.5-7b-instruct-1m",), year=2025, model_type="qwen2",
        base=10_000_000, head_dim=128, layout="half", context=1_010_000, source=LITGPT,
    ),
    Family(
        name="Gemma 3 4B", aliases=("gemma-3", "gemma-3-12b"), year=2025, model_type="gemma3_text",
        base=1_000_000, head_dim=256, layout="half", context=131_072, scaling=PositionInterpolation(8.0),
        local=Rotation(10_000, 256), window=1024, source=LITGPT,
    ),
    Family(
        name="Gemma 3 27B", year=2025, model_type="gemma3_text",
        base=1_000_000, head_dim=128, layout="half", context=131_072, scaling=PositionInterpolation(8.0),
        local=Rotation(10_000, 128), window=1024, source=LITGPT,
    ),
    Family(
        name="Llama 4 Scout", aliases=("llama-4",), year=2025, model_type="llama4_text",
        base=500_000, head_dim=128, layout="interleaved", context=131_072, scaling=Llama3(16.0, 1.0, 1.0, 8192),
        chunk=8192, limited=True, without_rope="every 4th", source=default("Llama4TextConfig"),
        elsewhere=(("scaling", TORCHTUNE_LLAMA4),),
        note="the release promises 10,485,760 tokens; the layers without RoPE see all tokens, the others chunks",
    ),
    Family(
        name="Qwen3 8B", aliases=("qwen3",), year=2025, model_type="qwen3",
        base=1_000_000, head_dim=128, layout="half", context=40_960, source=LITGPT,
    ),
    Family(
        name="Qwen3 235B-A22B 2507", aliases=("qwen3-2507",), year=2025, model_type="qwen3_moe",
        base=5_000_000, head_dim=128, layout="half", context=262_144, source=LITGPT,
    ),
    Family(
        name="Gemma 3n E4B", aliases=("gemma-3n",), year=2025, model_type="gemma3n_text",
        base=1_000_000, head_dim=256, layout="half", context=32_768, local=Rotation(10_000, 256), window=512,
        source=default("Gemma3nTextConfig"),
    ),
    Family(
        name="ERNIE 4.5 21B-A3B", aliases=("ernie-4.5",), year=2025, model_type="ernie4_5_moe",
        base=500_000, head_dim=128, layout="interleaved", context=131_072, source=default("Ernie4_5_MoeConfig"),
    ),
    Family(
        name="SmolLM3 3B", aliases=("smollm3",), year=2025, model_type="smollm3",
        base=5_000_000, head_dim=128, layout="half", context=65_536, without_rope="every 4th", source=SMOLLM3,
        elsewhere=(("head_dim", default("SmolLM3Config")),),
    ),
    Family(
        name="FlexOlmo 7x7B", aliases=("flexolmo",), year=2025, model_type="flex_olmo",
        base=500_000, head_dim=128, layout="half", context=4096, source=default("FlexOlmoConfig"),
    ),
    Family(
        name="GLM-4.5", year=2025, model_type="glm4_moe",
        base=1_000_000, head_dim=128, rotated=64, layout="half", context=131_072, source=GLM45,
        elsewhere=(("context", default("Glm4MoeConfig")),),
    ),
    Family(
        name="gpt-oss 20B", aliases=("gpt-oss", "gpt-oss-120b"), year=2025, model_type="gpt_oss",
        base=150_000, head_dim=64, layout="half", context=131_072, window=128,
        scaling=YaRN(32.0, 4096, beta_fast=32.0, beta_slow=1.0, truncate=False), source=default("GptOssConfig"),
    ),
    Family(
        name="Kimi K2 0905", aliases=("kimi-k2",), year=2025, model_type="deepseek_v3",
        base=50_000, head_dim=192, rotated=64, decoupled=True, layout="interleaved", context=262_144,
        scaling=YaRN(64.0, 4096, beta_fast=1.0, beta_slow=_BELOW_1, mscale=1.0, mscale_all_dim=1.0), source=KIMI,
        elsewhere=(("base", KIMI_REPORT), ("scaling", KIMI_REPORT), ("context", KIMI_REPORT)),
        note="the context is 64 times the length before scaling; beta_slow is 1 in its config, a ramp of no width; "
        "its own model type is kimi_k2, of the same code",
    ),
    Family(
        name="LongCat-Flash", year=2025, model_type="longcat_flash",
        base=10_000_000, head_dim=192, rotated=64, decoupled=True, layout="interleaved", context=131_072,
        source=default("LongcatFlashConfig"),
    ),
    Family(
        name="Apertus 8B", aliases=("apertus",), year=2025, model_type="apertus",
        base=12_000_000, head_dim=128, layout="half", context=65_536, scaling=Llama3(8.0, 1.0, 4.0, 8192),
        source=default("ApertusConfig"),
    ),
    Family(
        name="Qwen3-Next 80B-A3B", aliases=("qwen3-next",), year=2025, model_type="qwen3_next",
        base=10_000_000, head_dim=256, rotated=64, layout="half", context=262_144, source=QWEN3_NEXT,
        elsewhere=(("context", QWEN3_NEXT_CARD),),
        note="three layers of four are linear attention, which turns nothing",
    ),
    Family(
        name="CWM 32B", aliases=("code-world-model",), year=2025, model_type="cwm",
        base=1_000_000, head_dim=128, layout="half", context=131_072, window=8192,
        scaling=Llama3(16.0, 1.0, 4.0, 8192), source=default("CwmConfig"),
    ),
    Family(
        name="nanochat d32", aliases=("nanochat",), year=2025, model_type="nanochat",
        base=10_000, head_dim=128, layout="half", context=2048, backwards=True, source=default("NanoChatConfig"),
    ),
    Family(
        name="Ministral 3", aliases=("ministral-3-8b",), year=2025, model_type="ministral3",
        base=1_000_000, head_dim=128, layout="half", context=262_144,
        scaling=YaRN(16.0, 16_384, beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0),
        source=default("Ministral3Config"),
    ),
    Family(
        name="MiMo-V2-Flash", year=2025, model_type="mimo_v2_flash",
        base=5_000_000, head_dim=192, rotated=64, layout="half", context=262_144, local=Rotation(10_000, 192, 64),
        window=129, source=default("MiMoV2FlashConfig"), elsewhere=(("context", MIMO),),
        note="the default of its config class is a context of 131,072; the window is 128 tokens and the query",
    ),
    Family(
        name="Solar Open 100B", aliases=("solar-open",), year=2026, model_type="solar_open",
        base=1_000_000, head_dim=128, layout="half", context=131_072, source=default("SolarOpenConfig"),
    ),
    Family(
        name="Qwen3.5 35B-A3B", aliases=("qwen3.5",), year=2026, model_type="qwen3_5_moe_text",
        base=10_000_000, head_dim=256, rotated=64, layout="half", context=262_144, axes=3, source=QWEN3_5,
        elsewhere=(("context", QWEN3_5_CARD), ("axes", code("qwen3_5_moe.modeling_qwen3_5_moe"))),
        note="three layers of four are linear attention, which turns nothing",
    ),
    Family(
        name="Mistral Small 4", aliases=("mistral-4",), year=2026, model_type="mistral4",
        base=10_000, head_dim=128, rotated=64, decoupled=True, layout="interleaved", context=1_048_576,
        scaling=YaRN(128.0, 8192, beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0),
        source=default("Mistral4Config"),
    ),
    Family(
        name="Gemma 4 E2B", aliases=("gemma-4",), year=2026, model_type="gemma4_text",
        base=1_000_000, head_dim=512, layout="half", context=131_072, scaling=PRoPE(0.25),
        local=Rotation(10_000, 256), window=512, source=default("Gemma4TextConfig"),
    ),
    Family(
        name="Laguna XS.2", aliases=("laguna",), year=2026, model_type="laguna",
        base=500_000, head_dim=128, rotated=64, layout="half", context=131_072, local=Rotation(10_000, 128),
        window=512, source=default("LagunaConfig"),
    ),
    Family(
        name="Hy3", aliases=("hunyuan-3",), year=2026, model_type="hy_v3",
        base=11_158_840, head_dim=128, layout="half", context=131_072, source=default("HYV3Config"),
    ),
    Family(
        name="MiniMax-M3", year=2026, model_type="minimax_m3_vl_text",
        base=5_000_000, head_dim=128, rotated=64, layout="half", context=524_288,
        source=default("MiniMaxM3VLTextConfig"),
        note="the 64 is the rotary_dim of its class, which the code of transformers does not read: without a "
        "partial_rotary_factor in the config it turns whole heads",
    ),
    Family(
        name="LFM3 1.7B", aliases=("lfm3",), year=2026, model_type="lfm3",
        base=1_000_000, head_dim=128, layout="half", context=128_000, scaling=PRoPE(0.5),
        local=Rotation(10_000, 128), window=256, source=default("Lfm3Config"),
    ),
    Family(
        name="Beam 501B-A23B", aliases=("beam",), year=2026, model_type="beam",
        base=10_000, head_dim=128, layout="half", context=8192, window=512, limited=True,
        without_rope="of full attention", source=default("BeamConfig"),
    ),
)  # fmt: skip
