"""The kept corpus goes through the fuzz programs in every test run; tools/fuzz looks for new inputs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parent.parent / "csrc"

# libFuzzer's place is taken by this: each file named on the command line is one input.
MAIN = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int main(int argc, char **argv) {
    static uint8_t data[65536];
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (file == NULL)
            return 2;
        LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof data, file));
        fclose(file);
    }
    return 0;
}
"""


@pytest.mark.parametrize("source", sorted(HERE.glob("fuzz_*.c")), ids=lambda path: path.stem)
def test_kept_inputs_break_no_invariant(source, tmp_path):
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    environ = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    (tmp_path / "main.c").write_text(MAIN)
    flags = ["-std=c99", "-g", "-Wall", "-Wextra", "-Werror", f"-I{CSRC}", "-fsanitize=address,undefined"]
    program = tmp_path / source.stem
    subprocess.run(
        [compiler, *flags, "-fno-sanitize-recover=all", "-o", program, source, CSRC / "fcgi.c", tmp_path / "main.c"],
        check=True,
        env=environ,
    )
    kept = sorted((HERE / "corpus" / source.stem.removeprefix("fuzz_")).iterdir())
    assert kept
    subprocess.run([program, *kept], check=True, env=environ)
