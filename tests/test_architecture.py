"""The laws and floors of ARCHITECTURE.md, read off the sources."""

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "fastnn_ext"
PYTHON = ROOT / "fastnn"

# From the ground up; a room may import rooms on its own floor and below.
FLOORS = [
    {"sizes", "seed", "files", "_check"},
    {"graph"},
    {"ops"},
    {"lowering"},
    {"functions", "nn", "optim", "data", "config", "testing", "random", "debug"},
    {"train", "models"},
    {"onnx", "interop", "sklearn"},
    {"plotting", "__init__"},
    {"cli", "__main__"},
]


def sources(folder, *patterns):
    return [p for pattern in patterns for p in sorted(folder.rglob(pattern))]


def room(path):
    parts = path.relative_to(PYTHON).parts
    return parts[0].removesuffix(".py")


def floor(name):
    return next(i for i, rooms in enumerate(FLOORS) if name in rooms)


def file_of(module):
    """The source of a module of fastnn, or None if that is no module."""
    path = ROOT / module.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)


def imported(path):
    """Sources of fastnn that a file imports anywhere: in functions and for type checkers, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names = [(node.module, f"{node.module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [(alias.name, alias.name) for alias in node.names]
        for package, name in names:
            if package.split(".")[0] == "fastnn":
                found.add(file_of(name) or file_of(package))
    return found - {path}


@pytest.mark.parametrize("path", sources(PYTHON, "*.py"), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_no_floor_above_it(path):
    here = room(path)
    for other in imported(path):
        assert floor(room(other)) <= floor(here), f"{path} ({here}) imports {other}"


def test_no_circle_of_files_imports_itself():
    graph = {path: imported(path) for path in sources(PYTHON, "*.py")}
    done = set()

    def walk(path, way):
        assert path not in way, " -> ".join(str(p.relative_to(ROOT)) for p in (*way[way.index(path) :], path))
        if path not in done:
            for other in sorted(graph[path]):
                walk(other, (*way, path))
            done.add(path)

    for path in graph:
        walk(path, ())


def test_openmp_is_known_to_the_runtime_alone():
    for path in sources(NATIVE, "*.pyx", "*.pxd", "*.h", "*.inc.c", "unit.c"):
        if not path.name.startswith("runtime"):
            text = path.read_text()
            assert not re.search(r"prange|#\s*pragma\s+omp|\bomp_\w+\(", text), path


def handwritten():
    """The sources of fastnn_ext that are no output of Cython's."""
    paths = sources(NATIVE, "*.pyx", "*.pxd", "*.c", "*.h")
    return [path for path in paths if path.suffix != ".c" or not path.with_suffix(".pyx").exists()]


def test_native_lines_are_no_wider_than_python_s():
    width = int(re.search(r"^line-length = (\d+)$", (ROOT / "pyproject.toml").read_text(), re.M)[1])
    assert f"\nColumnLimit: {width}\n" in (ROOT / ".clang-format").read_text()
    wide = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in handwritten()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > width
    ]
    assert not wide


def test_kernels_neither_allocate_nor_touch_python():
    for path in sources(NATIVE / "simd", "*.c", "*.h"):
        assert not re.search(r"\balloca\s*\(|Python\.h", path.read_text()), path


def test_memory_is_taken_and_given_back_in_one_place():
    """fnn_allocate and fnn_free, where tests let it fail."""
    calls = [
        (path.name, name)
        for path in handwritten()
        for name in re.findall(r"\b(\w*alloc|posix_memalign|strdup|free|PyMem_\w+|mmap)\s*\(", path.read_text())
    ]
    assert sorted(calls) == [("runtime_team.c", "free"), ("runtime_team.c", "posix_memalign")]


def test_no_except_clause_of_a_driver_returns():
    """Cython 3.3 then lets go of a traceback, which is not there where memory ended: a crash."""
    for path in sources(NATIVE, "*.pyx"):
        indent = None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            here = len(line) - len(line.lstrip())
            if indent is not None and line.strip() and here <= indent:
                indent = None
            if re.match(r"\s*except\b.*:", line):
                indent = here
            assert indent is None or not re.match(r"\s*return\b", line), f"{path.name}:{number}"


