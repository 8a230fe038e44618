"""Private files: modes, owners, links, and a crash at the worst moment."""

import os
import stat
import subprocess
import sys

import pytest

from licensesvc.signing.privatefiles import LooseFile, create_private, private_directory, read_private, write_private


@pytest.fixture
def path(tmp_path):
    return tmp_path / "名 with blank.json"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("write", [write_private, create_private])
def test_written_files_are_private_under_any_umask(path, write, umask):
    before = os.umask(umask)
    try:
        write(path, b"secret")
    finally:
        os.umask(before)
    assert mode(path) == 0o600
    assert read_private(path) == b"secret"
    assert list(path.parent.iterdir()) == [path]


def test_write_replaces_and_narrows_a_loose_file(path):
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert mode(path) == 0o600
    assert read_private(path) == b"new"


def test_write_replaces_a_link_and_not_what_it_points_to(path, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"of another")
    path.symlink_to(target)
    write_private(path, b"new")
    assert not path.is_symlink()
    assert target.read_bytes() == b"of another"


@pytest.mark.parametrize("occupy", [lambda p: p.write_bytes(b"old"), lambda p: p.symlink_to("nowhere")])
def test_create_refuses_an_occupied_name(path, occupy):
    occupy(path)
    with pytest.raises(FileExistsError):
        create_private(path, b"new")
    assert list(path.parent.iterdir()) == [path]
    assert path.is_symlink() or path.read_bytes() == b"old"


@pytest.mark.parametrize("loose", [0o604, 0o640, 0o660, 0o602, 0o610, 0o644, 0o777])
def test_a_file_open_to_others_is_refused_with_the_repair(path, loose):
    write_private(path, b"secret")
    path.chmod(loose)
    with pytest.raises(LooseFile) as caught:
        read_private(path)
    message = str(caught.value)
    assert f"{loose:04o}" in message
    assert f"chmod 600 '{path}'" in message
    assert "\n" not in message
    assert caught.value.path == path


@pytest.mark.parametrize("tight", [0o600, 0o400])
def test_a_file_closed_to_others_is_read(path, tight):
    write_private(path, b"secret")
    path.chmod(tight)
    assert read_private(path) == b"secret"


def test_a_link_is_refused_even_to_a_good_file(path, tmp_path):
    write_private(tmp_path / "good", b"secret")
    path.symlink_to(tmp_path / "good")
    with pytest.raises(LooseFile, match=r"symbolic link.*chmod 600"):
        read_private(path)


def test_a_fifo_is_refused_and_does_not_hang(path):
    os.mkfifo(path, 0o600)
    with pytest.raises(LooseFile, match="no regular file"):
        read_private(path)


def test_a_directory_is_no_private_file(path):
    path.mkdir(mode=0o700)
    with pytest.raises(LooseFile, match="no regular file"):
        read_private(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(path):
    write_private(path, b"planted")
    os.chown(path, 12345, -1)
    with pytest.raises(LooseFile, match=r"user 12345.*chmod 600"):
        read_private(path)


def test_a_missing_file_is_just_missing(path):
    with pytest.raises(FileNotFoundError):
        read_private(path)


def test_a_directory_is_made_private_and_found_so_again(tmp_path):
    path = tmp_path / "a" / "数据 dir"
    assert private_directory(path) == path
    assert mode(path) == 0o700
    assert private_directory(path) == path


def test_a_directory_open_to_others_is_refused_and_left_alone(tmp_path):
    tmp_path.chmod(0o750)
    with pytest.raises(LooseFile, match=r"0750.*chmod 700"):
        private_directory(tmp_path)
    assert mode(tmp_path) == 0o750


@pytest.mark.parametrize("point", ["os.fsync", "pathlib.Path.replace"])
def test_an_error_in_the_middle_leaves_the_old_file_and_no_debris(path, monkeypatch, point):
    write_private(path, b"old")

    def fail(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(point, fail)
        with pytest.raises(OSError, match="Input/output"):
            write_private(path, b"new")
    assert read_private(path) == b"old"
    assert list(path.parent.iterdir()) == [path]


DIE_AT = """
import os, pathlib, sys
from licensesvc.signing.privatefiles import write_private
def die(*_):
    os.kill(os.getpid(), 9)
if sys.argv[2] == "fsync":
    os.fsync = die
else:
    pathlib.Path.replace = die
write_private(pathlib.Path(sys.argv[1]), b"new" * 100_000)
"""


@pytest.mark.parametrize("point", ["fsync", "replace"])
def test_a_killed_process_leaves_the_old_file_and_only_private_debris(path, point):
    write_private(path, b"old")
    dead = subprocess.run([sys.executable, "-c", DIE_AT, path, point], check=False)
    assert dead.returncode == -9
    assert read_private(path) == b"old"
    debris = [mode(other) for other in path.parent.iterdir() if other != path]
    assert debris == [0o600]


def test_bytes_are_on_disk_before_the_name_and_the_name_before_the_return(path, monkeypatch):
    steps = []
    real_fsync, real_replace = os.fsync, type(path).replace

    def fsync(descriptor):
        steps.append("sync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        real_fsync(descriptor)

    def replace(source, target):
        steps.append("rename")
        return real_replace(source, target)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("pathlib.Path.replace", replace)
    write_private(path, b"new")
    assert steps == ["sync file", "rename", "sync directory"]
