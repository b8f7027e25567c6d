"""Other forms of the built book, made from its pages: a PDF, and a zip for a memory stick."""
