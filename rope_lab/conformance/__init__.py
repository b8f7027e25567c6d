"""Which properties a rotation has, as a table over libraries, and golden vectors for rotations in any language.

    from rope_lab import conformance

    print(conformance.table())               # the installed libraries, and this package
    print(conformance.table(my_rope))        # a function or module of your own

`rope_lab.doctor` examines one rotation and names its bug; the properties here are its own, and some more. The golden
vectors are in `rope_lab.conformance.golden`.
"""

from rope_lab.conformance.questions import QUESTIONS, Question, answers
from rope_lab.conformance.report import Conformance, table
from rope_lab.conformance.subject import Subject, as_subject

__all__ = ["QUESTIONS", "Conformance", "Question", "Subject", "answers", "as_subject", "table"]
