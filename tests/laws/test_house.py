"""The law of the house: which room may import which, how big things get, and that no list is kept by hand."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from importlib import import_module
from pathlib import Path

import pytest

import mutants
import trimtab
from trimtab import docs, evidence, methods
from trimtab.run.invariants import PREDICATES

SRC = Path(trimtab.__file__).parent
ROOT = SRC.parents[1]
FILES = sorted(SRC.rglob("*.py"))
FAMILIES = ("adapt", "quantize", "prune", "factorize", "distill", "tokens", "cache", "route", "mixer", "objectives",
            "robust")  # fmt: skip
# Imports only run down, or stay on their floor where that is no family.
FLOORS = (
    {"core", "data"},
    {*FAMILIES, "anatomy", "measure", "evaluate", "runtime", "evidence", "distribute"},
    {"methods", "order", "load", "gate", "export", "engines"},
    {"run"},
    {"report", "serve", "docs", "zoo"},
    {"cli"},
)
# A finished run asks for its page; the import is inside that function and nothing of it comes back.
UPWARD = {("run/deliver.py", "report")}
BLIND = ("runtime", "serve", "report")  # these read what a run left behind and know no method
LONGEST_FILE, LONGEST_METHOD_FILE, LONGEST_FUNCTION = 250, 150, 60
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def room(file: Path) -> str:
    return file.relative_to(SRC).parts[0].removesuffix(".py")


def imported(file: Path) -> Iterator[str]:
    """Every module that ``file`` imports, anywhere in it, ``from trimtab import x`` as trimtab.x."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from ([f"{node.module}.{a.name}" for a in node.names] if node.module == "trimtab" else [node.module])


def rooms_of(file: Path) -> set[str]:
    inside = (name.split(".") for name in imported(file) if name.startswith("trimtab."))
    return {parts[1] for parts in inside if not parts[1].startswith("__")}


def floor(name: str) -> int:
    found = [i for i, rooms in enumerate(FLOORS) if name in rooms]
    assert len(found) == 1, f"{name}: stands on {len(found)} floors of FLOORS; give it one"
    return found[0]


def test_there_is_a_house() -> None:
    assert len(FILES) > 40
    assert {"core", "quantize", "tokens", "anatomy", "run"} <= {room(file) for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SRC)))
def test_imports_only_run_down(file: Path) -> None:
    here = room(file)
    if here == "__init__":
        return
    other = rooms_of(file) - {here}
    name = file.relative_to(SRC).as_posix()
    up = {there for there in other if floor(there) > floor(here)} - {to for at, to in UPWARD if at == name}
    assert not up, f"{name} imports {up} from a floor above"
    if here == "core":
        assert not other, f"{name}: core imports no room, but it imports {other}"
    if here in FAMILIES:
        assert other <= {"core"}, f"{name}: a family imports core only, but it imports {other}"
    if here == "export":
        assert other <= {"core", "anatomy", "load"}, f"{name}: an export imports no method and no run, but {other}"
        assert "checks" not in name.split("/") or not rooms_of(file), f"{name}: a check knows nothing of Trimtab"
    if here in BLIND:
        assert not other & {*FAMILIES, "methods"}, f"{name}: {here} imports no method, but it imports {other}"


def test_every_exception_is_still_needed() -> None:
    assert all(to in rooms_of(SRC / at) for at, to in UPWARD)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SRC)))
def test_nothing_is_unpickled(file: Path) -> None:
    assert not {name.split(".")[0] for name in imported(file)} & UNSAFE
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("torch.load", "torch.save"), f"{file}:{node.lineno}: {called}"
            assert not any(k.arg == "allow_pickle" for k in node.keywords), f"{file}:{node.lineno}: allow_pickle"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SRC)))
def test_files_and_functions_are_small(file: Path) -> None:
    lines = sum(bool(line.strip()) for line in file.read_text(encoding="utf-8").splitlines())
    assert lines <= (LONGEST_METHOD_FILE if room(file) in FAMILIES else LONGEST_FILE)
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{file.name}: {node.name}"


@pytest.mark.parametrize(
    "module",
    [
        "trimtab",
        "trimtab.methods",
        "trimtab.tokens",
        "trimtab.cache",
        "trimtab.quantize",
        "trimtab.prune",
        "trimtab.factorize",
        "trimtab.robust",
    ],
)
def test_importing_it_brings_no_torch(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SRC.parent)
    assert done.stdout.strip() == "[]"


