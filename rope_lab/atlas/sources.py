"""Where the numbers of the rows are from. Repositories are named with the commit at which the file was read."""

from rope_lab.atlas.family import Source


def default(name: str) -> Source:
    """The default of a config class of transformers 5.23."""
    return Source("class", name)


def code(name: str) -> Source:
    """A constant in the code of transformers 5.23."""
    return Source("code", f"transformers.models.{name}")


LITGPT = Source("file", "github.com/Lightning-AI/litgpt, litgpt/config.py, 0006c973")
MLC = Source("file", "github.com/mlc-ai/mlc-llm, python/mlc_llm/model/model_preset.py, 01ced331")
SLIME = "github.com/THUDM/slime, scripts/models/"
GLM45 = Source("file", "github.com/zyzshishui/slime, scripts/models/glm4.5-355B-A32B.sh, ffec5340")
KIMI = Source("file", "github.com/zyzshishui/slime, scripts/models/kimi-k2.sh, 34bba0b8")
KIMI_REPORT = Source(
    "text", "github.com/ParagEkbote/hf-model-inspector, model_inspection_report.md, 45476474"
)
QWEN3_NEXT = Source("file", SLIME + "qwen3-next-80B-A3B.sh, af61a8ec")
QWEN3_5 = Source("file", SLIME + "qwen3.5-35B-A3B.sh, 10cefc3b")
XINFERENCE = "github.com/xorbitsai/inference, doc/source/models/builtin/llm/"
QWEN3_NEXT_CARD = Source("text", XINFERENCE + "qwen3-next-instruct.rst, 114ac52d")
QWEN3_5_CARD = Source("text", XINFERENCE + "qwen3.5.rst, 1f8bd91e")
SMOLLM3 = Source("text", "github.com/huggingface/blog, smollm3.md, 124475da")
TORCHTUNE_LLAMA4 = Source(
    "file", "github.com/pytorch/torchtune, torchtune/models/llama4/_position_embeddings.py, 36721730"
)
DEEPSEEK_V3 = Source("file", "github.com/deepseek-ai/DeepSeek-V3, inference/model.py, 013e2213")
MIMO = Source(
    "text", "github.com/huggingface/transformers, docs/source/en/model_doc/mimo_v2_flash.md, 01b6bdc4"
)
ROFORMER = Source("paper", "arXiv:2104.09864, section 3.2.2")
