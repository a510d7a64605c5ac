"""Inference workers: processes that load a model, take requests from Kafka, compute them in batches and answer them.

`worker_cli` starts one; `worker` is the process, `models` says what a model is, `loading` brings it to where it may
serve, once its `golden` samples pass, and `deployments` switches to it under traffic. `admission` and `batching` lead a
request to its batch, `images` reads what it names, `engines` compute it, `tasks` make an answer of it, `answers` and
`telemetry` tell what became of it, `scaling` how many workers that takes. What imports what is drawn as layers in
`pyproject.toml`.
"""
