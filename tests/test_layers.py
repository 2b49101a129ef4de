"""Who may import whom: the layers that keep each part readable without the ones above it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# The modules directly under lamindb, lowest layer first. A module imports those of its own
# layer and of the layers before it.
LAYERS: list[set[str]] = [
    {"errors", "identifiers", "modules", "_version"},
    {"config", "display"},
    {"hooks", "processes", "threads", "dev", "rules", "endings", "mainflow"},
    {"formats", "lanes", "spool", "lastwords", "progress"},
    {"db"},
    {"storage"},
    {"steps"},
    {"journal", "liveness"},
    {"instance"},
    {"graph"},
    {"records"},
    {"recording"},
    {"recorder"},
    {"resolving"},
    {"query", "setup", "tracking", "doctor", "moving"},
    {"export", "web"},
    {"cli", "testing"},
    {"__init__", "__main__"},
]
PLUGINS = {
    "lamindb_plain",
    "lamindb_prefect",
    "lamindb_snakemake",
    "snakemake_logger_plugin_lamindb",
}
ENGINES = {"prefect", "snakemake"}

HEIGHTS = {name: height for height, names in enumerate(LAYERS) for name in names}
TYPES_ONLY = "TYPE_CHECKING"
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Module:
    """One Python file, under the name by which others import it."""

    file: Path
    name: str

    @property
    def package(self) -> str:
        """The package that the module's ``from . import`` looks into."""
        return self.name if self.file.stem == "__init__" else self.name.rpartition(".")[0]

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yield line and dotted name of whatever is imported, wherever in the file."""
        for node in runtime_nodes(ast.parse(self.file.read_bytes(), str(self.file))):
            match node:
                case ast.Import(names):
                    yield from ((node.lineno, alias.name) for alias in names)
                case ast.ImportFrom(module, names, level):
                    source = self.resolve(module or "", level)
                    yield from ((node.lineno, f"{source}.{alias.name}") for alias in names)
                case ast.Call(
                    ast.Name("import_module" | "__import__") | ast.Attribute(attr="import_module"),
                    [ast.Constant(str(name)), *_],
                ):
                    yield node.lineno, name

    def resolve(self, module: str, level: int) -> str:
        if not level:
            return module
        ancestors = self.package.split(".")
        return ".".join([*ancestors[: len(ancestors) + 1 - level], *filter(None, [module])])


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk the tree without what stands under ``if TYPE_CHECKING:``."""
    yield node
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == TYPES_ONLY:
        children = iter(node.orelse)
    for child in children:
        yield from runtime_nodes(child)


def modules(folder: Path) -> list[Module]:
    found = []
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).with_suffix("").parts
        found.append(Module(file, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)))
    return found


def violations(root: Path) -> list[str]:
    """Return one line for each import that the layers forbid."""
    core = modules(root / "core")
    parts = {part(module.name) for module in core}
    found = [
        f"lamindb.{name} has no layer: place it in the table LAYERS of {Path(__file__).name}"
        for name in sorted(parts - HEIGHTS.keys())
    ]
    for module in core:
        found += core_faults(module, parts)
    for folder in (root / "plugins").iterdir():
        plugin = modules(folder)
        others = PLUGINS - {module.name.split(".")[0] for module in plugin}
        for module in plugin:
            found += plugin_faults(module, others)
    return found


def core_faults(module: Module, parts: set[str]) -> Iterator[str]:
    own = HEIGHTS.get(part(module.name), len(LAYERS))
    for line, target in module.imports():
        top = target.split(".")[0]
        if top in PLUGINS | ENGINES:
            yield f"{module.file}:{line}: core imports {top}: it knows no plugin and no engine"
        elif top == "lamindb":
            # `from lamindb import File` names no module: it goes through the package's table.
            wanted = part(target) if part(target) in parts else "__init__"
            if HEIGHTS.get(wanted, 0) > own:
                yield f"{module.file}:{line}: imports lamindb.{wanted}, which is of a higher layer"


def plugin_faults(module: Module, others: set[str]) -> Iterator[str]:
    for line, target in module.imports():
        top = target.split(".")[0]
        if top in others:
            yield f"{module.file}:{line}: imports {top}: plugins know nothing of each other"
        elif top == "lamindb" and part(target) == "db":
            yield f"{module.file}:{line}: imports lamindb.db: plugins know no tables"


def part(name: str) -> str:
    """Return the module directly under ``lamindb`` that a dotted name lies in."""
    return name.split(".")[1] if "." in name else "__init__"


def test_no_module_imports_what_its_layer_forbids() -> None:
    found = violations(ROOT)
    assert not found, "\n".join(found)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A sound tree of core and two plugins, to which a test adds one fault."""
    root = tmp_path / "tree"
    write(root / "core/lamindb/__init__.py")
    write(root / "core/lamindb/errors.py")
    write(root / "core/lamindb/db/models.py", "from ..errors import LaminError\nimport sqlalchemy")
    write(root / "core/lamindb/query.py", "from .db import models\nfrom lamindb import errors")
    write(root / "plugins/plain/lamindb_plain/__init__.py", "import lamindb.hooks")
    write(root / "plugins/snakemake/lamindb_snakemake/__init__.py", "import snakemake")
    write(
        root / "plugins/snakemake/snakemake_logger_plugin_lamindb/__init__.py",
        "import lamindb_snakemake",
    )
    return root


def write(file: Path, code: str = "") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)


def test_a_sound_tree_has_no_violations(tree: Path) -> None:
    assert violations(tree) == []


@pytest.mark.parametrize(
    ("file", "code", "message"),
    [
        ("core/lamindb/db/models.py", "import lamindb.query", ":1: imports lamindb.query"),
        ("core/lamindb/db/models.py", "from lamindb import query", ":1: imports lamindb.query"),
        ("core/lamindb/db/models.py", "from ..query import select", ":1: imports lamindb.query"),
        ("core/lamindb/db/models.py", "from .. import query", ":1: imports lamindb.query"),
        ("core/lamindb/db/__init__.py", "from .. import query", ":1: imports lamindb.query"),
        ("core/lamindb/errors.py", "def f():\n    import lamindb.db", ":2: imports lamindb.db"),
        ("core/lamindb/errors.py", "from lamindb import File", ":1: imports lamindb.__init__"),
        ("core/lamindb/errors.py", "import_module('lamindb.db')", ":1: imports lamindb.db"),
        ("core/lamindb/query.py", "import prefect.runtime", "core imports prefect"),
        ("core/lamindb/query.py", "import lamindb_plain", "core imports lamindb_plain"),
        ("core/lamindb/novelty.py", "", "lamindb.novelty has no layer: place it in the table"),
        ("plugins/plain/lamindb_plain/x.py", "import lamindb_prefect", "nothing of each other"),
        ("plugins/plain/lamindb_plain/x.py", "from lamindb import db", "imports lamindb.db"),
        ("plugins/plain/lamindb_plain/x.py", "import lamindb.db.models", "imports lamindb.db"),
    ],
)
def test_a_forbidden_import_is_reported(tree: Path, file: str, code: str, message: str) -> None:
    write(tree / file, code)
    assert message in "\n".join(violations(tree))


@pytest.mark.parametrize("condition", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_an_import_for_types_alone_is_free(tree: Path, condition: str) -> None:
    write(tree / "core/lamindb/errors.py", f"if {condition}:\n    import lamindb.db")
    assert violations(tree) == []
    write(tree / "core/lamindb/errors.py", f"if {condition}: ...\nelse:\n    import lamindb.db")
    assert len(violations(tree)) == 1
