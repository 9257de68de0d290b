"""Builds the extensions of fastnn_ext; all metadata is in pyproject.toml.

Every fastnn_ext/<stem>.pyx is an extension. Where fastnn_ext/simd/<stem>.inc.c exists, it is
compiled once for each ISA (through simd/unit.c) and linked into that extension.

Environment: FASTNN_OPENMP=0|1 forces OpenMP off or on (default: what the compiler has);
FASTNN_DEBUG=1 builds with bounds checks and assertions; FASTNN_SANITIZE=address,undefined or thread
adds gcc's sanitizers.
"""

import os
import platform
import re
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
EXT = Path("fastnn_ext")
DEBUG = os.environ.get("FASTNN_DEBUG") == "1"
SANITIZE = os.environ.get("FASTNN_SANITIZE", "")

# Without contraction (a * b + c rounded once) an expression is computed as it is written, on every ISA alike.
CFLAGS = ["-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fwrapv"]
CFLAGS += ["-Wall", "-Wextra", "-Wno-unused-function", "-Wno-unused-parameter", "-fvisibility=hidden"]
# No exception passes through this code: without unwind tables the wheel is 4% smaller.
CFLAGS += ["-g"] if DEBUG or SANITIZE else ["-g0", "-DNDEBUG", "-fno-asynchronous-unwind-tables"]
LDFLAGS = [] if DEBUG or SANITIZE or sys.platform == "darwin" else ["-Wl,--strip-all"]
if SANITIZE:
    CFLAGS += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"]
    LDFLAGS += [f"-fsanitize={SANITIZE}"]
    if "undefined" in SANITIZE:
        # Sizes that overflow, and numbers that no integer can hold, are to be seen.
        CFLAGS += ["-fno-wrapv", "-fsanitize=float-cast-overflow"]
        CFLAGS += ["-fno-sanitize-recover=undefined,float-cast-overflow"]

if platform.machine().lower() in ("x86_64", "amd64"):
    ISAS = {
        "baseline": [],
        "avx2": ["-mavx2", "-mfma", "-mtune=haswell"],
        "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
    }
else:
    ISAS = {"baseline": []}
BUILT = [(f"FNN_BUILT_{isa.upper()}", "1") for isa in ISAS if isa != "baseline"]


class BuildExt(build_ext):
    """build_ext that compiles a stem's kernels for each ISA and finds the OpenMP flags."""

    def finalize_options(self):
        super().finalize_options()
        if not self.parallel:
            self.parallel = os.cpu_count()

    def build_extensions(self):
        openmp = self.find_openmp()
        if openmp is None:
            warnings.warn("this compiler has no OpenMP: fastnn is built serial", stacklevel=1)
        for extension in self.extensions:
            # They hand out work: -O3 only makes them larger. Where not even that takes time, a file asks for -Os.
            extension.extra_compile_args = [*CFLAGS, "-O2", *extension.extra_compile_args]
            extension.extra_link_args = [*LDFLAGS]
            extension.define_macros += BUILT
            if openmp is not None and extension.name == "fastnn_ext.runtime":
                extension.extra_compile_args += openmp[0]
                extension.extra_link_args += openmp[1]
        super().build_extensions()

    def build_extension(self, ext):
        stem = ext.name.rpartition(".")[2]
        if (HERE / EXT / "simd" / f"{stem}.inc.c").exists():
            for isa, flags in ISAS.items():
                ext.extra_objects = [*ext.extra_objects, *self.compile_kernels(ext, stem, isa, flags)]
        super().build_extension(ext)

    def compile_kernels(self, ext, stem, isa, flags):
        """The object of one stem for one ISA, newly compiled if any file it reads is newer.

        Kernels are vectorized and unrolled by hand. What -O3 makes of the rest is large (9% of the wheel) and seldom
        faster: a file that gains by some of it asks for that in its first line, as /* cflags: ... */.
        """
        first = (HERE / EXT / "simd" / f"{stem}.inc.c").read_text().partition("\n")[0]
        asked = re.findall(r"^/\* cflags: (.*) \*/$", first)
        flags = [*flags, "-O2", "-fno-tree-loop-vectorize", *" ".join(asked).split()]
        output = Path(self.build_temp) / "simd" / isa / stem
        target = output / EXT / "simd" / "unit.o"
        reads = [*(EXT / "simd").glob("*.h"), EXT / "simd" / "unit.c", EXT / "simd" / f"{stem}.inc.c"]
        newest = max(path.stat().st_mtime for path in reads)
        if self.force or not target.exists() or target.stat().st_mtime < newest:
            self.compiler.compile(
                [str(EXT / "simd" / "unit.c")],
                output_dir=str(output),
                macros=[("FNN_STEM", stem), ("FNN_ISA", isa), *BUILT],
                include_dirs=[str(EXT), str(EXT / "simd")],
                extra_postargs=[*CFLAGS, "-fPIC", *flags],
            )
        return [str(target)]

    def find_openmp(self):
        """The compile and link flags for OpenMP, or None; FASTNN_OPENMP=0 or 1 decides."""
        wish = os.environ.get("FASTNN_OPENMP", "")
        if wish == "0":
            return None
        candidates = [(["-fopenmp"], ["-fopenmp"]), (["-Xpreprocessor", "-fopenmp"], ["-lomp"])]
        folder = tempfile.mkdtemp()
        try:
            source = Path(folder) / "probe.c"
            source.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
            for compile_flags, link_flags in candidates:
                try:
                    objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=compile_flags)
                    self.compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=link_flags)
                except Exception:  # each compiler class has its own
                    continue
                return compile_flags, link_flags
        finally:
            shutil.rmtree(folder)
        if wish == "1":
            raise RuntimeError("FASTNN_OPENMP=1, but this compiler cannot build an OpenMP program")
        return None


def extensions():
    headers = [str(p) for pattern in ("*.h", "simd/*.h", "simd/unit.c") for p in sorted(EXT.glob(pattern))]
    for source in sorted(EXT.glob("*.pyx")):
        sources = [str(source)]
        if source.stem == "runtime":
            sources.append(str(EXT / "runtime_team.c"))
        kernels = EXT / "simd" / f"{source.stem}.inc.c"
        yield Extension(
            f"fastnn_ext.{source.stem}",
            sources,
            include_dirs=[str(EXT), str(EXT / "simd")],
            depends=[*headers, *([str(kernels)] if kernels.exists() else [])],
        )


setup(
    ext_modules=cythonize(
        list(extensions()),
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "embedsignature": True,
            "binding": False,  # plain built-in functions: 79 KB of the wheel
            "freethreading_compatible": True,
        },
    ),
    cmdclass={"build_ext": BuildExt},
)
