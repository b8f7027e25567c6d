"""What an unknown rotation does, and which known bug it has, found by calling it.

    from rope_lab.doctor import diagnose

    print(diagnose(lambda x, positions: my_rope(x, positions), dim=64))

The same on the command line: `rope-lab doctor my_module:my_rope`.
"""

from rope_lab.doctor.battery import Property
from rope_lab.doctor.diagnosis import Diagnosis, diagnose
from rope_lab.doctor.museum import KNOWN, Bug
from rope_lab.doctor.probe import Reading
from rope_lab.doctor.spectrum import Spectrum, recognise
from rope_lab.doctor.tables import with_tables

__all__ = [
    "KNOWN",
    "Bug",
    "Diagnosis",
    "Property",
    "Reading",
    "Spectrum",
    "diagnose",
    "recognise",
    "with_tables",
]
