"""The ledger: what has been asked, what became of it and what is still owed, from Kafka alone."""