def carded() -> dict[str, str]:
    """module:Class of every class with a CARD that stands in a family's folder."""
    found = {}
    for file in FILES:
        if room(file) not in FAMILIES:
            continue
        for node in parsed(file).body:
            names = {getattr(getattr(item, "target", None), "id", None) for item in getattr(node, "body", [])}
            if isinstance(node, ast.ClassDef) and "CARD" in names:
                module = ".".join(("trimtab", *file.relative_to(SRC).with_suffix("").parts))
                found[f"{module}:{node.name}"] = node.name
    return found


def test_tables_hold_every_card_and_nothing_else() -> None:
    known = methods.names(controls=True)
    assert {place for _, place in known.values()} == set(carded())
    for name, (family, place) in known.items():
        card = methods.get(name).CARD
        assert (card.name, card.family) == (name, family)
        assert place.startswith(f"trimtab.{family}.")
        assert card.baseline is None or card.baseline in known
        assert {*card.establishes, *card.preserves, *card.consumes} <= set(PREDICATES), f"{name}: unknown invariant"
        assert getattr(import_module(f"trimtab.{family}"), place.partition(":")[2]) is methods.get(name)


def law_rows() -> set[str]:
    """The names in the KNOBS tables of tests/laws."""
    found = set()
    for file in (ROOT / "tests" / "laws").glob("test_*.py"):
        for node in parsed(file).body:
            named = isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["KNOBS"]
            if named and isinstance(node.value, ast.Dict):
                found |= {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
    return found


def test_every_method_has_a_row_in_the_laws() -> None:
    assert law_rows() == set(methods.names(controls=True))


def test_the_docs_are_what_the_cards_say() -> None:
    stale = [str(path.relative_to(ROOT)) for path in docs.outdated(ROOT)]
    assert not stale, f"run: make docs ({', '.join(stale)})"
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(methods.names())


def test_a_readme_without_markers_is_left_alone_and_one_with_them_is_filled() -> None:
    assert docs.between_markers("# Hello\n") == "# Hello\n"
    once = docs.between_markers(f"a\n{docs.START}\nold\n{docs.END}\nb\n")
    assert once.startswith(f"a\n{docs.START}\n| method")
    assert once.endswith(f"{docs.END}\nb\n")
    assert "old" not in once
    assert docs.between_markers(once) == once


def test_every_piece_of_evidence_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for row in evidence.stored():
        assert row.method in methods.names(), row
        assert date.fromisoformat(row.date) >= date(2026, 1, 1), row
        assert row.figure, f"{row}: what did it show?"
        if "::" in row.what:
            file, _, test = row.what.partition("::")
            assert test in {n.name for n in parsed(ROOT / file).body if isinstance(n, ast.FunctionDef)}, row.what
        else:
            verb, _, target = row.what.partition(" ")
            assert (verb == "make" and f"\n{target}:" in makefile) or verb == "trimtab", row.what


def test_a_status_needs_every_kind_of_evidence_up_to_it() -> None:
    fast, small = methods.get("divprune").CARD, methods.get("rtn").CARD

    def status(card: object, *kinds: str) -> str:
        return evidence.status(card, tuple(evidence.Evidence(card.name, kind, "x", "", "") for kind in kinds))

    real = ("weights", "heldout", "interval", "gate")
    assert status(fast) == "unproven"
    assert status(fast, "independent") == "unproven"
    assert status(fast, "proof") == "reference"
    assert status(fast, "proof", "independent") == "checked"
    assert status(fast, "proof", "independent", *real) == "checked"  # it claims speed, so it needs a kernel
    assert status(fast, "proof", "independent", *real, "kernel") == "proven"
    assert status(small, "proof", "independent", *real) == "proven"
    assert status(small, "proof", *real) == "reference"
    assert evidence.status(small, (evidence.Evidence("other", "proof", "x", "", ""),)) == "unproven"


def test_every_mutant_still_applies_and_was_caught() -> None:
    """The kept table of ``make mutants`` names, for each mutant of its list, a test that is still there."""
    assert mutants.misfits() == []
    header, *rows = [line.split("\t") for line in mutants.TABLE.read_text(encoding="utf-8").splitlines()]
    assert header == ["file", "mutation", "test that failed"]
    assert [(file, what) for file, what, _ in rows] == [(m.file, m.what) for m in mutants.MUTANTS]
    for _, _, test in rows:
        file, _, name = test.partition("::")
        assert name in {n.name for n in parsed(ROOT / file).body if isinstance(n, ast.FunctionDef)}, test
