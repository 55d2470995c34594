"""Settings: precedence and origins, and errors that name file, line, what was expected and the nearest valid name."""

import pickle

import msgspec
import pytest

from tickplant.config import DEFAULT, Config, load
from tickplant.errors import ConfigError, TickplantError, UnknownInstrument, UnknownVenue

FILE = """\
# A plant of two venues.
[log]
path = "from-file"
sync = "always"

[venue.kraken]
instruments = ["BTC/USD", "ETH/USD.KRAKEN"]
depth = 100

[venue.binance-usdm]
instruments = [
  "BTCUSDT",
]
ping_every_s = 5
"""


@pytest.fixture
def write(tmp_path):
    def write_file(text):
        path = tmp_path / "plant.toml"
        path.write_text(text)
        return path

    return write_file


def origins(config):
    return {name: str(origin) for name, _, origin in config.rows()}


def test_flag_beats_environment_beats_file_beats_default(write):
    path = write(FILE)
    environ = {"TICKPLANT_LOG_PATH": "from-environment", "TICKPLANT_VENUE_BINANCE_USDM_PING_TIMEOUT_S": "2.5"}
    config = load(path, environ=environ, flags={"venue.kraken.depth": 10})
    assert config.log.path == "from-environment"
    assert config.log.sync == "always"
    assert config.log.sync_interval_ms == 100
    assert config.venues["KRAKEN"].depth == 10
    assert config.venues["KRAKEN"].instruments == ["BTC/USD", "ETH/USD"]
    assert config.venues["BINANCE_USDM"].ping_every_s == 5
    assert config.venues["BINANCE_USDM"].ping_timeout_s == 2.5
    found = origins(config)
    assert found["log.path"] == "environment TICKPLANT_LOG_PATH"
    assert found["log.sync"] == f"{path}:4"
    assert found["log.segment_bytes"] == str(DEFAULT)
    assert found["venue.KRAKEN.depth"] == "flag venue.kraken.depth"
    assert found["venue.KRAKEN.instruments"] == f"{path}:7"
    assert found["venue.BINANCE_USDM.ping_every_s"] == f"{path}:14"


def test_flags_may_be_texts_as_they_stand_on_the_command_line():
    config = load(flags={"venue.kraken.loops": "4", "venue.kraken.instruments": "BTC/USD,ETH/USD"})
    assert config.venues["KRAKEN"].loops == 4
    assert config.venues["KRAKEN"].instruments == ["BTC/USD", "ETH/USD"]
    with pytest.raises(ConfigError, match=r"flag log\.paht"):
        load(flags={"log.paht": "x"})


def test_a_connector_needs_no_file():
    config = load(
        environ={
            "EXCHANGE": "binance",
            "SYMBOLS": "BTCUSDT, ETHUSDT.BINANCE",
            "WS_ENDPOINT": "wss://stream.example:9443",
            "REST_ENDPOINT": "https://rest.example",
            "POD_NAME": "md-0",
        }
    )
    settings = config.venues["BINANCE"]
    assert config.plant.name == "md-0"
    assert settings.instruments == ["BTCUSDT", "ETHUSDT"]
    assert (settings.url, settings.rest_url) == ("wss://stream.example:9443", "https://rest.example")
    assert origins(config)["venue.BINANCE.url"] == "environment WS_ENDPOINT"


def test_secrets_are_covered():
    config = load(environ={"TICKPLANT_VENUE_KRAKEN_API_SECRET": "hidden"})
    assert config.venues["KRAKEN"].api_secret == "hidden"
    assert "hidden" not in str(list(config.rows()))


def test_other_variables_are_left_alone():
    assert load(environ={"TICKPLANT_RECORDINGS": "x", "PATH": "/bin"}) == Config()


