"""Plain transformers with compressed-tensors on its folder: ``python -I compressed_tensors.py FOLDER SAMPLES``.

With a third word, ``unrounded``, linears that round their input take it as it comes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).with_name("shared")))  # -I leaves a script's own folder out

import torch
from compressed_tensors.compressors import ModelCompressor
from library import asked, open_model, widened
from teacher import main


def opened(folder: Path) -> Any:
    """The model, whose codes the engine makes dense in the dtype of their scales, as it does at a first call; in
    float32 where the input is rounded, since a product of integers is not rounded to that dtype before its end."""
    model = open_model(folder)
    held = [module for module in model.modules() if hasattr(module, "weight_scale")]
    assert held, "no linear holds codes"
    for module in held:
        scheme = module.quantization_scheme
        name = "weight" if scheme.input_activations else "weight_packed"
        assert getattr(module, name).dtype in (torch.int8, torch.int32), "no codes"
        if scheme.input_activations:
            module.weight_scale.data = module.weight_scale.data.float()
            module.quantization_enabled = "unrounded" not in sys.argv[3:]
    compressor = model.hf_quantizer.compressor
    assert isinstance(compressor, ModelCompressor)
    compressor.decompress_model(model)
    return asked(widened(model))


if __name__ == "__main__":
    main(opened)
