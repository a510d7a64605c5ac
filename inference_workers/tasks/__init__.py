"""The tasks: what a request asks a model to compute (`inputs`), and what its answer is made of (`outputs`). Pure."""
