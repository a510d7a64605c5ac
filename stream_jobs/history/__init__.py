"""Detectors over a file of history: what `inferwatch detect` reads, scores, writes and shows."""
