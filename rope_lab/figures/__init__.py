"""Figures of the book: one module per topic, one function per figure, which returns the Figure."""
