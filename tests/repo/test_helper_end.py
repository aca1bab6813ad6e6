"""Helpers end with those who wait for them."""

import subprocess
import sys

from tests.waiting import SECONDS


def test_a_helper_ends_when_nobody_can_read_its_answer_any_more():
    """As when its parent was killed: it is in the middle of something, here of reading its job."""
    with subprocess.Popen(
        [sys.executable, "-m", "govc.repo.helper_main"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(SECONDS) == 1


def test_a_helper_whose_answer_is_not_wanted_from_the_start_reads_its_job():
    with subprocess.Popen(
        [sys.executable, "-m", "govc.repo.helper_main"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        process.communicate(b"", SECONDS)
        assert process.returncode == 0