BAD = [
    ("[log]\npaht = 'x'\n", 2, '"log.paht" is not a setting', "path"),
    ("[lgo]\npath = 'x'\n", 1, '"lgo" is not a table of settings', "log"),
    ("\n[log]\nsync = 'alway'\n", 3, "log.sync is 'alway'", "always"),
    ("[log]\nsegment_bytes = 'big'\n", 2, "expected a number of bytes from 65536", ""),
    ("[log]\nsync_interval_ms = 0\n", 2, "expected milliseconds from 1 to 60000", ""),
    ("log = 3\n", 1, "expected [log]", ""),
    ("[venue]\nkraken = 3\n", 2, "expected a table such as [venue.kraken]", ""),
    ("[venue.krakn]\ndepth = 10\n", 1, '"krakn" is no known venue', "KRAKEN"),
    ("[venue.kraken]\ndepth = 10\ndepht = 10\n", 3, '"venue.KRAKEN.depht" is not a setting', "depth"),
    ("[venue.kraken]\n\ndepth = 12\n", 3, "expected 10, 25, 100, 500, 1000", ""),
    ("[venue.kraken]\nloops = true\n", 2, "expected a whole number from 1 to 64", ""),
    ("[venue.kraken]\ninstruments = 'BTC/USD'\n", 2, "expected a list of symbols", ""),
    ("[venue.kraken]\ninstruments = [1]\n", 2, "expected a list of symbols", ""),
    ("[venue.kraken]\nurl = 'kraken.com'\n", 2, "expected an address such as wss://host:443", ""),
    ("[venue.kraken]\nstreams = ['books']\n", 2, "expected a list out of", ""),
    ("[venue.kraken]\nping_every_s = -1\n", 2, "expected seconds", ""),
    ("[venue.kraken]\n\ninstruments = ['BTC-USD']\n", 3, "how Kraken spells", "BTC/USD.KRAKEN"),
    ("[venue]\nkraken = {depth = 12}\n", 2, "no book of depth 12", ""),
    ("[venue.kraken]\ndepth = 10\n[venue.KRAKEN]\ndepth = 25\n", 3, "a second time", ""),
    ("[venue.mine]\nclass = 'no_such_module:Mine'\n", 2, "cannot be loaded", ""),
    ("[venue.mine]\nclass = 'mine'\n", 2, 'expected a class as "module:Class"', ""),
    ("[log]\npath = x\n", 2, "this is no TOML", ""),
    ("[log\n", 1, "this is no TOML", ""),
]


@pytest.mark.parametrize(("text", "line", "message", "nearest"), BAD)
def test_a_mistake_gives_one_message_with_its_place(write, text, line, message, nearest):
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    error = caught.value
    assert (error.file, error.line) == (str(path), line)
    assert message in str(error)
    assert f"{path}:{line}" in str(error)
    assert error.nearest == nearest
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("environ", "kind", "where", "message"),
    [
        ({"EXCHANGE": "binanec"}, UnknownVenue, "environment EXCHANGE", 'did you mean "BINANCE"'),
        ({"EXCHANGE": "binance", "SYMBOLS": "BTC-USDT"}, UnknownInstrument, "environment SYMBOLS", "BTCUSDT.BINANCE"),
        ({"TICKPLANT_LOG_SYNC": "x"}, ConfigError, "environment TICKPLANT_LOG_SYNC", "one of"),
        ({"TICKPLANT_LOG_SYNCH": "none"}, ConfigError, "environment TICKPLANT_LOG_SYNCH", 'did you mean "sync"'),
        ({"TICKPLANT_VENUE_KRAKEN_DEPHT": "1"}, ConfigError, "environment TICKPLANT_VENUE_KRAKEN_DEPHT", "depth"),
        ({"TICKPLANT_VENUE_KRAKEN_DEPTH": "ten"}, ConfigError, "environment TICKPLANT_VENUE_KRAKEN_DEPTH", "levels"),
        ({"TICKPLANT_VENUE_KRAKN_DEPTH": "10"}, UnknownVenue, "environment TICKPLANT_VENUE_KRAKN_DEPTH", "KRAKEN"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(environ, kind, where, message):
    with pytest.raises(kind) as caught:
        load(environ=environ)
    assert caught.value.where == where
    assert message in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"[log]\n\xff")
    with pytest.raises(ConfigError, match="no UTF-8") as caught:
        load(binary)
    assert caught.value.line == 2


def test_a_users_venue_lies_beside_the_file(write):
    path = write('[venue.own]\nclass = "own_venue_for_test:Own"\ninstruments = ["X"]\n')
    path.with_name("own_venue_for_test.py").write_text(
        "from tickplant.venues.coinbase import Coinbase\n"
        "from tickplant.venues.user import UserVenue\n"
        "class Own(UserVenue):\n    code, number, routes, channels = 'OWN', 0x8000, (), ()\n    book = Coinbase.book\n"
    )
    config = load(path)
    assert config.venue("OWN").number == 0x8000


def test_errors_know_their_part_and_cross_processes_whole():
    error = ConfigError("x is 3", file="a.toml", line=2, expected="4", nearest="y")
    assert str(error) == 'x is 3 (a.toml:2): expected 4; did you mean "y"?'
    copy = msgspec.json.decode(msgspec.json.encode(error.to_dict()))
    assert copy["where"] == "a.toml:2"
    assert (copy["fault"], copy["retry"], copy["stage"]) == ("user", False, "config")


def test_every_error_survives_pickling():
    def tree(kind):
        return [kind, *(deep for sub in kind.__subclasses__() for deep in tree(sub))]

    special = {"MissingExtra": ("polars",), "LostRecords": ("kraken", 3, 9)}
    for kind in tree(TickplantError):
        error = kind(*special.get(kind.__name__, ("what",)))
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is kind
        assert (str(copy), copy.to_dict()) == (str(error), error.to_dict())
