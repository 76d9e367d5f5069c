"""The losses of an OpenVINO folder on windows of tokens: ``python FILE FOLDER WINDOWS.json``, token by token."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import openvino as ov


def main() -> None:
    windows = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    model = ov.Core().compile_model(Path(sys.argv[1]) / "openvino_model.xml", "CPU")
    names = {name for port in model.inputs for name in port.names}
    request, found = model.create_infer_request(), []
    for window in windows:
        ids = np.array([window], dtype=np.int64)
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "beam_idx": np.zeros(1, dtype=np.int32)}
        if "position_ids" in names:
            given["position_ids"] = np.arange(len(window))[None]
        request.reset_state()
        logits = request.infer({name: value for name, value in given.items() if name in names})["logits"][0]
        each = []
        for at in range(len(window) - 1):
            row = logits[at].astype(np.float64)
            most = row.max()
            each.append(float(most + np.log(np.exp(row - most).sum()) - row[window[at + 1]]))
        found.append(each)
    print(json.dumps(found))


main()
