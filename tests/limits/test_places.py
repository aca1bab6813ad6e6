"""Places: never more than there are, free again when their holder dies, whatever happens to the file."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.limits.places import Places
from tests.descriptors import count_open

PROJECT = str(Path(__file__).resolve().parents[2])
HOLDER = """
import sys
from govc.limits.places import Places
places = Places(sys.argv[1])
held = [places.take("server", "", 3) for _ in range(int(sys.argv[2]))]
print(sum(place is not None for place in held), flush=True)
sys.stdin.read()
"""


def hold(path, count):
    """Start a process that holds places; return it once it has them."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": PROJECT},
    )
    assert int(process.stdout.readline()) == count
    return process


def end(process):
    process.stdin.close()
    process.wait()
    process.stdout.close()


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["take", "give"]), st.sampled_from("abc"))),
    st.integers(1, 4),
)
def test_there_are_never_more_than_there_are(steps, count):
    """Three openings of one file, or each for itself: the property holds for all together, or for each."""
    with tempfile.TemporaryDirectory() as folder:
        openings = [Places(f"{folder}/places") for _ in range(3)]
        held = []
        for who, what, name in steps:
            if what == "take":
                place = openings[who].take("kind", name, count)
                taken = sum(other == name for _, _, other in held)
                assert (place is not None) == (taken < count)
                if place is not None:
                    held.append((place, who, name))
            elif held:
                held.pop(0)[0].give_back()
            for number, opening in enumerate(openings):
                is_elsewhere = any(other != number and theirs == name for _, other, theirs in held)
                assert opening.is_taken_elsewhere("kind", name, count) == is_elsewhere


@pytest.mark.parametrize("ending", ["exit", "kill"])
def test_a_process_that_ends_gives_its_places_back(tmp_path, ending):
    places = Places(str(tmp_path / "places"))
    holder = hold(tmp_path / "places", 2)
    assert places.take("server", "", 3) is not None
    assert places.take("server", "", 3) is None
    assert places.is_taken_elsewhere("server", "", 3)
    if ending == "kill":
        holder.kill()
    end(holder)
    assert [places.take("server", "", 3) is not None for _ in range(3)] == [True, True, False]


def test_programs_that_are_started_meanwhile_hold_nothing(tmp_path):
    places = Places(str(tmp_path / "places"))
    place = places.take("server", "", 1)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        place.give_back()
        assert Places(str(tmp_path / "places")).take("server", "", 1) is not None
        child.communicate(b"\n")


def test_giving_back_twice_is_harmless(tmp_path):
    places = Places(str(tmp_path / "places"))
    first, second = (places.take("server", "", 2) for _ in range(2))
    first.give_back()
    first.give_back()
    third = places.take("server", "", 2)
    assert third is not None
    first.give_back()
    assert places.take("server", "", 2) is None
    second.give_back()
    third.give_back()


def test_the_file_may_be_deleted(tmp_path):
    path = tmp_path / "places"
    one, other = Places(str(path)), Places(str(path))
    held = one.take("server", "", 1)
    path.unlink()
    # What is held in the old file is known to its holder; others start with the new one.
    assert one.take("server", "", 1) is None
    assert other.take("server", "", 1) is not None
    assert path.exists()
    held.give_back()
    assert one.take("server", "", 1) is None
    assert len(os.listdir(f"/proc/{os.getpid()}/fd")) < 1000


def test_deleting_the_file_again_and_again_leaves_no_descriptors_open(tmp_path):
    path = tmp_path / "places"
    places = Places(str(path))
    places.take("server", "", 5).give_back()
    before = count_open(path)
    for _ in range(20):
        path.unlink()
        places.take("server", "", 5).give_back()
    assert count_open(path) == before > 0


def test_without_a_file_each_counts_for_itself(tmp_path, caplog):
    one, other = Places(str(tmp_path / "no" / "folder")), Places(None)
    assert "each worker counts its own operations only" in caplog.text
    for places in (one, other):
        assert [places.take("server", "", 2) is not None for _ in range(3)] == [True, True, False]
        assert not places.is_taken_elsewhere("server", "", 2)


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "places").symlink_to(tmp_path / "target")
    assert Places(str(tmp_path / "places")).take("server", "", 1) is not None
    assert (tmp_path / "target").read_bytes() == b""
