"""Other forms of the built book, made from its pages: a PDF, an EPUB, and a zip for a memory stick."""
