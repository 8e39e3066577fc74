"""What a worker has and may do, and what it cannot do to the master whatever its code tries."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
from contextlib import ExitStack

import pytest

from support import processes
from support.server import BUG, command, run_pyfpm
from support.waiting import eventually
from support.wire import Wire, ask

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

CONFIG = """
[global]
error_log = /dev/stderr
[www]
listen = $DIR/fpm.sock
user = nobody
group = nogroup
pm = static
pm.max_children = 1
"""


@pytest.fixture
def start(pyfpm, python_for_others):
    def begin(more: str = "", **options: object):
        return pyfpm(config=CONFIG + more, root=False, python=python_for_others, **options)

    return begin


def told(server, place, source: str):
    """What a script tells, as JSON."""
    (place / "tell.py").write_text("import json, os\n" + source)
    answer = ask(server.socket, f"{place}/tell.py")
    assert answer.status == 200, (answer.stdout, answer.stderr, server.log())
    return json.loads(answer.body)


def test_a_worker_has_no_descriptor_but_those_it_needs(start):
    server = start()
    held = processes.descriptors(server.worker)
    files = {fd: what for fd, what in held.items() if not what.startswith(("socket:", "anon_inode:", "pipe:"))}
    for fd, what in files.items():
        assert what in ("/dev/null", f"{server.directory}/log") or what.startswith("/memfd:pyfpm-"), (fd, what)
    # Its page of the scoreboard, and where a crash writes its traceback.
    assert sum(what.startswith("/memfd:") for what in files.values()) <= 2
    of_master = set(processes.descriptors(server.pid).values()) & {w for w in held.values() if w.startswith("socket:")}
    # The listener and both ends of the pool's handoff socket; no control socket, no other worker's channel.
    assert len(of_master) <= 3, (of_master, held)


def test_a_subprocess_of_a_script_sees_its_standard_streams_only(start, place):
    server = start()
    seen = told(
        server,
        place,
        "import subprocess, sys\n"
        "code = 'import os; print(sorted(int(x) for x in os.listdir(\"/proc/self/fd\")))'\n"
        "out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, close_fds=False)\n"
        "echo(out.stdout)",
    )
    assert seen[:3] == [0, 1, 2] and len(seen) == 4, "the fourth is the directory that is listed"


def test_a_pool_as_root_is_refused_without_r(place):
    (place / "root.conf").write_text(f"[www]\nlisten = {place}/fpm.sock\npm = static\npm.max_children = 1\n")
    refused = run_pyfpm("-F", "-y", f"{place}/root.conf")
    assert refused.returncode == 78
    assert "root" in refused.stderr and not os.path.exists(f"{place}/fpm.sock")


def test_the_environment_is_what_env_names_and_the_user_s_home(start, place):
    server = start("env[GREETING] = hello\nenv[FROM] = $OUTSIDE\n", env={"OUTSIDE": "outside", "SECRET": "x"})
    environ = told(server, place, "echo(json.dumps(dict(os.environ)))")
    assert (environ["GREETING"], environ["FROM"], environ["USER"]) == ("hello", "outside", "nobody")
    assert "SECRET" not in environ and "HOME" in environ


def test_limits_and_priority_are_the_pool_s(start, place):
    server = start("rlimit_files = 200\nrlimit_core = 4096\nprocess.priority = 7\n")
    limits = told(
        server,
        place,
        "import resource as r\n"
        "echo(json.dumps([r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_CORE), os.getpriority(0, 0)]))",
    )
    assert limits == [[200, 200], [4096, 4096], 7]
    assert os.getpriority(os.PRIO_PROCESS, server.pid) == os.getpriority(os.PRIO_PROCESS, 0)
    assert resource.prlimit(server.pid, resource.RLIMIT_NOFILE) != (200, 200)


def test_a_chroot_is_the_root_of_a_script(start, place):
    (place / "www").mkdir(mode=0o755)
    (place / "www" / "where.py").write_text("import os\necho(os.getcwd(), ' ', sorted(os.listdir('/')))\n")
    (place / "www").chmod(0o755)
    server = start(f"chroot = {place}\n")
    assert ask(server.socket, "/www/where.py").body.decode() == "/www ['www']"


def test_an_access_list_lets_named_users_in(start):
    server = start("listen.mode = 0600\nlisten.acl_users = games\n")
    try:
        value = os.getxattr(server.socket, "system.posix_acl_access")
    except OSError:
        pytest.skip("the file system has no access control lists")
    entries = list(struct.iter_unpack("<HHI", value[4:]))
    assert (0x02, 6, 5) in entries, "games may write"
    assert (0x20, 0, 0xFFFFFFFF) in entries, "others may not"


HOSTILE = """
import mmap, os, random, socket, struct
noise = random.Random(1)
for name in os.listdir("/proc/self/fd"):
    fd = int(name)
    try:
        target = os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        continue
    if "pyfpm-slot" in target:
        os.pwrite(fd, noise.randbytes(4096), 0)
        for call in (lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, 1 << 30)):
            try:
                call()
            except OSError:
                pass
    if not target.startswith("socket:"):
        continue
    try:
        channel = socket.socket(fileno=os.dup(fd))
        if channel.type != socket.SOCK_SEQPACKET:
            continue
    except OSError:
        continue
    channel.setblocking(False)
    sent = 0
    messages = [b"q", b"s" + b"json&full", b"s" + noise.randbytes(3000), b"L99999999999999999999999\\n" + b"x" * 60000,
                b"L-1\\n\\xff\\n\\n", b"T\\n" + noise.randbytes(500), b"C11\\n" * 50, b"C99999999999999\\n", b"D\\nx",
                b"r", b"\\0", noise.randbytes(150000)]
    for round in range(int(_GET["rounds"])):
        for message in messages:
            try:
                socket.send_fds(channel, [message], [0] if round % 7 == 0 else [])
                sent += 1
            except OSError:
                pass
