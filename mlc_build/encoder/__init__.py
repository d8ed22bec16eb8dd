"""Text encoders: BERT and its kin (all-MiniLM and others of sentence-transformers) as WebLLM's embedding models."""
