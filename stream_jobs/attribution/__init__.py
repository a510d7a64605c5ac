"""Why requests are slow: latency regressed online on what could explain it, in sums that add up over partitions."""
