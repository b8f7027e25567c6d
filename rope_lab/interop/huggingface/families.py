"""What was read in the code of each model type of transformers 5.23, and is not written in its config."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# coordinates that form a pair: i and i + D/2; 2i and 2i + 1; the latter, with rotated heads in the order of the former
HALF = _words(
    """
    afmoe apertus arcee aria_text bamba beam bitnet chameleon clvp_decoder clvp_encoder cohere_compass_text
    cohere_compass_vision cosmos3_edge_text csm csm_depth_decoder_model cwm dbrx deepseek_ocr2_encoder
    deepseek_ocr2_text deepseek_ocr2_vision dia_decoder dia_encoder diffllama diffusion_gemma_text dinov3_vit doge dots1
    dots3_note_audio_encoder dots3_note_vision_encoder embedding_gemma2_text emu3_text_model eomt_dinov3
    ernie4_5_vl_moe_vision esm esmc esmfold2 eurobert evolla exaone4 exaone4_5_vision exaone_moe falcon
    falcon_h1 flex_olmo flint gemma gemma2 gemma3_text gemma3n_text gemma4_text gemma4_unified_text glm4_moe
    glm4v_moe_text glm4v_moe_vision glm4v_vision glm5_next_vision glm_image_text glm_ocr_vision glmasr_encoder
    gpt_neox gpt_neox_japanese gpt_oss gradium_phonon_tts granite granite4_vision_text granite_docling_text
    granite_swa granitemoe granitemoe_swa granitemoehybrid granitemoeshared gte higgs_audio_v2 hrm_text
    hunyuan_v1_dense hunyuan_v1_moe hunyuan_vl_text hy_v3 hy_v4 hyperclovax idefics jais2 jetmoe
    jina_embeddings_v3 kimi_k25_vision kolibri1 kyutai_speech_to_text laguna lasr_encoder lfm2 lfm2_moe lfm3
    lfm3_vl_vision llama mellum mimi mimo_v2_flash minicpm3 minimax minimax_m2 minimax_m3_vl_text
    minimax_m3_vl_vision ministral ministral3 mistral mixtral mlcd_vision_model mllama_text_model modernbert
    modernbert-decoder molmo2_text moshi moshi_depth muse_glimmer_assistant muse_glimmer_text
    muse_glimmer_vision muse_spark_text muse_spark_vision nanochat nemotron nemotron3_5_transcribe_asr_audio
    nemotron3_diarization_audio nemotron_asr_streaming_encoder neomme neucodec nomic_bert olmo olmo2 olmo3
    olmo_hybrid olmoe paddleocr_vl_text paddleocr_vl_vision parakeet_encoder persimmon phi phi3 phi4_multimodal
    phimoe pixtral pocket_tts pocket_tts_audio_tokenizer qwen2 qwen2_5_omni_talker qwen2_5_omni_text
    qwen2_5_omni_vision_encoder qwen2_5_vl_text qwen2_5_vl_vision qwen2_moe qwen2_vl_text qwen2_vl_vision qwen3
    qwen3_5_moe_text qwen3_5_moe_vision qwen3_5_text qwen3_5_vision qwen3_moe qwen3_next qwen3_omni_moe_code2wav
    qwen3_omni_moe_talker_code_predictor qwen3_omni_moe_talker_text qwen3_omni_moe_text
    qwen3_omni_moe_vision_encoder qwen3_vl_moe_text qwen3_vl_moe_vision qwen3_vl_text qwen3_vl_vision
    qwen4_exp_text qwen4_exp_vision recurrent_gemma sapiens2 seamless_m4t seed_oss smollm3 solar_open stablelm
    starcoder2 step3p5 step3p5_vision t5_gemma_module t5gemma2_decoder t5gemma2_text timesfm2_5 ultrabert
    unlimited_ocr_text vaultgemma video_llama_3_vision voxtral_realtime_encoder voxtral_realtime_text
    wav2vec2-bert wav2vec2-conformer xcodec2 zamba2 zaya
    """
)
INTERLEAVED = _words(
    """
    blt_global_transformer blt_local_decoder blt_local_encoder blt_patcher codegen cohere cohere2 cohere2_moe
    deepseek_v2 deepseek_v4 edgetam_video efficientloftr ernie4_5 ernie4_5_moe ernie4_5_vl_moe_text glm glm4
    glm4v_text glm_ocr_text gptj helium inkling2_vision lightglue llama4_text llama4_vision_model moonshine
    moonshine_streaming openai_privacy_filter pe_audio_encoder pe_audio_video_encoder pe_video_encoder roformer
    sam2_video sam3_tracker_video sam3_vit_model
    """
)
REORDERED = _words(
    """
    axk1 axk2 bailing_hybrid deepseek_v3 deepseek_v32 dots3_note_text glm4_moe_lite glm_moe_dsa longcat_flash
    mistral4 mistral_large4_text qwen2_5_omni_dit youtu
    """
)
NEITHER = {
    "gemma4_vision": "its two axes rotate one half of a head each",
    "musicflamingo": "it rotates hidden states by the time of an audio frame",
    "vjepa2": "the two coordinates of a pair turn by different angles",
}
SWITCHED = {"axk1", "deepseek_v3", "glm4_moe_lite", "mistral4", "youtu"}  # half if `rope_interleave` is False

# read `partial_rotary_factor` even where nothing is scaled
PARTIAL = _words(
    """
    bamba codegen deepseek_v4 diffusion_gemma_text dots3_note_audio_encoder dots3_note_text efficientloftr glm
    glm4 glm4_moe glm4_moe_lite glm4v_moe_text glm4v_text glm_image_text glm_ocr_text glmasr_encoder gpt_neox
    gpt_neox_japanese gptj laguna mellum mimo_v2_flash minimax_m2 minimax_m3_vl_text moonshine
    moonshine_streaming nemotron nemotron3_5_transcribe_asr_audio nemotron3_diarization_audio neomme persimmon
    phi phi3 phi4_multimodal qwen3_5_moe_text qwen3_5_text qwen3_next qwen4_exp_text recurrent_gemma solar_open
    stablelm step3p5 zaya
    """
)
WHOLE_BY_DEFAULT = {  # of these, those that turn whole heads, or have another field, if it is missing
    *("codegen", "glm4_moe_lite", "gpt_neox_japanese", "gptj", "phi3", "phi4_multimodal", "solar_open"),
}
BASE_IN_CODE = {
    "codegen",
    "gptj",
    "llama",
    "roformer",
}  # 10,000: there is no field, or files are older than it
SLIDING_UNSCALED = {"olmo3"}  # in transformers 4, `rope_scaling` is for layers of full attention
BACKWARDS = {"nanochat"}  # turn by −θ_i

# positions have several coordinates
MROPE = _words(
    """
    cohere_compass_text cosmos3_edge_text ernie4_5_vl_moe_text glm4v_moe_text glm4v_text glm_image_text
    glm_ocr_text hunyuan_vl_text paddleocr_vl_text qwen2_5_omni_talker qwen2_5_omni_text qwen2_5_vl_text
    qwen2_vl_text qwen3_5_moe_text qwen3_5_text qwen3_omni_moe_talker_text qwen3_omni_moe_text qwen3_vl_moe_text
    qwen3_vl_text qwen4_exp_text
    """
)
TWO_HALVES = {
    "dinov3_vit",
    "eomt_dinov3",
    "sapiens2",
}  # frequencies of an axis as for "axial", whatever the config says
GRIDS = TWO_HALVES | {"efficientloftr", "esmfold2", "lightglue", "llama4_vision_model", "neomme", "vjepa2"}

OTHERWISE = {  # rotate other things than all queries and keys by the positions of their tokens
    "clvp_decoder": "values turn too",
    "clvp_encoder": "values turn too",
    "neucodec": "each head turns by its own number instead of the token's position",
    "qwen2_5_omni_dit": "only the first head turns",
    "seamless_m4t": "hidden states turn before they are projected",
    "wav2vec2-bert": "hidden states turn before they are projected",
    "wav2vec2-conformer": "hidden states turn before they are projected",
    "xcodec2": "each head turns by its own number instead of the token's position",
}
CHANGED = {
    "ernie4_5_vl_moe_text": "the first pairs go to height and width in turn",
    "minimax_m3_vl_vision": "a head is divided into three axes and a rest",
    "mistral_large4_text": "each is multiplied by a number stored with the weights",
    "musicflamingo": "angles are times in seconds",
    "pixtral": "pairs go to height and width in turn",
}
