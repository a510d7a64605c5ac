"""What a worker tells of its work: an outcome for every offset in columns, and the metrics, readiness and pace that
are counted from the same columns. Nothing of it is done by request but copying numbers.
"""
