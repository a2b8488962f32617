"""What is made once and found by the object itself."""

from __future__ import annotations

from featurekit.core.kept import Kept


def test_what_is_made_of_an_object_is_made_once_and_never_of_its_equal():
    made: list[list[int]] = []

    def copied(values: list[int]) -> list[int]:
        made.append(values)
        return list(values)

    kept = Kept(copied)
    one, equal = [1], [1]
    first = kept(one)
    assert kept(one) is first
    assert kept(equal) is not first
    assert [m is o for m, o in zip(made, [one, equal], strict=True)] == [True, True]


def test_an_object_s_number_is_never_taken_for_another_s():
    """An id is given again when its object is gone; what is kept holds its object."""
    kept = Kept(lambda values: values[0])
    assert [kept([n]) for n in range(1000)] == list(range(1000))


def test_no_more_are_kept_than_was_said():
    kept = Kept(lambda values: list(values), most=2)
    objects = [[n] for n in range(3)]
    first = kept(objects[0])
    kept(objects[1])
    assert kept(objects[0]) is first
    kept(objects[2])  # one too many: all are let go of
    assert kept(objects[0]) is not first
