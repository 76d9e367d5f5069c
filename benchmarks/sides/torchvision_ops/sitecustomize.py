"""Two names that torchvision's wheel from PyPI expects of its compiled half, which does not load beside a CPU build of
torch: with them the Python half imports, and that is all that vLLM's LLaVA wants of it. In every process that vLLM
starts, so it stands on their path."""

import torch

LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
