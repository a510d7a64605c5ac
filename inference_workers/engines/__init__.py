"""The engines: the only door to torch, torchao and transformers. `loading.load_engine` opens it; the rest is inside."""

import os

PROGRAMS_KEPT = "64"
"""oneDNN makes a program for each shape that it multiplies. It and torch's layer above it would keep 1,024 each: a
worker whose inputs vary in length grew from 0.7 to 2.5 GB in 200,000 requests. More than a forward pass needs
(`MERGED_GROUPS_MAX` groups, twice, and the layers' own): with 16, each layer made them all again, and a batch took
twice as long."""

# Both are read once, when torch multiplies for the first time.
for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(name, PROGRAMS_KEPT)
