"""Settings: flag, then environment, then file, then default; each value knows where it came from.

A file is TOML with one table a stage: `[plant]`, `[log]`, `[metrics]`, `[health]`, `[venue.NAME]` for each venue. Every
setting also has a variable, `TICKPLANT_LOG_SYNC` or `TICKPLANT_VENUE_KRAKEN_DEPTH`, lists separated by commas. A
connector needs no file: `EXCHANGE`, `SYMBOLS`, `WS_ENDPOINT`, `REST_ENDPOINT` and `POD_NAME` say it all.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from tickplant.errors import ConfigError
from tickplant.toml_lines import key_lines, read_toml
from tickplant.venues.base import Venue, venue_code
from tickplant.venues.settings import Seconds, Text, VenueSettings
from tickplant.venues.table import find_venue, symbol_of

Bytes = Annotated[int, Meta(ge=65_536, description="a number of bytes from 65536")]
Milliseconds = Annotated[int, Meta(ge=1, le=60_000, description="milliseconds from 1 to 60000")]
Core = Annotated[int, Meta(ge=0, le=1023, description="the number of a core from 0 to 1023")]
Port = Annotated[int, Meta(ge=0, le=65_535, description="a port from 1 to 65535, 0 for none")]


class PlantSettings(Struct, frozen=True, kw_only=True):
    """The table `[plant]`."""

    name: Text = "plant"
    """Names this plant in its summary; a connector's `POD_NAME`."""
    priority: Literal["normal", "high", "realtime"] = "normal"
    """Of the ingestion loops among the machine's threads: as all, nice -10, or before all others (SCHED_FIFO 1)."""
    cores: list[Core] | None = None
    """Cores, counted from 0, that the loops stay on, one each in turn; None: the system chooses."""


class LogSettings(Struct, frozen=True, kw_only=True):
    """The table `[log]`."""

    path: Text = "data"
    sync: Literal["none", "interval", "always"] = "interval"
    """What a power cut may lose: all that the system had not written, the interval, or nothing."""
    sync_interval_ms: Milliseconds = 100
    segment_bytes: Bytes = 16 * 1024 * 1024
    hot_bytes_max: Bytes = 512 * 1024 * 1024
    """Memory that one lane may take for what the disk does not have yet and for late readers."""
    hot_root: Text | None = None
    """Directory of the memory files; by default /dev/shm."""


class MetricsSettings(Struct, frozen=True, kw_only=True):
    """The table `[metrics]`."""

    port: Port = 0
    """Serves `/metrics`, `/health` and `/ready`; `tickplant run` takes 9090 where none is set."""
    host: Text = "127.0.0.1"
    """The address to listen on; "0.0.0.0" for a scraper or probe on another machine."""


class HealthSettings(Struct, frozen=True, kw_only=True):
    """The table `[health]`: when a connection or a stream counts as dead, at every venue that says nothing else."""

    ping_every_s: Seconds = 20.0
    """A protocol ping so often."""
    ping_timeout_s: Seconds = 10.0
    measured_ping_every_s: Seconds = 30.0
    """The ping whose round trip is the venue's latency: its own text where it has one."""
    measured_ping_timeout_s: Seconds = 10.0
    close_timeout_s: Seconds = 5.0
    """How long a peer may take to answer a close."""
    stale_check_every_s: Seconds = 5.0
    stale_after_s: Seconds = 10.0
    """What is silent for so long, and for several times longer than is usual for it, is stale."""


class Origin(NamedTuple):
    """Where a value came from: a file and a line, `environment NAME`, `flag --name` or `default`."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


DEFAULT = Origin("default")
TABLES: dict[str, type[Struct]] = {
    "plant": PlantSettings,
    "log": LogSettings,
    "metrics": MetricsSettings,
    "health": HealthSettings,
}
SECRETS = ("api_key", "api_secret")


class Config(Struct, frozen=True, kw_only=True):
    """The settings of a plant. Make one with `load`; venues are keyed by code, in the order in which they came."""

    plant: PlantSettings = PlantSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    health: HealthSettings = HealthSettings()
    venues: dict[str, VenueSettings] = {}
    origins: dict[str, Origin] = {}
    """By dotted name, such as `log.path` or `venue.KRAKEN.depth`; defaults are not listed."""

    def venue(self, code: str) -> Venue:
        """The description of a configured venue, a user's own included."""
        return find_venue(code, self.venues[code].class_)

    def healthy(self, settings: VenueSettings) -> VenueSettings:
        """A venue's settings with the times of `[health]` where that names them and the venue's table does not."""
        named = [name.removeprefix("health.") for name in self.origins if name.startswith("health.")]
        changes = {name: getattr(self.health, name) for name in named if getattr(settings, name) is None}
        return msgspec.structs.replace(settings, **changes)

    def rows(self) -> Iterator[tuple[str, object, Origin]]:
        """Every setting: dotted name, value, origin. Secrets are covered; None: as the venue or the system says."""
        tables: list[tuple[str, Struct]] = [(name, getattr(self, name)) for name in TABLES]
        tables += [(f"venue.{code}", settings) for code, settings in self.venues.items()]
        for prefix, table in tables:
            for field in msgspec.structs.fields(table):
                name = f"{prefix}.{field.encode_name}"
                value = getattr(table, field.name)
                yield name, "***" if value and field.encode_name in SECRETS else value, self.origins.get(name, DEFAULT)


