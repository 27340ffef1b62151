"""ONNX Runtime as the scorer's model runtime.

Contract. A session is made from bytes whose digest was checked, never from a path; weights that
the model would fetch from other files are refused, since no digest covers them. One thread, no
spinning, sequential execution: the same row gives the same bits alone and in any batch. `run`
releases the GIL.
"""

from __future__ import annotations

import numpy as np
import onnxruntime

from interlock.base.errors import RefusedError, UsageError
from interlock.decision.decide import Vectors

_NO_SUCH_FOLDER = "/nonexistent"


class OnnxRuntime:
    """A model loaded into ONNX Runtime on the CPU."""

    def __init__(self, session: onnxruntime.InferenceSession, output: str) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self._outputs = [output]
        self.width: int = session.get_inputs()[0].shape[1]

    @classmethod
    def from_bytes(cls, model: bytes, output: str | None = None, threads: int = 1) -> OnnxRuntime:
        """A session from a model's bytes.

        Args:
            model: the ONNX file.
            output: which output is the score; None when the model has one float output only.
            threads: for one call; 1 is what the scorer's executors assume.

        Raises:
            RefusedError: ONNX Runtime cannot load it.
            UsageError: its input is not float32 [n, features], or the output is not named.
            MemoryError: there is no room for it.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # errors are raised, not printed
        options.enable_cpu_mem_arena = False  # an arena keeps the largest batch it ever saw
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_SUCH_FOLDER)
        try:
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the binding raises a class per status, all plain Exceptions
            if "bad_alloc" in str(error):
                raise MemoryError from error
            raise RefusedError(
                f"ONNX Runtime cannot load the model ({type(error).__name__})", "export it again and check it with onnx"
            ) from error
        _check_input(session)
        return cls(session, _score_output(session, output))

    def run(self, vectors: Vectors) -> Vectors:
        """Scores, float32 [n], of vectors, float32 [n, features]."""
        scores: Vectors = self._session.run(self._outputs, {self._input: vectors})[0]
        if scores.ndim == 2:  # [n, 1], or [n, 2] with the positive class last
            scores = scores[:, -1]
        return np.ascontiguousarray(scores)


def _check_input(session: onnxruntime.InferenceSession) -> None:
    inputs = session.get_inputs()
    shapes = [(each.type, len(each.shape), each.shape[-1]) for each in inputs]
    if len(shapes) != 1 or shapes[0][:2] != ("tensor(float)", 2) or not isinstance(shapes[0][2], int):
        raise UsageError("the model's input is not one float32 [n, features]", "export it with a single float tensor")


def _score_output(session: onnxruntime.InferenceSession, wanted: str | None) -> str:
    floats = [each.name for each in session.get_outputs() if each.type == "tensor(float)"]
    if wanted is None and len(floats) == 1:
        return str(floats[0])
    if wanted in floats:
        return str(wanted)
    raise UsageError("the model has no such score output", f"its float outputs: {', '.join(floats) or 'none'}")
