"""Which anatomy knows which architecture: ``config.model_type`` to "module:Class"."""

from __future__ import annotations

FAMILIES = {
    "bert": "trimtab.anatomy.bert:Bert",
    "clip": "trimtab.anatomy.clip:Clip",
    "gemma3": "trimtab.anatomy.gemma:Gemma",
    "gemma3_text": "trimtab.anatomy.gemma:Gemma",
    "gpt_neox": "trimtab.anatomy.gptneox:GptNeoX",
    "llama": "trimtab.anatomy.llama:Llama",
    "llava": "trimtab.anatomy.llava:Llava",
    "mistral": "trimtab.anatomy.llama:Llama",
    "opt": "trimtab.anatomy.opt:Opt",
    "phi": "trimtab.anatomy.phi:Phi",
    "phi3": "trimtab.anatomy.phi:Phi3",
    "qwen2": "trimtab.anatomy.llama:Llama",
    "qwen3": "trimtab.anatomy.llama:Llama",
    "whisper": "trimtab.anatomy.whisper:Whisper",
}
