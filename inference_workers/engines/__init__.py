"""The engines: the only door to torch, torchao and transformers. `loading.load_engine` opens it; the rest is inside."""
