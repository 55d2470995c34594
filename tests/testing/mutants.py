"""Wrong versions of the plant, each one change of its source: what the simulator must find, and how one is built.

No build of the product knows of them: a mutant is a copy of the sources with one piece replaced. A piece that has moved
or changed fails `test_mutants.py` at once, so that the table stays alive.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tickplant.sim.presets import VENUES

ROOT = Path(__file__).parents[2]
SESSION = "crates/core/src/session"


class Mutant(NamedTuple):
    """`old` stands once in the file and is replaced by `new`; `faults`, `rate` (orders a second) and `venues` are those
    of the world that it is let loose in."""

    name: str
    path: str
    old: str
    new: str
    faults: str = "storm"
    rate: int = 10
    venues: tuple[str, ...] = VENUES


MUTANTS = [
    Mutant(
        "spot rule on futures",
        "src/tickplant/venues/binance_usdm.py",
        'continuity="previous"',
        'continuity="range"',
    ),
    Mutant(
        "staleness on the wall clock",
        f"{SESSION}/mod.rs",
        "            self.steps.step(self.at, value);\n",
        "",
    ),
    Mutant(
        "no truncation",
        f"{SESSION}/books/mod.rs",
        "truncate: plan.truncate && depth > 0",
        "truncate: false",
    ),
    Mutant(
        "resubscribe from actual state",
        f"{SESSION}/subscriptions/requests.rs",
        "                let item = self.item_mut(channel, slot);\n                *item = Item {",
        "                if slot != NO_SLOT && self.item(channel, slot).state != SubscriptionState::Active {\n"
        "                    self.instruments[slot as usize].holders = 0;\n"
        "                }\n"
        "                let item = self.item_mut(channel, slot);\n                *item = Item {",
    ),
    Mutant(
        "checksum comparison skipped when the top did not move",
        f"{SESSION}/books/mod.rs",
        "match instrument.sync.book.prove(incoming.checksum) {",
        "let best = |side| instrument.sync.book.best(side).map(|level| level.price);\n"
        "            let moved = self.changes.iter().any(|change| best(change.side) == Some(change.price));\n"
        "            match instrument.sync.book.prove(incoming.checksum.filter(|_| moved)) {",
    ),
    Mutant(
        "TIMER inputs not journalled",
        "crates/core/src/plant/engine.rs",
        "        self.lane.input(entry.kind, entry.flags, entry.connection, at, &entry.parts())?;\n",
        "        if !matches!(input, Input::Timer) {\n"
        "            self.lane.input(entry.kind, entry.flags, entry.connection, at, &entry.parts())?;\n"
        "        }\n",
    ),
    Mutant(
        "snapshot joined one message late",
        f"{SESSION}/sync.rs",
        "Verdict::Apply => return Some(index),",
        "Verdict::Apply => return Some(index + 1),",
    ),
    Mutant(
        "back-off reset on connect",
        f"{SESSION}/connection/mod.rs",
        "        link.numbers = FrameNumbers::default();\n",
        "        link.numbers = FrameNumbers::default();\n        link.failures = 0;\n",
    ),
    Mutant(
        "Retry-After ignored",
        f"{SESSION}/mod.rs",
        "self.on_reply(Reply { request, status, retry_after, body }, out);",
        "self.on_reply(Reply { request, status, retry_after: retry_after.and(None), body }, out);",
    ),
    Mutant(
        "half a message made readable",
        f"{SESSION}/records.rs",
        "flags |= if index == last { F_LAST } else { 0 };",
        "flags |= if index <= last { F_LAST } else { 0 };",
    ),
    Mutant(
        "duplicate subscription counted once on unsubscribe",
        f"{SESSION}/subscriptions/mod.rs",
        "instrument.holders -= 1;",
        "instrument.holders = 0;",
    ),
    Mutant(
        "duplicate trade recorded",
        f"{SESSION}/trades/mod.rs",
        "                self.counters.duplicates += 1;\n                return None;",
        "                self.counters.duplicates += 1;",
    ),
    Mutant(
        "missing trades not told",
        f"{SESSION}/trades/mod.rs",
        "=> hole = Some((first, last, Reason::TradeIdGap)),",
        "=> hole = Some((first, last, Reason::TradeIdGap)).filter(|_| last < first),",
    ),
    Mutant(
        "fetched trade recorded twice",
        f"{SESSION}/trades/backfill.rs",
        "            instrument.counters.trades_backfilled += 1;\n",
        "            instrument.counters.trades_backfilled += 1;\n"
        "            records::trade(out, stamp, instrument.id, trade, BookState::Live, F_BACKFILL);\n",
    ),
    Mutant(
        "trades before a restart forgotten",
        f"{SESSION}/trades/backfill.rs",
        "        instrument.trades = TradeStream::resumed(last);\n",
        "",
    ),
    Mutant(
        "holes of a killed run forgotten",
        f"{SESSION}/trades/backfill.rs",
        "        self.backfill.open.extend(&left_off.holes);\n",
        "",
    ),
    Mutant(
        "gap absorbed",
        f"{SESSION}/books/mod.rs",
        "            Verdict::Missing { first, last } => {\n                let cause = if sync.position.joining",
        "            Verdict::Missing { first, .. } if first > 0 => {\n"
        "                self.take_update(slot, incoming, out);\n"
        "            }\n"
        "            Verdict::Missing { first, last } => {\n                let cause = if sync.position.joining",
    ),
    Mutant(
        "old message applied",
        f"{SESSION}/books/mod.rs",
        "            Verdict::Old => self.instruments[slot as usize].counters.duplicates += 1,\n",
        "            Verdict::Old => {\n                self.take_update(slot, incoming, out);\n            }\n",
    ),
    Mutant(
        "unreadable frame forgotten",
        f"{SESSION}/books/recovery.rs",
        "        for slot in slots {\n            let on_it",
        "        for slot in slots.into_iter().take(0) {\n            let on_it",
    ),
    Mutant(
        "refused for good",
        f"{SESSION}/subscriptions/answers.rs",
        "        self.given_up.push((again_at, channel, slot));",
        "        let _ = (again_at, channel, slot);",
    ),
    Mutant(
        # Who checks by symbol what is counted over a connection can only ask that it grows.
        "per-connection sequence checked per symbol",
        f"{SESSION}/sync.rs",
        "(Some(last), Some(number)) if number == last + 1 => Verdict::Apply,",
        "(Some(last), Some(number)) if number > last => Verdict::Apply,",
        venues=("examples.own_venue:PitExchange",),
    ),
    Mutant(
        "duplicate trade after line failover",
        f"{SESSION}/lines/mod.rs",
        "            StreamName::Trades => merge.trades.set_up(line, up),\n",
        "            StreamName::Trades => {\n"
        "                merge.trades.set_up(line, up);\n"
        "                if !up {\n"
        "                    merge.trades.restart();\n"
        "                    self.instruments[slot as usize].trades = super::trades::TradeStream::new();\n"
        "                }\n"
        "            }\n",
        faults="one-line-dead",
        # Only a trade that is under way on both lines at the moment of the cut can come twice.
        rate=60,
    ),
    Mutant(
        "mute without a learned rate",
        f"{SESSION}/connection/health.rs",
        "let mute = active > 0 && learned == 0",
        "let mute = active > usize::MAX - 1 && learned == 0",
        faults="silent",
        rate=1,
    ),
]

# Run with the mutant's package: prints the first seed that has violations, and what they are.
HUNT = """
import json, sys
from tickplant.testing import simulate
for seed in range(int(sys.argv[1])):
    report = simulate(seed, minutes=30, faults=sys.argv[2], rate=int(sys.argv[3]), venues=sys.argv[4:])
    if report.violations:
        print(json.dumps([seed, sorted({violation.rule for violation in report.violations})]))
        break
