// WebLLM's own engine with an embedding model, as a page that searches would use it.
import {MLCEngine, ModelType} from '/vendor/web-llm/index.js';

let engine;

export async function load(base, library) {
  await engine?.unload();
  const url = location.origin + base;
  const record = {model_id: 'encoder', model: url, model_lib: `${url}resolve/main/${library}`, model_type: ModelType.embedding};
  engine = new MLCEngine({appConfig: {model_list: [record], cacheBackend: 'cache'}});
  await engine.reload('encoder');
}

export async function embed(input) {
  const began = performance.now();
  const answer = await engine.embeddings.create({input});
  const seconds = (performance.now() - began) / 1000;
  return {vectors: answer.data.map((one) => one.embedding), usage: answer.usage, seconds};
}
