"""Makes corpora for the decoders' fuzz targets out of the golden frames: run it before `fuzz/run decode_kraken`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

for frames in sorted((ROOT / "tests/golden").glob("*/frames.txt")):
    corpus = ROOT / "fuzz/corpus" / f"decode_{frames.parent.name}"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, line in enumerate(frames.read_text().splitlines()):
        if line and line[0] not in "#=":
            (corpus / f"golden-{number}").write_text(line.removeprefix("reply "))
