"""A running plant: settings to shares, shares to lanes of one log, commands from outside."""

from tickplant.plant.river import Line, Only, Plant, PlantState, lane_name

__all__ = ["Line", "Only", "Plant", "PlantState", "lane_name"]
