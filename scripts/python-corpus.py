#!/usr/bin/env python3
"""Makes a corpus of the Python packages that a machine holds: no network, nothing to install.

  python3 scripts/python-corpus.py OUT [--share 0.05] [ROOT ...]

OUT gets train.jsonl, select.jsonl (to choose learning rates on) and val.jsonl (to report), a document a file, and
packages.tsv, which says where each package went. Whole packages are held out: a file of a package that is trained on
says too much about its neighbours. ROOTs are the folders that Python itself imports from unless they are given.
"""
import argparse
import hashlib
import json
import os
import sys

SKIPPED = {"__pycache__", "_vendor", "vendored", "_vendored_packages", "node_modules"}  # copies of other packages
LEAST, MOST = 64, 1 << 20  # bytes of a file: neither empty ones nor tables that a program wrote
PARTS = ("val", "select", "train")  # in this order, so that a text in two of them stays in what is held out


def read(path):
    """Returns a file's text, or None where it is too short, too long or no UTF-8."""
    try:
        if not LEAST <= os.path.getsize(path) <= MOST:
            return None
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def sources(root):
    """Yields the package and the path of each source file below a root."""
    for folder, names, files in os.walk(root):
        deeper = [n for n in names if n not in SKIPPED and not n.startswith(".")]
        if folder == root:  # a folder that is a root itself is walked once, as such
            deeper = [n for n in deeper if n not in ("site-packages", "dist-packages")]
        names[:] = sorted(deeper)
        for name in sorted(files):
            path = os.path.join(folder, name)
            if name.endswith(".py") and not os.path.islink(path):
                yield os.path.relpath(path, root).split(os.sep)[0].removesuffix(".py"), path


def collect(roots):
    """Returns the files of each package; a package in two roots is one package."""
    packages = {}
    for root in roots:
        for package, path in sources(root):
            text = read(path)
            if text is not None:
                packages.setdefault(package, []).append((path, text))
    return packages


def divide(packages, share):
    """Says which part each package belongs to. Held-out packages are those of the lowest hashes that still fit."""
    size = {name: sum(len(text) for _, text in files) for name, files in packages.items()}
    room = {part: share * sum(size.values()) for part in PARTS[:2]}
    where = {}
    for name in sorted(packages, key=lambda n: hashlib.sha256(n.encode()).digest()):
        fits = [part for part in room if size[name] <= room[part]]
        where[name] = max(fits, key=room.get) if fits else "train"  # what has most room left
        if fits:
            room[where[name]] -= size[name]
    return where


def long_lines(text):
    """Returns the hashes of lines that two files hardly have in common by chance."""
    return {hash(line) for line in map(str.strip, text.splitlines()) if len(line) >= 40}


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("out")
    ask.add_argument("roots", nargs="*")
    ask.add_argument("--share", type=float, default=0.05, help="of the text that each held-out part gets at most")
    o = ask.parse_args()
    if not 0 < o.share < 0.5:
        ask.error(f"--share {o.share}: must be above 0 and below 0.5")
    given = o.roots or [p for p in sys.path[1:] + ["/usr/lib/python3/dist-packages"] if os.path.isdir(p)]
    roots = list(dict.fromkeys(os.path.realpath(root) for root in given))
    packages = collect(roots)
    where = divide(packages, o.share)
    if missing := [part for part in PARTS if part not in where.values()]:
        sys.exit(f"python-corpus: {len(packages)} packages leave none for {', '.join(missing)}: "
                 "name more folders, or raise --share")
    os.makedirs(o.out, exist_ok=True)
    seen, copies, lines = set(), 0, {part: set() for part in PARTS}
    with open(os.path.join(o.out, "packages.tsv"), "w") as table:
        for part in PARTS:
            files = characters = 0
            with open(os.path.join(o.out, part + ".jsonl"), "w", encoding="utf-8") as out:
                for name in sorted(n for n in packages if where[n] == part):
                    before = characters
                    for path, text in packages[name]:
                        key = hashlib.sha256("".join(text.split()).encode()).digest()  # other indentation is the same text
                        if key in seen:
                            copies += 1
                            continue
                        seen.add(key)
                        out.write(json.dumps({"path": path, "text": text}, ensure_ascii=False) + "\n")
                        files, characters = files + 1, characters + len(text)
                        lines[part] |= long_lines(text)
                    table.write(f"{part}\t{name}\t{characters - before}\n")
            count = sum(p == part for p in where.values())
            print(f"{part}: {count} packages, {files} files, {characters / 1e6:.1f} M characters", file=sys.stderr)
    print(f"left out: {copies} files that had come before", file=sys.stderr)
    for part in PARTS[:2]:
        shared = len(lines[part] & lines["train"]) / max(1, len(lines[part]))
        print(f"{part}: {shared:.1%} of its different lines of 40 characters or more are in train too", file=sys.stderr)


if __name__ == "__main__":
    main()
