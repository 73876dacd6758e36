"""The rules of the house: who may import whom, what is packaged, what is never written."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"omnifuse_cli": "omnifuse", "preprocess": "omnifuse.preprocess", "models": "omnifuse.models", "eval": "omnifuse.eval"}
SHARED = {"omnifuse.preprocess.schema", "omnifuse.preprocess.store"}
PYTHON = sorted(path for folder in [*FOLDERS, "configs", "tests", "benchmarks", "docs"] for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    folder, *rest = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([FOLDERS[folder], *rest]).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Every omnifuse module that a file imports, relative imports resolved, `from package import module` named in full."""
    name, found = module_name(path), set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            found |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return {name for name in found if name.split(".")[0] == "omnifuse"}


def allowed(folder: str, imported: str) -> bool:
    if imported in {"omnifuse", "omnifuse.preprocess"} | SHARED or any(imported.startswith(f"{name}.") for name in SHARED):
        return True
    return folder == "omnifuse_cli" or imported == FOLDERS[folder] or imported.startswith(f"{FOLDERS[folder]}.")


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_run_one_way(folder):
    wrong = []
    for path in (ROOT / folder).rglob("*.py"):
        for imported in imports(path):
            if not allowed(folder, imported):
                wrong.append(f"{path.relative_to(ROOT)} imports {imported}")
            if folder != "omnifuse_cli" and imported == "omnifuse.__version__":
                continue
    assert not wrong


def test_eval_needs_no_torch():
    code = (
        "import sys, pkgutil, importlib, importlib.machinery\n"
        "class Blocked:\n"
        "    def find_spec(self, name, *_):\n"
        "        return importlib.machinery.ModuleSpec(name, self) if name.split('.')[0] == 'torch' else None\n"
        "    def create_module(self, spec): raise ImportError('eval must not need torch')\n"
        "    def exec_module(self, module): pass\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "import omnifuse.eval as package\n"
        "for module in pkgutil.iter_modules(package.__path__): importlib.import_module(f'omnifuse.eval.{module.name}')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_help_does_not_import_what_is_heavy():
    code = (
        "import sys\nfrom omnifuse.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'polars', 'numpy', 'pandas', 'matplotlib', 'sklearn', 'transformers', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd="/")


def test_every_folder_with_code_is_packaged():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packaged = set(setup["options"]["packages"].split())
    found = {module_name(path) for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")} | {"omnifuse.configs"}
    assert packaged == found
    folders_with_code = {path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders_with_code)


def test_every_data_file_is_packaged():
    """A data file that no package_data pattern matches works under -e and is missing from a wheel."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = {name: text.replace(",", " ").split() for name, text in setup["options.package_data"].items()}
    homes = {**{package: folder for folder, package in FOLDERS.items()}, "omnifuse.configs": "configs"}
    matched = set()
    for package, globs in patterns.items():
        home = next(folder for name, folder in sorted(homes.items(), key=lambda item: -len(item[0])) if package.startswith(name))
        below = package.removeprefix(next(name for name, folder in homes.items() if folder == home)).strip(".").replace(".", "/")
        matched |= {path for pattern in globs for path in (ROOT / home / below).glob(pattern)}
    ignored = {".py", ".pyc", ".md"}
    files = {
        path for folder in [*FOLDERS, "configs"] for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix not in ignored
    }
    assert not files - matched


# Spelled in pieces, so that the pattern does not find itself.
UNSAFE = "|".join(
    [
        "pickle" + r"\.load",
        r"weights_only\s*=\s*" + "False",
        r"allow_pickle\s*=\s*" + "True",
        r"yaml\." + r"load\(",
        r"shell\s*=\s*" + "True",
    ]
    + [r"trust_remote_code\s*=\s*" + "True", r"\bextract" + r"all\(", r"(?<![\w.])ev" + r"al\(", r"(?<![\w.])ex" + r"ec\("]
)


@pytest.mark.parametrize("path", [path for path in PYTHON if "tests" not in path.parts], ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unsafe_is_called(path):
    found = [number for number, line in enumerate(path.read_text().splitlines(), 1) if re.search(UNSAFE, line)]
    assert not found
