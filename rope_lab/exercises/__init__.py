"""Checkers for the exercises, one module a chapter: each says what is wrong with an answer, and why."""
