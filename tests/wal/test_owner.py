import os
import subprocess
import sys

from govc.wal.owner import Owner, find_lock, forget, is_alive, iter_tokens


def test_a_token_lives_as_long_as_its_process(tmp_path):
    folder = str(tmp_path)
    code = (
        "import sys\nfrom govc.wal.owner import Owner\n"
        "owner = Owner(sys.argv[1])\nprint(owner.token.hex(), flush=True)\nsys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    token = bytes.fromhex(child.stdout.readline().strip())
    assert is_alive(folder, token)
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    assert not is_alive(folder, token)
    assert list(iter_tokens(folder)) == [token]
    forget(folder, token)
    assert list(iter_tokens(folder)) == []


def test_an_owner_that_closes_leaves_nothing(tmp_path):
    owner = Owner(str(tmp_path))
    assert is_alive(str(tmp_path), owner.token)
    owner.close()
    assert os.listdir(tmp_path) == []


def test_what_an_owner_says_is_written_once(tmp_path):
    owner = Owner(str(tmp_path))
    path = owner.path_saying(b"mine\n")
    assert path == owner.path_saying(b"mine\n")
    assert (tmp_path / f"{owner.token.hex()}.0").read_bytes() == b"mine\n"
    owner.close()
    assert os.listdir(tmp_path) == []


def test_what_is_left_of_an_owner_that_closes_is_known_as_a_dead_ones(tmp_path):
    locks = tmp_path / "locks"
    locks.mkdir()
    owner = Owner(str(locks))
    os.link(owner.path_saying(b"mine\n"), tmp_path / "pack-1.keep")
    owner.close()
    assert list(iter_tokens(str(locks))) == [owner.token]
    assert not is_alive(str(locks), owner.token)


def test_a_lock_is_ours_by_its_inode(tmp_path):
    locks = tmp_path / "locks"
    locks.mkdir()
    owner = Owner(str(locks))
    own = owner.next_lock_path()
    open(own, "w").close()
    os.link(own, tmp_path / "X.lock")
    assert find_lock(str(locks), str(tmp_path / "X.lock")) == (owner.token, own)
    (tmp_path / "Y.lock").write_text("")  # plain git's
    assert find_lock(str(locks), str(tmp_path / "Y.lock")) is None
    os.link(tmp_path / "Y.lock", tmp_path / "Z")
    assert find_lock(str(locks), str(tmp_path / "Y.lock")) is None
    assert find_lock(str(locks), str(tmp_path / "absent.lock")) is None
    owner.close()
