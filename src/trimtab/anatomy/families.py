"""Which anatomy knows which architecture: ``config.model_type`` to "module:Class"."""

from __future__ import annotations

FAMILIES = {
    "bert": "trimtab.anatomy.bert:Bert",
    "clip": "trimtab.anatomy.clip:Clip",
    "dinov2": "trimtab.anatomy.dinov2:Dinov2",
    "gemma3": "trimtab.anatomy.gemma:Gemma",
    "gemma3_text": "trimtab.anatomy.gemma:Gemma",
    "internvl": "trimtab.anatomy.internvl:Internvl",
    "llama": "trimtab.anatomy.llama:Llama",
    "llava": "trimtab.anatomy.llava:Llava",
    "llava_next": "trimtab.anatomy.llavanext:LlavaNext",
    "llava_onevision": "trimtab.anatomy.llavaonevision:LlavaOnevision",
    "mistral": "trimtab.anatomy.llama:Llama",
    "qwen2": "trimtab.anatomy.llama:Llama",
    "qwen3": "trimtab.anatomy.llama:Llama",
}
