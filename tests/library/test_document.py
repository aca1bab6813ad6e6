"""The examples of docs/library.md, run as they stand there."""

import doctest
import os
import subprocess
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "library.md"

STREAM = b"""\
blob
mark :1
data 6
hello
blob
mark :2
data 4
one
blob
mark :3
data 4
two
blob
mark :4
data 6
topic
commit refs/heads/main
mark :5
committer Ada Example <ada@example.com> 1700000000 +0100
data 6
First
M 100644 :1 README
M 100644 :2 src/a.txt
commit refs/heads/topic
mark :6
committer Ada Example <ada@example.com> 1700000030 +0100
data 6
Topic
from :5
M 100644 :4 topic.txt
commit refs/heads/main
mark :7
committer Ada Example <ada@example.com> 1700000060 +0100
data 7
Second
from :5
M 100644 :3 src/a.txt
commit refs/heads/main
mark :8
committer Ada Example <ada@example.com> 1700000090 +0100
data 6
Merge
from :7
merge :6
M 100644 :4 topic.txt
tag v1
from :7
tagger Ada Example <ada@example.com> 1700000100 +0100
data 4
one
"""


def test_the_examples_run(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    path = str(tmp_path / "r.git")
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], env=environ, check=True)
    subprocess.run(["git", "-C", path, "fast-import", "--quiet"], env=environ, input=STREAM, check=True)
    options = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL | doctest.REPORT_ONLY_FIRST_FAILURE
    result = doctest.testfile(str(DOCUMENT), module_relative=False, globs={"path": path}, optionflags=options)
    assert result.failed == 0 and result.attempted > 20