echo("done")
"""


def test_a_worker_that_says_and_writes_anything_does_not_harm_the_others(pyfpm, place):
    """Its page and its channel are all that a worker has of the master; CVE-2021-21703 was such a page, believed."""
    (place / "hostile.py").write_text(HOSTILE)
    (place / "hello.py").write_text("echo('hello')\n")
    server = pyfpm(
        config=CONFIG.replace("max_children = 1", "max_children = 3").replace("user = nobody\ngroup = nogroup\n", "")
    )
    memory = processes.own_memory(server.pid)
    slowest = 0.0
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.socket)) for _ in range(2)]
        for wire in wires:
            wire.send(wire.request(f"{place}/hostile.py?rounds=300"))
        for _ in range(30):
            began = time.monotonic()
            assert ask(server.socket, f"{place}/hello.py").body == b"hello"
            server.control("status")
            slowest = max(slowest, time.monotonic() - began)
        for wire in wires:
            wire.socket.close()
    assert slowest < 5, "nor does it slow them"
    assert server.process.poll() is None
    eventually(lambda: len(server.workers) == 3)
    for pid in server.workers:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(server.workers) == 3 and server.control("status")["pools"][0]["idle processes"] == 3)
    assert processes.own_memory(server.pid) < memory + 20 * 1024**2
    assert BUG not in server.log()


def test_a_killed_master_gives_its_port_back(pyfpm, python_for_others):
    server = pyfpm("--listen", "127.0.0.1:0", "--user", "nobody", python=python_for_others)
    (address,) = server.addresses
    server.signal(signal.SIGKILL)
    server.wait()
    server.is_gone()
    again = pyfpm("--listen", address, "--user", "nobody", python=python_for_others)
    assert ask(again.addresses[0]).status == 404


def test_it_runs_as_pid_1_on_a_read_only_file_system(place):
    """In a container: no other process, nothing to write to but the socket's directory, the log on stderr."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    socket_path = f"{place}/fpm.sock"
    inside = (
        f"mount --bind {place} {place} && mount -o remount,bind,ro / && mount -t proc proc /proc && exec "
        + " ".join(command("-R", "--socket", socket_path))
    )
    probe = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"not permitted here: {probe.stderr!r}")
    process = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inside], stderr=subprocess.PIPE, text=True
    )
    try:
        eventually(lambda: os.path.exists(socket_path) or process.poll() is not None, "it listens")
        if process.poll() is not None:
            pytest.skip(f"not permitted here: {process.communicate()[1]}")
        assert ask(socket_path).status == 404
        (master,) = processes.children(process.pid)
        os.kill(master, signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "fpm is running, pid 1\n" in log and "exiting, bye-bye!" in log
