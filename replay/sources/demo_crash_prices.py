"""Clock, marks, index prices and liquidity of the crash day.

Everything a market does follows from a share ``c`` of its fall: 0 before the crash, 1 at its worst mark. One
shape of ``c``, with legs down and rebounds, holds for all markets; each has its own lag, sharpness and noise.
Random walks are summed as integers, so that no rounding of floats can add up to another mark elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.sources.demo_crash_markets import (
    BTC,
    INVERSE,
    LINEAR,
    MARK_ONE,
    MARKETS,
    Floats,
    Ints,
    column,
    curve,
    whole,
)
from replay.units import NS_PER_SECOND

CALM_SECONDS = 8 * 3600
CALM_EVERY = 20
WATCHFUL_BEFORE = 300
"""So long before the crash marks begin to come every :data:`MARK_EVERY` seconds."""
MARK_EVERY = 3
AFTER_SECONDS = 45 * 60
CRASH_SECONDS = 12 * 60

_STEP = 1e-9  # unit of the integer random walks
_SHARE_OF_FALL = (
    (-3600, 0.0),
    (0, 0.0),
    (40, 0.06),
    (70, 0.20),
    (100, 0.14),
    (118, 0.26),
    (150, 0.54),
    (162, 0.50),
    (210, 0.24),
    (245, 0.33),
    (285, 0.74),
    (298, 0.66),
    (318, 1.0),
    (332, 0.80),
    (348, 0.92),
    (375, 0.62),
    (395, 0.72),
    (440, 0.48),
    (480, 0.44),
    (540, 0.38),
    (590, 0.50),
    (640, 0.60),
    (665, 0.62),
    (720, 0.42),
    (900, 0.36),
    (1200, 0.29),
    (1800, 0.21),
    (2520, 0.18),
    (2700, 0.18),
)
_LIQUIDITY = (
    (-900, 1.0),
    (-120, 0.75),
    (0, 0.50),
    (60, 0.25),
    (120, 0.08),
    (150, 0.05),
    (215, 0.09),
    (285, 0.045),
    (318, 0.03),
    (400, 0.03),
    (480, 0.05),
    (600, 0.07),
    (660, 0.06),
    (720, 0.12),
    (1200, 0.35),
    (1800, 0.55),
    (2700, 0.75),
)
_SLIDE_SECONDS = 1500.0  # prices already slip for so long before the crash
_SLIDE = 0.012  # by so much, times beta
_CALM_VOLATILITY = 8e-5  # of the common walk, per square root of a second
_OWN_VOLATILITY = 8e-5
_NOISE = 0.022  # of the share of the fall, per mark in the crash
_OWN_SWING = 0.2  # of each leg of the shape


@dataclass(frozen=True, slots=True)
class Paths:
    """What the markets do, by step of the clock.

    Attributes:
        ts: int64[steps], ns UTC, rising.
        seconds: float64[steps], from the start of the crash.
        marks: int64[steps, markets] in ``10**-mark_digits``.
        index: int64[steps, markets] likewise.
        liquidity: float64[steps, markets], depth as a share of the normal one.
        crash: Moment the crash begins, ns.
    """

    ts: Ints
    seconds: Floats
    marks: Ints
    index: Ints
    liquidity: Floats
    crash: int

    @property
    def prices(self) -> Floats:
        """Marks in dollars, float64[steps, markets]."""
        return self.marks / MARK_ONE

    @property
    def start(self) -> int:
        """First moment of the day, ns."""
        return int(self.ts[0])

    @property
    def end(self) -> int:
        """Last moment of the day, ns."""
        return int(self.ts[-1])

    def step_at(self, ts: Ints) -> Ints:
        """Return the last step of the clock at or before each moment."""
        return np.searchsorted(self.ts, ts, side="right").astype(np.int64) - 1


def make_paths(rng: np.random.Generator, crash: int) -> Paths:
    """Make the paths of all markets for a crash that begins at ``crash`` (ns)."""
    calm = np.arange(-CALM_SECONDS, -WATCHFUL_BEFORE, CALM_EVERY)
    watchful = np.arange(-WATCHFUL_BEFORE, AFTER_SECONDS + 1, MARK_EVERY)
    seconds = np.concatenate((calm, watchful)).astype(np.float64)
    steps, markets = len(seconds), len(MARKETS)
    interval = np.diff(seconds, prepend=seconds[0])
    walk = _walk(rng, interval)
    slide = _SLIDE * np.interp(seconds, (-_SLIDE_SECONDS, 0.0), (0.0, 1.0))
    before = 1.0 + walk * _STEP - np.outer(slide, column("beta"))
    share = _share_of_fall(rng, seconds)
    fall = column("fall")
    prices = column("price") * before * (1.0 - fall * share)
    dislocation = 0.12 * fall * np.clip(share, 0.0, 1.0) ** 2
    flutter = np.rint(rng.standard_normal((steps, markets)) * 1e-4 / _STEP) * _STEP
    prices[:, INVERSE] = (
        prices[:, BTC]
        * (1.0 - 0.008 * np.clip(share[:, BTC], 0.0, 1.0))
        * (MARKETS[INVERSE].price / MARKETS[BTC].price + 0.2 * flutter[:, BTC])
    )
    index = prices / (1.0 - dislocation) * (1.0 + flutter)
    base = np.interp(seconds, *curve(_LIQUIDITY))
    swing = np.rint(rng.standard_normal((steps, markets)) * 0.2 * 1e6) * 1e-6
    liquidity = np.clip(base[:, None] * (1.0 + np.clip(swing, -0.5, 0.8)), 0.02, 1.5)
    return Paths(
        ts=crash + (seconds * NS_PER_SECOND).astype(np.int64),
        seconds=seconds,
        marks=whole(prices * MARK_ONE),
        index=whole(index * MARK_ONE),
        liquidity=liquidity,
        crash=crash,
    )


def _walk(rng: np.random.Generator, interval: Floats) -> Floats:
    """Return the calm random walks, float64[steps, markets] of whole numbers in 1e-9 of the price."""
    root = np.sqrt(interval)[:, None] / _STEP
    common = rng.standard_normal((len(interval), 1)) * _CALM_VOLATILITY * root
    own = rng.standard_normal((len(interval), len(MARKETS))) * _OWN_VOLATILITY * root
    own[:, BTC] *= 0.2
    return np.cumsum(whole(common * column("beta") + own), axis=0).astype(np.float64)


def _share_of_fall(rng: np.random.Generator, seconds: Floats) -> Floats:
    """Return how far through its fall each market is, float64[steps, markets], at most 1."""
    steps, markets = len(seconds), len(MARKETS)
    lag = rng.uniform(-3.0, 9.0, markets)
    lag[BTC] = 0.0
    sharpness = rng.uniform(1.0, 1.35, markets)
    sharpness[BTC] = 1.0
    strength = np.interp(seconds, (0.0, 60.0, 600.0, 900.0, 1800.0), (0.0, 1.0, 1.0, 0.45, 0.2))
    shocks = whole(rng.standard_normal((steps, markets)) * _NOISE * strength[:, None] / _STEP)
    noise = np.zeros((steps, markets), np.int64)
    for step in range(int(np.argmax(strength > 0.0)), steps):
        noise[step] = noise[step - 1] * 3 // 4 + shocks[step]
    knots, shares = curve(_SHARE_OF_FALL)
    share = np.empty((steps, markets))
    for market in range(LINEAR):
        swing = 1.0 + _OWN_SWING * rng.uniform(-1.0, 0.6, len(knots)) * (shares < 1.0)
        shape = np.interp(seconds - lag[market], knots, shares * swing) ** sharpness[market]
        own = shape + noise[:, market] * _STEP
        share[:, market] = own / own.max()
    share[:, INVERSE] = share[:, BTC]
    return share
