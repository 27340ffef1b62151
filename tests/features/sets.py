"""A small feature set that reaches every branch: short windows, lateness, shapes that differ."""

from __future__ import annotations

from interlock.features.definition import Column, FeatureSet, Velocity, Window, velocity_columns

_VELOCITIES = (
    Velocity("card_velocity", "card", windows=(Window(6, 1), Window(40, 10)), lateness_s=3),
    Velocity("terminal_velocity", "terminal", windows=(Window(20, 2), Window(60, 20), Window(600, 60)), lateness_s=25),
)
TINY = FeatureSet("tiny", 1, _VELOCITIES, (Column("amount", "input", "amount"), *velocity_columns(_VELOCITIES)))
