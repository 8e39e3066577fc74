"""Root writes where others can write as well: they must not lead it to its own files."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pyfpm.master.control import ControlSocket
from pyfpm.master.daemon import PidFile
from pyfpm.master.logs import LogFile
from pyfpm.observe.log import Log
from support import processes
from support.waiting import eventually
from support.wire import ask

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has what others want")

NOBODY = 65534

CONFIG = """
[global]
error_log = /dev/stderr
[www]
listen = $DIR/fpm.sock
listen.mode = 0666
user = nobody
group = nogroup
pm = static
pm.max_children = 1
"""


def link(path: Path, target: Path) -> None:
    """As the pool's user would."""
    os.symlink(target, path)
    os.lchown(path, NOBODY, NOBODY)


@pytest.fixture
def treasure(place):
    path = place / "treasure"
    path.write_text("gold\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def theirs(place):
    path = place / "theirs"
    path.mkdir()
    os.chown(path, NOBODY, NOBODY)
    return path


def untouched(path: Path) -> bool:
    info = path.stat()
    return (path.read_text(), info.st_mode & 0o777, info.st_uid) == ("gold\n", 0o600, 0)


def test_a_reload_does_not_give_away_what_a_link_in_the_socket_s_place_leads_to(pyfpm, treasure, python_for_others):
    """listen.owner and listen.mode used to be given to whatever had the name."""
    server = pyfpm(config=CONFIG, root=False, python=python_for_others)
    os.unlink(server.socket)
    link(Path(server.socket), treasure)
    server.configure(CONFIG + "listen.owner = nobody\n")
    server.signal(signal.SIGUSR2)
    eventually(lambda: server.logged("ready to handle connections") > 1 or server.logged("reload failed"), "it is over")
    assert untouched(treasure)


def test_a_log_is_not_written_through_a_link_of_another_user_s(treasure, theirs):
    link(theirs / "access.log", treasure)
    with pytest.raises(OSError, match="another user"):
        LogFile(str(theirs / "access.log"))
    link(theirs / "new.log", theirs.parent / "crontab")
    with pytest.raises(OSError, match="another user"):
        LogFile(str(theirs / "new.log"))
    assert untouched(treasure) and not (theirs.parent / "crontab").exists()


def test_nor_is_one_that_is_opened_again(treasure, theirs):
    log = LogFile(str(theirs / "slow.log"))
    os.unlink(theirs / "slow.log")
    link(theirs / "slow.log", treasure)
    with pytest.raises(OSError, match="another user"):
        log.reopen()
    log.write("a line")
    assert untouched(treasure)
    log.close()


def test_a_link_of_root_s_own_is_followed(place):
    os.symlink(place / "elsewhere", place / "access.log")
    log = LogFile(str(place / "access.log"))
    log.write("a line")
    assert (place / "elsewhere").read_text() == "a line"
    log.close()


def test_a_pid_file_is_not_written_through_a_link(treasure, theirs):
    link(theirs / f"fpm.pid.{os.getpid()}", treasure)
    PidFile(str(theirs / "fpm.pid"))
    assert untouched(treasure)
    assert (theirs / "fpm.pid").read_text() == f"{os.getpid()}\n"


def test_a_control_socket_does_not_take_the_place_of_a_file(treasure):
    with pytest.raises(FileExistsError):
        ControlSocket(str(treasure), {}, Log())
    assert untouched(treasure)


def test_who_may_do_what_is_not_asked_of_files_in_a_chroot(pyfpm, place, python_for_others):
    """Whoever could write to its etc/group was in any group that he liked."""
    jail = place / "jail"
    (jail / "etc").mkdir(parents=True)
    jail.chmod(0o755)
    (jail / "etc" / "group").write_text("root:x:0:nobody\nshadow:x:42:nobody\nnogroup:x:65534:\n")
    (jail / "who.py").write_text("echo('hello')\n")
    server = pyfpm(config=CONFIG + f"chroot = {jail}\n", root=False, python=python_for_others)
    assert ask(server.socket, "/who.py").body == b"hello"
    assert processes.owner(server.worker)[2] <= {NOBODY}
