"""Proof of counts: what Kafka tells and what ClickHouse shows, compared one by one. Reads only."""
