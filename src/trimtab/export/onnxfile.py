"""The ONNX files of a model."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from trimtab.export.graph.forms import tied
from trimtab.export.graph.plan import graphs
from trimtab.export.graph.points import DOMAIN
from trimtab.export.onnxpoints import RUNTIME, ink
from trimtab.export.onnxstore import Store
from trimtab.load.loaded import Loaded


def write_graphs(loaded: Loaded, folder: Path) -> None:
    """``folder/NAME.onnx`` for each graph, and the numbers of all of them."""
    made, leaves = graphs(loaded)
    both = tied(loaded)
    with Store(folder) as store:
        for graph in made:
            ink(graph.model.graph, leaves, both, store)
    for graph in made:
        del graph.model.opset_imports[DOMAIN]
        graph.model.opset_imports[RUNTIME] = 1
        ir.save(graph.model, folder / f"{graph.name}.onnx")
