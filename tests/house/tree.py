"""The files of the repository, for the tests of the house. Git says what belongs to it."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def files() -> tuple[Path, ...]:
    """Every file that is or would be committed, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return tuple(Path(name) for name in sorted(set(listed.split("\0"))) if name and (ROOT / name).is_file())


def python_files(*folders: str) -> list[Path]:
    return [path for path in files() if path.suffix == ".py" and path.parts[0] in folders]


def rust_files() -> list[Path]:
    """Rust sources without test files: a folder or file named `tests`, benches and fuzz targets."""
    return [
        path
        for path in files()
        if path.suffix == ".rs"
        and path.parts[0] == "crates"
        and not {"tests", "benches", "examples"} & {*path.parts, path.stem}
    ]


def read(path: Path) -> str:
    return (ROOT / path).read_text()


def without_tests(source: str) -> str:
    """Rust source without its test module, which stands at the foot of the file."""
    return source.partition("\n#[cfg(test)]\nmod tests {")[0]
