"""The list of faults fits the package as it is, so that it cannot rot; planting them takes long, by hand."""

import re
from pathlib import Path

import faults
import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "trpo_np"
ALL = faults.read(faults.FAULTS.read_text())


def test_every_fault_can_be_planted():
    sources = {fault.file: (PACKAGE / fault.file).read_text() for fault in ALL}
    for fault in ALL:
        faults.planted(fault, sources[fault.file])  # or a ValueError


def test_every_fault_has_tests_that_exist():
    for name in {test for fault in ALL for test in fault.tests}:
        path, _, function = name.partition("::")
        text = (TESTS / path).read_text()
        assert not function or re.search(rf"^def {function}\(", text, re.MULTILINE), name
    assert all(fault.tests for fault in ALL)


def test_no_fault_is_there_twice():
    assert len(ALL) > 200 and len({fault[1:2] + fault[3:] for fault in ALL}) == len(ALL)


LIST = """
# a comment
== optim.py: test_optim.py test_trpo.py::test_x
- a
-     b
+ c

- d
+ e
+ f
== comm.py: test_comm.py
- g
+
"""


def test_the_list_is_read_as_its_docstring_says():
    found = faults.read(LIST)
    both = ("test_optim.py", "test_trpo.py::test_x")
    assert found == [(4, "optim.py", both, "a\n    b", "c"), (8, "optim.py", both, "d", "e\nf"),
                     (12, "comm.py", ("test_comm.py",), "g", "")]


@pytest.mark.parametrize("text, sentence", [
    ("- a\n\n+ b", ":2 the fault from line 1 on has no new text"), ("- a", "has no new text"),
    ("a\n", ":1 begins with neither")])
def test_a_list_that_cannot_be_read_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        faults.read(text)


@pytest.mark.parametrize("old, new, sentence", [
    ("x = 3", "x = 4", "there 0 times; once is needed"), ("= 1", "= 2", "there 2 times"),
    ("x = 1", "x = (", "is not Python"), ("x = 1", "x = (1)", "means the same")])
def test_a_fault_that_does_not_fit_is_refused(old, new, sentence):
    with pytest.raises(ValueError, match=sentence):
        faults.check(faults.Fault(1, "a.py", (), old, new), "x = 1\ny = 1\n")


def test_a_fault_is_planted_where_its_old_text_is():
    fault = faults.Fault(1, "a.py", (), "x = 1\ny", "x = 1\nz")
    assert faults.planted(fault, "x = 1\ny = 1\n") == "x = 1\nz = 1\n"
