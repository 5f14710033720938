"""Does the code keep to the layout that CONTRIBUTING.md describes?  `python3 tests/layout.py`

1. No files of a crate import each other in a circle.
2. No crate depends on one above it.
3. No production file is over 600 lines and no function over 80, but for those that say why in a comment `layout: longer, REASON`.

Prints what does not, and leaves with 1.
"""

import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
MOST_LINES = 600
MOST_LINES_OF_FUNCTION = 80
# From the bottom up; each may use those before it, as far as the list says.
ALLOWED = {
    "amx-gemm": set(),
    "reml": set(),
    "ntk": {"amx-gemm"},
    "ntkpipe-store": {"reml", "ntk"},
    "ntkpipe-simulate": {"ntkpipe-store"},
    "ntkpipe": {"reml", "ntk", "ntkpipe-store", "ntkpipe-simulate"},
}


def production(path):
    """The text of a file without comments and test modules."""
    text = re.split(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*mod \w+ \{", path.read_text())[0]
    return re.sub(r"//[^\n]*", "", text)


def sources(src):
    """Module path (a tuple) of each production file of a crate."""
    files = {}
    for path in sorted(src.rglob("*.rs")):
        if path.stem == "tests" or path.stem.endswith("_tests") or path.stem == "main":
            continue
        parts = path.relative_to(src).with_suffix("").parts
        files[parts[:-1] if parts[-1] in ("mod", "lib") else parts] = path
    return files


def paths(text):
    """Every path that begins with crate or super, `{}` expanded."""
    braces = re.compile(r"\b((?:crate|super)(?:::\w+)*)::\{([^{}]*)\}")
    while braces.search(text):
        text = braces.sub(lambda m: " ".join(f"{m[1]}::{part.strip()}" for part in m[2].split(",") if part.strip()), text)
    return re.findall(r"\b(crate|super(?:::super)*)((?:::\w+)+)", text)


def imports(module, text, files):
    """The modules of other files that a file names."""
    found = set()
    for start, rest in paths(text):
        base = () if start == "crate" else module[: max(0, len(module) - start.count("super"))]
        target = base + tuple(rest.strip(":").split("::"))
        while target and target not in files:
            target = target[:-1]
        # What the root re-exports is no arrow.
        if target and target != module:
            found.add(target)
    return found


def circle(graph):
    """The modules that are left when those that import nothing that is left are taken away, from both ends."""
    left = dict(graph)
    while True:
        used = set().union(*left.values()) if left else set()
        ends = {m for m, its in left.items() if not its & left.keys() or m not in used}
        if not ends:
            return sorted("::".join(m) for m in left)
        left = {m: its - ends for m, its in left.items() if m not in ends}


def functions(text):
    """Name and number of lines of each function of formatted code."""
    lines = text.split("\n")
    for at, line in enumerate(lines):
        head = re.match(r"( *)(?:pub(?:\([a-z]+\))? )?(?:const |async |unsafe )*fn (\w+)", line)
        if head:
            end = next((k for k in range(at, len(lines)) if lines[k].startswith(head[1] + "}") or lines[k].rstrip().endswith(";")
                        and not lines[k].startswith(head[1] + " ")), None)
            if end is not None:
                yield head[2], end - at + 1


def main():
    complaints = []
    for manifest in [ROOT / "Cargo.toml", *sorted(ROOT.glob("crates/*/Cargo.toml"))]:
        described = tomllib.loads(manifest.read_text())
        name = described["package"]["name"]
        ours = {it for it in described.get("dependencies", {}) if it in ALLOWED}
        if name not in ALLOWED:
            complaints.append(f"{manifest.relative_to(ROOT)}: crate {name} has no place in tests/layout.py")
        elif above := ours - ALLOWED[name]:
            complaints.append(f"{manifest.relative_to(ROOT)}: {name} depends on {', '.join(sorted(above))}")
    for src in sorted(ROOT.glob("crates/*/src")):
        files = sources(src)
        graph = {module: imports(module, production(path), files) for module, path in files.items()}
        if found := circle(graph):
            complaints.append(f"{src.relative_to(ROOT)}: a circle within {', '.join(found)}")
        for path in files.values():
            text = re.split(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*mod \w+ \{", path.read_text())[0]
            if "layout: longer, " in text:
                continue
            if (n := text.count("\n")) > MOST_LINES:
                complaints.append(f"{path.relative_to(ROOT)}: {n} lines")
            for function, n in functions(text):
                if n > MOST_LINES_OF_FUNCTION:
                    complaints.append(f"{path.relative_to(ROOT)}: {function} has {n} lines")
    print("\n".join(complaints) or "the layout is as described")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
