"""A library of nothing but samplers, for one vocabulary, in WebLLM's own tvmjs: ours, and the full sort that it stands in for.

The full sort is a bitonic network over (probability, id) in the device's memory, without barriers, then a running sum and a
search: what `softmax, argsort, sample` does in a stock library, written for a software adapter. WebLLM loads the library as an
embedding model, which asks for the fewest functions.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from hybr.mlc_build import checkpoint, shards, tiny, tokenizer
from hybr.mlc_build.quantise import Parameter

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.mlc_build.compile import Profile

HTML = b"""<!doctype html><title>sampler</title><link rel="icon" href="data:,"><script type="module">
import {MLCEngine, ModelType} from '/vendor/index.js';
let pipe, made = {};
const f = (name) => (made[name] ??= pipe.tvm.detachFromCurrentScope(pipe.vm.getFunction(name)));
window.load = async (name) => {
  const model = `${location.origin}/models/${name}/`;
  const record = {model, model_id: name, model_lib: `${model}library.wasm`, model_type: ModelType.embedding};
  const engine = new MLCEngine({appConfig: {model_list: [record]}});
  await engine.reload(name);
  pipe = engine.loadedModelIdToPipeline.get(name);
  made = {};
};
const on = (values, type, shape) => {
  const t = pipe.tvm.empty([values.length], type, pipe.device).copyFrom(values);
  return shape ? t.view(shape) : t;
};
const sample = (way, logits, temperature, uniform, topP) => {
  const p = f('softmax_with_temperature')(logits, temperature).view([1, logits.shape[2]]);
  if (way === 'full') return f('sort_and_draw')(p, uniform, topP);
  const both = f('argsort_probs')(p);
  return f('sample_with_top_p')(both.get(0), both.get(1), uniform, on([0], 'int32'), topP);
};
// Tokens drawn from the same logits with these numbers, and the milliseconds of each of `times` draws.
window.draw = async (way, logits, temperature, uniforms, topP, times = 1) => {
  const tvm = pipe.tvm, tokens = [], ms = [];
  tvm.beginScope();
  const held = on(logits, 'float32', [1, 1, logits.length]);
  const [t, p] = [on([temperature], 'float32'), on([topP], 'float32')];
  for (const u of uniforms) {
    for (let i = 0; i < times; i += 1) {
      tvm.beginScope();
      const uniform = on([u], 'float32');
      await pipe.device.sync();
      const begun = performance.now();
      const token = sample(way, held, t, uniform, p);
      const copy = tvm.empty([1], 'int32', tvm.cpu()).copyFrom(token);
      await pipe.device.sync();
      ms.push(performance.now() - begun);
      if (i === 0) tokens.push(copy.toArray()[0]);
      tvm.endScope();
    }
  }
  tvm.endScope();
  return {tokens, ms};
};
// Logits and probabilities as base64 of little-endian float32, which JSON is slow at: {p, tokens}, for these numbers.
const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
window.drawEach = async (text, temperature, uniforms, topP) => {
  const tvm = pipe.tvm, logits = floats(text);
  tvm.beginScope();
  const p = f('softmax_with_temperature')(on(logits, 'float32', [1, 1, logits.length]), on([temperature], 'float32'));
  const both = f('argsort_probs')(p.view([1, logits.length]));
  const row = on([0], 'int32'), most = on([topP], 'float32');
  const draws = uniforms.map((u) => f('sample_with_top_p')(both.get(0), both.get(1), on([u], 'float32'), row, most));
  const copies = [p, ...draws].map((one) => tvm.empty(one.shape, one.dtype, tvm.cpu()).copyFrom(one));
  await pipe.device.sync();
  const [made, ...tokens] = copies.map((one) => one.toArray());
  const bytes = new Uint8Array(made.buffer, made.byteOffset, made.byteLength);
  let raw = '';
  for (let i = 0; i < bytes.length; i += 32768) raw += String.fromCharCode(...bytes.subarray(i, i + 32768));
  tvm.endScope();
  return {p: btoa(raw), tokens: tokens.map((one) => one[0])};
};
// How often each token comes of `count` draws from the same logits, by WebLLM's own random numbers.
window.many = async (logits, temperature, topP, seed, count) => {
  const tvm = pipe.tvm, seen = new Array(logits.length).fill(0);
  tvm.setSeed(seed);
  tvm.beginScope();
  const held = on(logits, 'float32', [1, 1, logits.length]);
  const [t, p, row] = [on([temperature], 'float32'), on([topP], 'float32'), on([0], 'int32')];
  const both = f('argsort_probs')(f('softmax_with_temperature')(held, t).view([1, logits.length]));
  const [first, second] = [both.get(0), both.get(1)];
  for (let left = count; left > 0; left -= 200) {
    tvm.beginScope();
    const copies = [];
    for (let i = 0; i < Math.min(left, 200); i += 1) {
      const token = f('sample_with_top_p')(first, second, tvm.uniform([1], 0, 1, pipe.device), row, p);
      copies.push(tvm.empty([1], 'int32', tvm.cpu()).copyFrom(token));
    }
    await pipe.device.sync();
    for (const copy of copies) seen[copy.toArray()[0]] += 1;
    tvm.endScope();
  }
  tvm.endScope();
  return seen;
};
// Any function of the library, of tensors given as {data, type, shape}; its result as numbers.
window.run = async (name, args) => {
  const tvm = pipe.tvm;
  tvm.beginScope();
  const made = f(name)(...args.map(({data, type, shape}) => on(data, type, shape)));
  const copy = tvm.empty(made.shape, made.dtype, tvm.cpu()).copyFrom(made);
  await pipe.device.sync();
  const found = Array.from(copy.toArray());
  tvm.endScope();
  return found;
};
// A kernel's host function as the runtime calls it: tensors, then as many results of these shapes, then [number, type]s.
window.call = async (name, args, shapes, numbers) => {
  const tvm = pipe.tvm;
  tvm.beginScope();
  const made = shapes.map((shape) => tvm.empty(shape, 'float32', pipe.device));
  const given = args.map(({data, type, shape}) => on(data, type, shape));
  tvm.systemLib().getFunction(name)(...given, ...made, ...numbers.map(([value, type]) => tvm.scalar(value, type)));
  const copies = made.map((one, i) => tvm.empty(shapes[i], 'float32', tvm.cpu()).copyFrom(one));
  await pipe.device.sync();
  const found = copies.map((copy) => Array.from(copy.toArray()));
  tvm.endScope();
  return found;
};
window.ready = true;
</script>"""


def make(vocabulary: int, profile: Profile, folder: Path) -> None:
    """Put the library of samplers for a vocabulary, and what WebLLM wants beside it, into a folder."""
    from hybr.mlc_build.lower import add_sampler, device_target, sampler_threads

    pack(add_sampler(_peer(vocabulary), vocabulary, sampler_threads(profile, device_target())), profile, folder, vocabulary)


def pack(module: Any, profile: Profile, folder: Path, vocabulary: int = 0) -> None:
    """Compile a module's functions to a library in a folder, with what WebLLM wants beside it."""
    import tvm
    from tvm import relax

    from hybr.mlc_build.compile import write_objects
    from hybr.mlc_build.link import link
    from hybr.mlc_build.lower import add_metadata, device_target, pipeline, shader_pipeline

    (folder / "objects").mkdir(parents=True)
    target = device_target()
    told = {"max_batch_size": 1, "prefill_chunk_size": 16, "context_window_size": 16, "params": [{"name": "none"}]}
    with target, tvm.transform.PassContext(opt_level=3, config={"relax.backend.use_cuda_graph": False}):
        passes = {"relax_pipeline": pipeline(profile, target), "tir_pipeline": shader_pipeline(profile)}
        built = relax.build(add_metadata(module, told), target=target, **passes, system_lib=True)
    link(write_objects(built, folder / "objects"), folder / "library.wasm")
    shards.write([Parameter("none", np.zeros(4, np.float32))], folder)
    tokenizer.write(checkpoint.open_seeded(), folder)
    config = {"context_window_size": 16, "prefill_chunk_size": 16, "sliding_window_size": -1, "attention_sink_size": -1}
    config |= {"tokenizer_files": ["tokenizer.json"], "vocab_size": vocabulary, "quantization": "q0f32"}
    (folder / "mlc-chat-config.json").write_text(json.dumps(config))


