"""A decoder that holds its own cache: past and present become variables, and ``beam_idx`` says which row goes on as
which. This is the form that openvino-genai runs."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import op as raw
from openvino import opset13 as op
from openvino.op.util import Variable, VariableInfo

PAST, PRESENT, BEAMS = "past_key_values.", "present.", "beam_idx"


def hold(model: ov.Model) -> None:
    """Put a variable in place of every input ``past_key_values.N.key`` (or value) and its output ``present.N.key``.

    A variable begins empty, with as many rows as the words that are given; ``beam_idx`` (b,) picks its rows."""
    beams = op.parameter([-1], ov.Type.i32, name=BEAMS)
    beams.output(0).get_tensor().set_names({BEAMS})
    first, results = model.input(0), {name: out for out in model.outputs for name in out.get_names()}
    rows = op.gather(op.shape_of(first, "i64"), op.constant(np.array([0])), op.constant(np.int64(0)))
    model.add_parameters([beams])
    for port in [port for port in model.inputs if port.get_any_name().startswith(PAST)]:
        name, shape = port.get_any_name(), port.get_partial_shape()
        info = VariableInfo()
        info.data_shape, info.data_type, info.variable_id = shape, ov.Type.f32, name
        variable = Variable(info)
        size = op.concat([rows, op.constant(np.array([shape[1].get_length(), 0, shape[3].get_length()]))], 0)
        stored = raw.read_value(op.broadcast(op.constant(np.float32(0)), size), variable)
        users = port.get_target_inputs()
        picked = op.gather(stored, beams, op.constant(np.int64(0)))
        for user in users:
            user.replace_source_output(picked.output(0))
        result = results[PRESENT + name.removeprefix(PAST)].get_node()
        model.add_variables([variable])
        model.add_sinks([raw.assign(result.input_value(0).get_node(), variable)])
        model.remove_result(result)
        model.remove_parameter(port.get_node())
    model.validate_nodes_and_infer_types()
