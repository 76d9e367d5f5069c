"""Plain transformers with compressed-tensors on its folder: ``python -I compressed_tensors.py FOLDER SAMPLES``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).with_name("shared")))  # -I leaves a script's own folder out

import torch
from compressed_tensors.compressors import ModelCompressor
from library import asked, open_model
from teacher import main


def opened(folder: Path) -> Any:
    """The model, whose codes the engine makes dense in the dtype of their scales, as it does at a first call."""
    model = open_model(folder)
    assert any(hasattr(module, "weight_packed") for module in model.modules()), "no linear holds codes"
    compressor = model.hf_quantizer.compressor
    assert isinstance(compressor, ModelCompressor)
    compressor.decompress_model(model)
    return asked(torch.nn.Module.float(model))  # the library refuses its own for models that came quantized


if __name__ == "__main__":
    main(opened)