def _peer(vocabulary: int) -> Any:
    """Return a module with the full sort and draw."""
    import tvm
    from tvm import relax as rx

    builder = begun()
    size = 1 << (vocabulary - 1).bit_length()
    p = rx.Var("p", rx.TensorType((1, vocabulary), "float32"))
    uniform, top_p = (rx.Var(name, rx.TensorType((1,), "float32")) for name in ("uniform", "top_p"))
    begin, step, draw = (builder.add_func(kernel, name) for name, kernel in _kernels(vocabulary, size).items())
    with builder.function("sort_and_draw", params=[p, uniform, top_p]):
        with builder.dataflow():
            out = [rx.TensorType((size,), "float32"), rx.TensorType((size,), "int32")]
            both = builder.emit(rx.call_tir(begin, [p], out))
            k = 2
            while k <= size:
                j = k // 2
                while j:
                    pair = [builder.emit(rx.TupleGetItem(both, i)) for i in (0, 1)]
                    both = builder.emit(rx.call_tir(step, [*pair, rx.prim_value(k), rx.prim_value(j)], out))
                    j //= 2
                k *= 2
            pair = [builder.emit(rx.TupleGetItem(both, i)) for i in (0, 1)]
            token = builder.emit_output(rx.call_tir(draw, [*pair, uniform, top_p], rx.TensorType((1,), "int32")))
        builder.emit_func_output(token)
    return tvm.IRModule(builder.finalize().functions)


def begun() -> Any:
    """Return a builder that has the entry point that WebLLM wants of an embedding library."""
    from tvm import relax as rx

    builder = rx.BlockBuilder()
    ids = rx.Var("ids", rx.TensorType((1, 4), "int32"))
    with builder.function("prefill", params=[ids]):
        builder.emit_func_output(ids)
    return builder


def _kernels(vocabulary: int, size: int) -> dict[str, Any]:
    from sort_kernels import begin, draw, step

    return {"sort_begin": begin(vocabulary, size), "sort_step": step(size), "sort_draw": draw(vocabulary, size)}


def logits(vocabulary: int, seed: int = 3) -> list[float]:
    """Return logits such as a language model has: a few that stand out of many."""
    source = np.random.Generator(np.random.PCG64(seed))
    made = source.standard_normal(vocabulary) * 2 + (source.random(vocabulary) < 1e-3) * 9
    return [float(x) for x in made.astype(np.float32)]


SIZES = (49152, 128256, 151936)
"""SmolLM2's vocabulary, Llama 3's and Qwen's."""
TINY = tiny.CONFIG.vocab_size
