"""The extension modules; everything else is in pyproject.toml."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

# PYFPM_CFLAGS and PYFPM_LDFLAGS: for CI (-Werror) and the sanitizers of tools/.
CFLAGS = ["-std=c11", "-Icsrc", *os.environ.get("PYFPM_CFLAGS", "-O2").split()]
LDFLAGS = os.environ.get("PYFPM_LDFLAGS", "").split()


def extension(name: str, source: str | None = None) -> Extension:
    path = "src/" + name.replace(".", "/") + ".pyx"
    return Extension(
        name,
        [source or path, "csrc/fcgi.c"],
        depends=["csrc/fcgi.h"],
        extra_compile_args=CFLAGS,
        extra_link_args=LDFLAGS,
    )


setup(
    ext_modules=cythonize(
        [
            extension("pyfpm.protocol._pairs"),
            extension("pyfpm.protocol._records"),
            extension("pyfpm.protocol._server"),
            extension("pyfpm.protocol._client"),
            extension("pyfpm.worker._process"),
            extension("pyfpm.worker._sender"),
            extension("pyfpm.worker._output"),
            extension("pyfpm.worker._reactor"),
        ],
        include_path=["src"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "binding": False,
        },
        build_dir="build/cython",
    ),
)
