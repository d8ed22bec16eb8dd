// The bundle serves vendored code beside ours, and modules import it by relative URL; here those URLs get their types.
declare module '*/vendor/marked/marked.esm.js' {
  export * from 'marked';
}
declare module '*/vendor/dompurify/purify.es.mjs' {
  export { default } from 'dompurify';
}
declare module '*/vendor/web-llm/index.js' {
  export * from '@mlc-ai/web-llm';
}
declare module '*/vendor/wllama/index.js' {
  // What we use of it; the package's own types are its TypeScript sources, which our stricter settings would judge.
  export class Wllama {
    constructor(paths: { default: string }, config?: { suppressNativeLog?: boolean; logger?: object });
    setCompat(compat: { worker: string; wasm: string } | null): void;
    loadModel(weights: Blob[], parameters: Record<string, unknown>): Promise<void>;
    createChatCompletion(request: Record<string, unknown>): Promise<AsyncIterable<Record<string, any>>>;
    getLoadedContextInfo(): { n_vocab: number };
    getNumThreads(): number;
    exit(): Promise<void>;
  }
}
declare module '*/vendor/pyodide/pyodide.mjs' {
  export * from 'pyodide';
}
declare module '*/vendor/highlight/highlight.min.js' {
  const highlighter: { getLanguage(name: string): unknown; highlight(code: string, options: object): { value: string } };
  export default highlighter;
}
declare module '*/vendor/katex/katex.mjs' {
  const katex: { renderToString(tex: string, options: object): string };
  export default katex;
}
