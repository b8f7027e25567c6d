"""Figures of the book: one module a topic, one function a figure, each returns the Figure."""