def brackets(text):
    """All pairs of brackets of a driver: line, bracket, name before it, and its items without what is in brackets."""
    text = re.sub(r'"""(?s:.*?)"""|"(?:\\.|[^"\\\n])*"|#.*', lambda found: "\n" * found[0].count("\n"), text)
    found, opened = [], []
    for token in re.finditer(r"(\w*)([(\[{])|[)\]}]|[^()\[\]{}\w]+|\w+", text):
        if token[2]:
            if opened:
                opened[-1][-1] += token[1]
            opened.append([1 + text.count("\n", 0, token.start()), token[2], token[1], ""])
        elif opened and token[0] in ")]}":
            line, bracket, name, content = opened.pop()
            found.append((line, bracket, name, [item.strip() for item in content.split(",") if item.strip()]))
        elif opened:
            opened[-1][-1] += token[0]
    return found


def test_no_thread_is_started_that_may_be_waited_for_without_an_end():
    """`Thread.start` waits for the thread to say that it has begun, which one without memory never does."""
    for path in sources(PYTHON, "*.py"):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"Thread", "Timer", "ThreadPoolExecutor"}, path


def test_no_driver_has_a_list_comprehension():
    """Cython 3.3 gives up the item twice where the list cannot grow, and what another name holds is freed later on.

    The same holds for what it makes a list of by itself, and for an item that follows a star.
    """
    wrong = []
    for path in sources(NATIVE, "*.pyx", "*.pxd"):
        for line, bracket, name, items in brackets(path.read_text()):
            makes_list = bracket == "[" or name in ("list", "sorted", "join")
            if makes_list and any(re.search(r"\bfor\b", item) for item in items):
                wrong.append(f"{path.name}:{line}")
            stars = [item.startswith("*") for item in items]
            if (bracket == "[" or (bracket == "(" and not name)) and True in stars and False in stars:
                wrong.append(f"{path.name}:{line}")
    assert not wrong


def test_intrinsics_stand_in_simd_alone():
    for path in sources(NATIVE, "*.pyx", "*.pxd", "*.c", "*.h"):
        if path.parent.name != "simd" and not (path.suffix == ".c" and path.with_suffix(".pyx").exists()):
            assert not re.search(r"\b_mm\d*_|immintrin|arm_neon", path.read_text()), path


def test_flags_that_change_arithmetic_or_the_machine_are_never_used():
    for path in (ROOT / "setup.py", ROOT / "pyproject.toml"):
        assert not re.search(r"-ffast-math|-Ofast|-march=native", path.read_text()), path


def test_nothing_is_pickled():
    for path in sources(PYTHON, "*.py"):
        assert not re.search(r"\bpickle\b(?!\.?$)|allow_pickle\s*=\s*True", code_of(path)), path


def code_of(path):
    """A file's code without its docstrings and comments."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def test_files_are_opened_for_writing_only_where_they_are_replaced_whole():
    """Law 8: a temporary name, fsync, rename. CSV logs are appended to, line by line."""
    for path in sources(PYTHON, "*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "open":
                mode = call.args[1].value if len(call.args) > 1 else "r"
                assert "w" not in mode, f"{path}:{call.lineno}"


def test_every_public_name_has_a_docstring():
    import inspect

    import fastnn as fn

    def own(item):
        return getattr(item, "__module__", "").startswith("fastnn")

    missing = []
    rooms = (fn.debug, fn.random, fn.nn, fn.nn.functional, fn.nn.init, fn.optim, fn.data, fn.models, fn.testing)
    rooms += (fn.onnx, fn.interop)
    for module in (fn, *rooms, fn.callbacks):
        here = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
        own_names = [n for n in here if not n.startswith("_")]
        for name in getattr(module, "__all__", own_names):
            item = getattr(module, name)
            if (inspect.isclass(item) or inspect.isfunction(item)) and own(item) and not inspect.getdoc(item):
                missing.append(f"{module.__name__}.{name}")
    assert not missing


def test_each_stem_stands_on_every_floor():
    for kernel in sources(NATIVE / "simd", "*.inc.c"):
        stem = kernel.name.removesuffix(".inc.c")
        assert (NATIVE / "simd" / f"{stem}.h").exists()
        assert (NATIVE / f"{stem}.pyx").exists()
        assert (ROOT / "tests" / "reference" / f"{stem}.py").exists(), stem
        assert (ROOT / "tests" / f"test_{stem}.py").exists(), stem


def test_every_package_is_found_by_its_folder_and_installed():
    """A new package needs no line in pyproject.toml."""
    tomllib = pytest.importorskip("tomllib")
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert list(table["packages"]) == ["find"] and table["packages"]["find"]["namespaces"] is False
    names = [".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("*/**/__init__.py")]
    wanted = [name for name in names if re.match(r"fastnn(_ext)?\b", name)]
    patterns = table["packages"]["find"]["include"]
    assert [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)] == wanted
