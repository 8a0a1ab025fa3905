"""Tables as text."""

from rdi_tf.text_tables import aligned, markdown

HEADER, ROWS = ("EXIT", "MACS", "UNIT"), [("branch_1", "12", "MACs"), ("main", "345", "")]


def test_words_are_aligned_left_and_numbers_right():
    assert aligned(HEADER, ROWS) == "EXIT      MACS  UNIT\nbranch_1    12  MACs\nmain       345"


def test_markdown():
    assert markdown(HEADER, ROWS).splitlines() == [
        "| EXIT | MACS | UNIT |",
        "| --- | ---: | ---: |",
        "| branch_1 | 12 | MACs |",
        "| main | 345 |  |",
    ]
