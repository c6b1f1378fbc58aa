"""Names of what differs between two makings of a stage's result."""

from nemo_adapt.run.changes import changed_files


class Digest(str):
    """A hash that counts how often hashes are compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Digest.compared += 1
        return str.__eq__(self, other)


def test_files_of_a_large_text_are_compared_a_few_times_each():
    files = 1000
    before = {f"{number}.txt": Digest(f"a{number}") for number in range(files)}
    now = {f"{number}.txt": Digest(f"a{number}") for number in range(1, files + 1)}
    assert changed_files({"text": before}, {"text": now}) == ["1000.txt"]
    assert changed_files({"text": now}, {"text": {**now, "new.txt": Digest("a5")}}) == ["text"]
    assert 0 < Digest.compared < 20 * files
