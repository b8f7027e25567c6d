"""The atlas: rotary settings of released model families as data, with a source for every number.

    from rope_lab import atlas

    row = atlas.find("llama-3.1")
    row.spectrum.slowest, row.spectrum.unfinished, row.warnings
    rope = row.rotary_embedding()
    print(atlas.table())

A row is one member of a family where members differ. Where its source is a config class, the numbers are the defaults
of that class, and the `config.json` of a checkpoint may have others: `read_config` reads it, and so does
`rope-lab atlas --config`. Wavelengths, unfinished turns and precision are computed when they are asked for.
"""

from rope_lab.atlas.family import Family, Rotation, Source
from rope_lab.atlas.lookup import FAMILIES, find, near, rows, table
from rope_lab.atlas.reading import Reading, read_config
from rope_lab.atlas.spectrum import BOUND, Doubling, Spectrum

__all__ = [
    "BOUND",
    "FAMILIES",
    "Doubling",
    "Family",
    "Reading",
    "Rotation",
    "Source",
    "Spectrum",
    "find",
    "near",
    "read_config",
    "rows",
    "table",
]
