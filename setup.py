"""The extension modules; everything else is in pyproject.toml."""

import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# PYFPM_CFLAGS and PYFPM_LDFLAGS: for CI (-Werror) and the sanitizers of tools/.
CFLAGS = ["-std=c11", "-Icsrc", *os.environ.get("PYFPM_CFLAGS", "-O2").split()]
LDFLAGS = os.environ.get("PYFPM_LDFLAGS", "").split()


# C sources that several extensions are linked with, by extension.
C_SOURCES: dict[str, tuple[str, ...]] = {}


class BuildShared(build_ext):
    """Compiles those once, before the extensions are built side by side: each of these would compile them to the same
    object file, and now and then one was linked with what another had half written."""

    def build_extensions(self) -> None:
        sources = sorted({source for each in C_SOURCES.values() for source in each})
        objects = dict(
            zip(sources, self.compiler.compile(sources, self.build_temp, extra_postargs=CFLAGS), strict=True)
        )
        for each in self.extensions:
            each.extra_objects = [objects[source] for source in C_SOURCES[each.name]]
        super().build_extensions()


def extension(name: str, suffix: str = ".pyx", c_sources: tuple[str, ...] = ()) -> Extension:
    C_SOURCES[name] = c_sources
    return Extension(
        name,
        ["src/" + name.replace(".", "/") + suffix],
        # Inline functions of a header are in several modules; to build one too often is cheap.
        depends=[*glob("csrc/*.h"), *c_sources],
        extra_compile_args=CFLAGS,
        extra_link_args=LDFLAGS,
    )


def over_fcgi(name: str) -> Extension:
    return extension(name, c_sources=("csrc/fcgi.c",))


def compiled(name: str) -> Extension:
    """A plain Python module on the way of every request, compiled as it is; it runs without that as well."""
    return extension(name, ".py")


DIRECTIVES = {"language_level": 3, "binding": False}
# In .pyx, indices are our own and checked where they are made.
C_LIKE = {"boundscheck": False, "wraparound": False, "initializedcheck": False}
# An annotation is for type checkers; Cython would refuse a subclass of str where it says str.
AS_PYTHON = {"annotation_typing": False, "binding": True}

setup(
    # Each extension is a file of its own for the compiler, so that many can be compiled at once.
    options={"build_ext": {"parallel": os.cpu_count()}},
    cmdclass={"build_ext": BuildShared},
    ext_modules=[
        *cythonize(
            [
                over_fcgi("pyfpm.protocol._usual"),
                over_fcgi("pyfpm.protocol._pairs"),
                over_fcgi("pyfpm.protocol._records"),
                over_fcgi("pyfpm.protocol._server"),
                over_fcgi("pyfpm.protocol._client"),
                extension("pyfpm.observe._scoreboard"),
                extension("pyfpm.sapi._changes"),
                extension("pyfpm.sapi._identity"),
                extension("pyfpm.sapi.cgi._spawn"),
                extension("pyfpm.worker._process"),
                extension("pyfpm.worker._slot"),
                extension("pyfpm.worker._watchdog", c_sources=("csrc/watchdog.c", "csrc/fcgi.c")),
                extension("pyfpm.worker._lock"),
                over_fcgi("pyfpm.worker._sender"),
                over_fcgi("pyfpm.worker._output"),
                over_fcgi("pyfpm.worker._live"),
                over_fcgi("pyfpm.worker._connection"),
                extension("pyfpm.worker._reactor"),
            ],
            include_path=["src"],
            compiler_directives=DIRECTIVES | C_LIKE,
            build_dir="build/cython",
        ),
        *cythonize(
            [
                compiled("pyfpm.sapi.asgi"),
                compiled("pyfpm.sapi.current"),
                compiled("pyfpm.sapi.functions"),
                compiled("pyfpm.sapi.headers"),
                compiled("pyfpm.sapi.mount"),
                compiled("pyfpm.sapi.paths"),
                compiled("pyfpm.sapi.response"),
                compiled("pyfpm.sapi.script"),
                compiled("pyfpm.sapi.script_file"),
                compiled("pyfpm.sapi.streams"),
                compiled("pyfpm.sapi.superglobals"),
                compiled("pyfpm.sapi.variables"),
                compiled("pyfpm.sapi.wsgi"),
                compiled("pyfpm.worker.asynchronous"),
                compiled("pyfpm.worker.inline"),
            ],
            compiler_directives=DIRECTIVES | AS_PYTHON,
            build_dir="build/cython",
        ),
    ],
)
