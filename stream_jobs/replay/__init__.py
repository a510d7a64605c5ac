"""Recomputes what was told: single anomalies and alerts bit for bit, and whole ranges under other rules."""
