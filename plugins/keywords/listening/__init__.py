"""Hearing words in a long recording: probabilities over time, events, and what they are worth."""
