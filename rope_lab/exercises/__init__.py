"""Checkers for the exercises, one module per chapter: each says what is wrong with an answer, and why."""
