"""Which anatomy knows which architecture: ``config.model_type`` to "module:Class"."""

from __future__ import annotations

FAMILIES = {
    "bert": "trimtab.anatomy.bert:Bert",
    "clip": "trimtab.anatomy.clip:Clip",
    "gemma3": "trimtab.anatomy.gemma:Gemma",
    "gemma3_text": "trimtab.anatomy.gemma:Gemma",
    "llama": "trimtab.anatomy.llama:Llama",
    "llava": "trimtab.anatomy.llava:Llava",
    "mistral": "trimtab.anatomy.llama:Llama",
    "qwen2": "trimtab.anatomy.llama:Llama",
    "qwen2_5_vl": "trimtab.anatomy.qwenvl:Qwen25VL",
    "qwen2_vl": "trimtab.anatomy.qwenvl:Qwen2VL",
    "qwen3": "trimtab.anatomy.llama:Llama",
    "qwen3_vl": "trimtab.anatomy.qwenvl:Qwen3VL",
}
