"""Inference workers: processes that load a model, take requests from Kafka, compute them in batches and answer them.

`worker_cli` starts one; `worker` is the process, `loading` brings a model to where it may serve, `admission` and
`batching` lead a request to its batch, `engines` compute it, `tasks` make an answer of it, `answers` and `telemetry`
tell what became of it. What imports what is drawn as layers in `pyproject.toml`.
"""
