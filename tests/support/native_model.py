"""A compiled model on this machine's processor: the software profile's own kernels, with the thread grid run as loops."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from hybr.mlc_build.model.config import ModelConfig

F32 = npt.NDArray[np.float32]


class Native:
    """The entry points WebLLM calls, on the CPU, for one sequence."""

    def __init__(self, config: ModelConfig, quantisation: str, parameters: dict[str, npt.NDArray[Any]]) -> None:
        import tvm
        from tvm import relax

        from hybr.mlc_build.compile import build_module
        from hybr.mlc_build.lower import native_target, pipeline

        self.tvm, self.config, self.device = tvm, config, tvm.cpu()
        target = native_target()
        module, metadata = build_module(config, quantisation, "software", target)
        with target:
            built = relax.build(unbound(module), target=target, relax_pipeline=pipeline("software", target))
        self.machine = relax.VirtualMachine(built, self.device)
        self.parameters = [self.tensor(parameters[p["name"]]) for p in metadata["params"]]
        self.cache: Any = None
        self.reset()

    def tensor(self, array: npt.NDArray[Any]) -> Any:
        """Copy an array to the device."""
        return self.tvm.runtime.tensor(np.ascontiguousarray(array), self.device)

    def reset(self) -> None:
        """Start an empty sequence."""
        sizes = (1, self.config.context_window_size, self.config.prefill_chunk_size, 16, 0)
        self.cache = self.machine["create_tir_paged_kv_cache"](*(self._shape(n) for n in sizes))
        self._state("add_sequence", 0)

    def forward(self, tokens: list[int], chunk: int | None = None) -> F32:
        """Append tokens, in chunks, and return the last logits."""
        chunk = chunk or self.config.prefill_chunk_size
        logits: F32 = np.empty(0, np.float32)
        for start in range(0, len(tokens), chunk):
            part = tokens[start : start + chunk]
            vectors = self.machine["embed"](self.tensor(np.array(part, np.int32)), self.parameters)
            self._state("begin_forward", self._shape(0), self._shape(len(part)))
            entry = "prefill" if len(part) > 1 else "decode"
            logits = self.machine[entry](self.tensor(vectors.numpy()[None]), self.cache, self.parameters)[0].numpy()[0, 0]
            self._state("end_forward")
        return logits

    def pop(self, count: int) -> None:
        """Forget the last tokens, as WebLLM does where a new prompt begins as the last one did."""
        self._state("popn", 0, count)

    def probabilities(self, logits: F32, temperature: float) -> F32:
        """Softmax as WebLLM asks for it."""
        shaped = self.tensor(logits.reshape(1, 1, -1).astype(np.float32))
        made: F32 = self.machine["softmax_with_temperature"](shaped, self.tensor(np.array([temperature], np.float32))).numpy()
        return made.reshape(-1)

    def draw(self, probabilities: F32, uniform: float, top_p: float) -> int:
        """Argsort and sample, as WebLLM asks for them."""
        first, second = self.machine["argsort_probs"](self.tensor(probabilities.reshape(1, -1).astype(np.float32)))
        one = [self.tensor(np.array([x], np.float32)) for x in (uniform, top_p)]
        rows = self.tensor(np.zeros(1, np.int32))
        return int(self.machine["sample_with_top_p"](first, second, one[0], rows, one[1]).numpy()[0])

    def in_place(self, entry: str, logits: F32, *arrays: npt.NDArray[Any]) -> F32:
        """Call one of the functions that change the logits."""
        changed = self.tensor(logits.reshape(1, -1).astype(np.float32))
        self.machine[entry](changed, *(self.tensor(a) for a in arrays))
        made: F32 = changed.numpy().reshape(-1)
        return made

    def _shape(self, number: int) -> Any:
        return self.tvm.runtime.ShapeTuple([number])

    def _state(self, name: str, *args: Any) -> None:
        self.tvm.get_global_func(f"vm.builtin.kv_state_{name}")(self.cache, *args)


def unbound(module: Any) -> Any:
    """Replace every thread axis by a loop; right where nobody waits for another: without barriers, or with a single thread."""
    import tvm

    for name, function in list(module.functions.items()):
        if isinstance(function, tvm.tirx.PrimFunc):
            text = tvm.IRModule({"main": function.with_attr("global_symbol", "main")}).script()
            if "thread_binding" in text:
                looped = re.sub(r'T\.thread_binding\((.*), thread="[^"]*"\)', r"T.serial(\1)", text).replace(
                    'scope="shared"', 'scope="local"'
                )
                looped = re.sub(r"T\.tvm_storage_sync\(.*\)", "T.evaluate(0)", looped)
                module.update_func(name, tvm.script.from_source(looped)["main"].without_attr("global_symbol"))
    return module
