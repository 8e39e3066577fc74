"""Builds and runs fcgi_test.c: as it is, and under the address and undefined-behaviour sanitizers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parent.parent / "csrc"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-g", f"-I{CSRC}"]
SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


@pytest.fixture(params=["gcc", "clang"])
def compiler(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


def run(*command):
    # A preloaded library (tools/asan preloads one) must not come before the program's own sanitizer.
    environ = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


@pytest.mark.parametrize("flags", [["-O2"], SANITIZED], ids=["plain", "sanitized"])
def test_wire_format_keeps_the_promises_of_its_header(compiler, flags, tmp_path):
    program = tmp_path / "fcgi_test"
    run(compiler, *STRICT, *flags, "-o", program, HERE / "fcgi_test.c", CSRC / "fcgi.c")
    assert run(program) == "ok\n"


def test_header_is_enough_by_itself(compiler, tmp_path):
    only = tmp_path / "only.c"
    only.write_text('#include "fcgi.h"\n#include "fcgi.h"\nint main(void) { return FCGI_HEADER_LEN - 8; }\n')
    run(compiler, *STRICT, "-pedantic", "-fsyntax-only", only)


def test_wire_format_needs_nothing_of_the_c_library_but_memory_functions(compiler, tmp_path):
    """It never allocates and does no I/O: there is nothing in it that could."""
    object_file = tmp_path / "fcgi.o"
    run(compiler, *STRICT, "-O2", "-c", "-o", object_file, CSRC / "fcgi.c")
    undefined = {line.split()[-1] for line in run("nm", "-u", object_file).splitlines() if line.strip()}
    assert undefined <= {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail", "__memcpy_chk"}
