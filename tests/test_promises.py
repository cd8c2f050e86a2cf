"""A promise holds for the class that makes it, and for subclasses that define no method."""

import pytest

from trpo_np.promises import declared


class Thing:
    special = "yes"

    def work(self):
        return 1


class Renamed(Thing):
    label = 3

    def __init__(self):
        self.more = 4


class Changed(Thing):
    def work(self):
        return 2


class Grown(Thing):
    @property
    def other(self):
        return 5


class Again(Changed):
    special = "again"


class Mixin:
    def work(self):
        return 3


class Mixed(Mixin, Thing):
    pass


@pytest.mark.parametrize("cls, said", [
    (Thing, "yes"), (Renamed, "yes"), (Changed, False), (Grown, False), (Again, "again"), (Mixed, False)])
def test_a_class_is_believed_unless_a_nearer_one_defines_a_method(cls, said):
    assert declared(cls(), "special") == said


def test_a_method_of_the_thing_itself_ends_belief():
    thing = Thing()
    thing.work = lambda: 7
    assert declared(thing, "special") is False and declared(thing, "unheard") is False