else:
    print("null")
"""


def mutated(mutant: Mutant) -> str:
    """The file's text with the change. Raises ValueError where the piece does not stand there exactly once."""
    text = (ROOT / mutant.path).read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.path} has the piece of {mutant.name!r} {text.count(mutant.old)} times")
    return text.replace(mutant.old, mutant.new)


def hunt(mutant: Mutant, folder: Path, seeds: int) -> tuple[int, list[str]] | None:
    """Builds the mutant beside the product and lets it run: the first seed with violations and their rules, if any.

    `folder` keeps the compiled dependencies from one mutant to the next.
    """
    tree = folder / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("crates", "src", "examples"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Cargo.toml", "Cargo.lock"):
        shutil.copy2(ROOT / name, tree / name)
    (tree / mutant.path).write_text(mutated(mutant))
    if mutant.path.endswith(".rs"):
        target = folder / "target"
        environment = os.environ | {"CARGO_TARGET_DIR": str(target), "PYO3_PYTHON": sys.executable}
        build = ["cargo", "build", "-q", "-p", "tickplant-python"]
        subprocess.run(build, cwd=tree, env=environment, check=True)
        shutil.copy2(target / "debug" / "lib_native.so", tree / "src" / "tickplant" / "_native.abi3.so")
    environment = os.environ | {"PYTHONPATH": str(tree / "src")}
    command = [sys.executable, "-c", HUNT, str(seeds), mutant.faults, str(mutant.rate), *mutant.venues]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return None if found is None else (found[0], found[1])
