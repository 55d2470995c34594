"""Your own code in tickplant's simulated world: `pytest examples/test_with_simulator.py`.

The venues speak their real protocols, the plant is the real one, time is virtual, and faults come when you call them.
"""

pytest_plugins = ["tickplant.testing.fixtures"]


def best_bid(log, instrument):
    """The code under test: what a user would write."""
    return log.book(instrument).bids[0].price


def test_the_best_bid_is_the_venues(sim_world):
    world = sim_world(seed=7, venues=["kraken"])
    world.run(seconds=30)
    world.settle()  # the markets stand still, and what they said has arrived
    bids, _ = world.venue("kraken").book("BTC/USD")
    assert best_bid(world.log, "BTC/USD.KRAKEN") == bids[0][0]


def test_a_lost_message_heals_and_is_told(sim_world):
    world = sim_world(seed=7, venues=["binance"])
    world.run(seconds=30)
    world.inject("drop", "binance")
    world.run(seconds=30)
    gaps = [gap for batch in world.log.records(schema="gap") for gap in batch]
    assert len(gaps) == 1
    # What the fixture proves at the end: the book is live again and equals the venue's.


def test_a_socket_that_dies_without_a_word_is_given_up(sim_world):
    world = sim_world(seed=7, venues=["coinbase"])
    world.run(seconds=10)
    world.inject("half_open", "coinbase")
    world.run(seconds=60)
    assert [fault.name for fault in world.fired] == ["half_open"]
    assert world.station("coinbase").attempts == 2
