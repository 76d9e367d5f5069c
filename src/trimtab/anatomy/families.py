"""Which anatomy knows which architecture: ``config.model_type`` to "module:Class", or to "module:function" where that
says it of a model (a name that stands for several)."""

from __future__ import annotations

FAMILIES = {
    "bert": "trimtab.anatomy.bert:Bert",
    "clip": "trimtab.anatomy.clip:Clip",
    "dinov2": "trimtab.anatomy.dinov2:Dinov2",
    "gemma3": "trimtab.anatomy.gemma3vision:gemma3",
    "gemma3_text": "trimtab.anatomy.gemma:Gemma",
    "gpt_neox": "trimtab.anatomy.gptneox:GptNeoX",
    "idefics3": "trimtab.anatomy.idefics3:Idefics3",
    "internvl": "trimtab.anatomy.internvl:Internvl",
    "llama": "trimtab.anatomy.llama:Llama",
    "llava": "trimtab.anatomy.llava:Llava",
    "llava_next": "trimtab.anatomy.llavanext:LlavaNext",
    "llava_onevision": "trimtab.anatomy.llavaonevision:LlavaOnevision",
    "mistral": "trimtab.anatomy.llama:Llama",
    "opt": "trimtab.anatomy.opt:Opt",
    "paligemma": "trimtab.anatomy.paligemma:PaliGemma",
    "phi": "trimtab.anatomy.phi:Phi",
    "phi3": "trimtab.anatomy.phi:Phi3",
    "qwen2": "trimtab.anatomy.llama:Llama",
    "qwen2_5_vl": "trimtab.anatomy.qwenvl:Qwen25VL",
    "qwen2_vl": "trimtab.anatomy.qwenvl:Qwen2VL",
    "qwen3": "trimtab.anatomy.llama:Llama",
    "qwen3_vl": "trimtab.anatomy.qwenvl:Qwen3VL",
    "siglip": "trimtab.anatomy.siglip:Siglip",
    "siglip_vision_model": "trimtab.anatomy.siglip:SiglipVision",
    "smolvlm": "trimtab.anatomy.idefics3:SmolVLM",
    "whisper": "trimtab.anatomy.whisper:Whisper",
}
