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
declare module '*/vendor/pyodide/pyodide.mjs' {
  export * from 'pyodide';
}