class _Value(NamedTuple):
    table: str
    """`log` or `venue.KRAKEN`."""
    key: str
    value: object
    origin: Origin


def load(
    path: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Config:
    """Reads and checks settings. `flags` are dotted names with values, as in `{"venue.KRAKEN.depth": 10}`.

    Raises ConfigError, UnknownVenue or UnknownInstrument, each saying where the setting stands, what was expected and
    the nearest valid name. A file that cannot be read is a ConfigError too.
    """
    layers = [_from_file(Path(path)) if path is not None else [], _from_environment(environ or {})]
    layers.append([_split(name, value, Origin(f"flag {name}")) for name, value in (flags or {}).items()])
    found: dict[str, dict[str, _Value]] = {name: {} for name in TABLES}
    for value in (value for layer in layers for value in layer):
        found.setdefault(value.table, {})[value.key] = value
    _make_importable(Path(path).parent if path is not None else Path.cwd(), found)
    parts: dict[str, Any] = {name: _struct(kind, found[name]) for name, kind in TABLES.items()}
    parts["venues"] = {
        table.removeprefix("venue."): _venue(table, values)
        for table, values in found.items()
        if table.startswith("venue.")
    }
    origins = {f"{value.table}.{value.key}": value.origin for table in found.values() for value in table.values()}
    return Config(**parts, origins=origins)


def _venue(table: str, values: dict[str, _Value]) -> VenueSettings:
    """The settings of one venue, its name, symbols and depth checked against its description."""
    settings: VenueSettings = _struct(VenueSettings, values)
    first = next(iter(values.values()), None)
    at, what = (first.origin if first else DEFAULT), "class"
    try:
        venue = find_venue(table.removeprefix("venue."), settings.class_)
        what = "instruments"
        symbols = dict.fromkeys(symbol_of(venue, text) for text in settings.instruments)
        what = "required"
        _check_required(venue, settings, symbols)
        what = "depth"
        venue.depth(settings)
    except ConfigError as error:
        raise error.at(*(values[what].origin if what in values else at)) from None
    return msgspec.structs.replace(settings, instruments=list(symbols))


def _check_required(venue: Venue, settings: VenueSettings, symbols: Mapping[str, None]) -> None:
    for symbol in (symbol_of(venue, text) for text in settings.required):
        if symbol not in symbols:
            raise ConfigError(f"{symbol} is required but not among the instruments", expected="one of instruments")


def _struct(kind: type[Struct], values: dict[str, _Value]) -> Any:
    """Builds a table's struct; each value is checked alone, so that the error can name it."""
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    arguments = {}
    for key, value in values.items():
        if key not in fields:
            raise _unknown(f"{value.table}.{key}", key, list(fields), value.origin, "a setting")
        hint = hints[fields[key].name]
        arguments[fields[key].name] = _convert(value, hint)
    return kind(**arguments)


def _convert(value: _Value, hint: Any) -> Any:
    written = value.value
    from_text = value.origin.file.startswith(("environment ", "flag ")) and isinstance(written, str)
    if from_text and isinstance(written, str) and "list[" in str(hint):
        written = [part.strip() for part in written.split(",") if part.strip()]
    try:
        return msgspec.convert(written, hint, strict=not from_text)
    except msgspec.ValidationError:
        choices = _choices(hint)
        nearest = get_close_matches(str(written), choices, n=1) if choices else []
        raise ConfigError(
            f"{value.table}.{value.key} is {written!r}",
            file=value.origin.file,
            line=value.origin.line,
            expected=_expected(hint),
            nearest=nearest[0] if nearest else "",
        ) from None


def _choices(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return [str(choice) for choice in get_args(hint)]
    return []


def _expected(hint: Any) -> str:
    """What a type allows, in words: the description in its Meta, or the choices of a Literal."""
    if get_origin(hint) is Annotated:
        return next((str(m.description) for m in hint.__metadata__ if isinstance(m, Meta) and m.description), "")
    if choices := _choices(hint):
        return "one of " + ", ".join(f'"{choice}"' for choice in choices)
    return next((text for part in get_args(hint) if (text := _expected(part))), "")


def _unknown(name: str, key: str, valid: list[str], origin: Origin, kind: str) -> ConfigError:
    near = get_close_matches(key, valid, n=1, cutoff=0.5)
    return ConfigError(
        f'"{name}" is not {kind}',
        file=origin.file,
        line=origin.line,
        expected="" if near else "one of " + ", ".join(valid),
        nearest=near[0] if near else "",
    )


def _from_file(path: Path) -> list[_Value]:
    text, tree = read_toml(path)
    lines = key_lines(text)

    def origin(*keys: str) -> Origin:
        # An inline table has no line of its own: the nearest key around it has.
        known = (lines[keys[:length]] for length in range(len(keys), 0, -1) if keys[:length] in lines)
        return Origin(str(path), next(known, 1))

    values: list[_Value] = []
    for table, content in tree.items():
        if table not in (*TABLES, "venue"):
            raise _unknown(table, table, [*TABLES, "venue"], origin(table), "a table of settings")
        if not isinstance(content, dict):
            raise ConfigError(f'"{table}" is a table', file=str(path), line=origin(table).line, expected=f"[{table}]")
        if table != "venue":
            values += [_Value(table, key, value, origin(table, key)) for key, value in content.items()]
            continue
        for name, settings in content.items():
            if not isinstance(settings, dict):
                expected = f"a table such as [venue.kraken], with {name} in it"
                raise ConfigError(
                    f'"venue.{name}" is no table', file=str(path), line=origin(table, name).line, expected=expected
                )
            code = f"venue.{venue_code(name)}"
            if any(value.table == code for value in values):
                raise ConfigError(
                    f"{code} stands here a second time",
                    file=str(path),
                    line=origin(table, name).line,
                    expected="one table a venue",
                )
            if "class" not in settings:
                find_at(name, origin(table, name))
            values += [_Value(code, key, value, origin(table, name, key)) for key, value in settings.items()]
            if not settings:
                values.append(_Value(code, "instruments", [], origin(table, name)))
    return values


CONNECTOR = {"SYMBOLS": "instruments", "WS_ENDPOINT": "url", "REST_ENDPOINT": "rest_url"}


def _from_environment(environ: Mapping[str, str]) -> list[_Value]:
    values = []
    if name := environ.get("POD_NAME"):
        values.append(_Value("plant", "name", name, Origin("environment POD_NAME")))
    if exchange := environ.get("EXCHANGE"):
        table = f"venue.{venue_code(exchange)}"
        find_at(exchange, Origin("environment EXCHANGE"))
        for variable, key in CONNECTOR.items():
            value = environ.get(variable, "")
            if value or key == "instruments":
                values.append(_Value(table, key, value, Origin(f"environment {variable}")))
    for variable in sorted(environ):
        match = re.fullmatch(r"TICKPLANT_(PLANT|LOG|METRICS|HEALTH|VENUE)_(\w+)", variable)
        if match:
            values.append(_from_variable(variable, match[1].lower(), match[2].lower(), environ[variable]))
    return values


def _from_variable(variable: str, table: str, rest: str, value: str) -> _Value:
    origin = Origin(f"environment {variable}")
    if table != "venue":
        return _Value(table, rest, value, origin)
    # A venue's name may hold underscores, and so may a setting's: the longest setting that ends the variable is meant.
    keys = sorted((field.encode_name for field in msgspec.structs.fields(VenueSettings)), key=len, reverse=True)
    key = next((key for key in keys if rest.endswith(f"_{key}")), "")
    if not key:
        raise _unknown(variable, rest.rpartition("_")[2], keys, origin, "a setting")
    return _Value(f"venue.{venue_code(rest.removesuffix(f'_{key}'))}", key, value, origin)


def _split(name: str, value: object, origin: Origin) -> _Value:
    table, _, key = name.rpartition(".")
    if table.startswith("venue."):
        table = f"venue.{venue_code(table.removeprefix('venue.'))}"
    elif table not in TABLES:
        raise _unknown(name, table, [*TABLES, "venue"], origin, "a setting")
    return _Value(table, key, value, origin)


def find_at(name: str, origin: Origin) -> Venue:
    """`find_venue` whose error says where the name stands."""
    try:
        return find_venue(name)
    except ConfigError as error:
        raise error.at(*origin) from None


def _make_importable(directory: Path, found: dict[str, dict[str, _Value]]) -> None:
    """A user's venue class may lie beside the settings file."""
    place = str(directory.resolve())
    if any("class" in values for values in found.values()) and place not in sys.path:
        sys.path.insert(0, place)
