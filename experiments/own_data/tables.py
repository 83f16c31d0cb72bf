"""Ten tables with rows as people have them: numbers, categories, dates, missing entries, few or many examples."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd


def _embedded(name: str) -> pd.DataFrame:
    """Return a dataset that ships with scikit-learn, with the names of its columns and classes."""
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")(as_frame=True)
    table = data.frame.copy()
    if len(getattr(data, "target_names", ())):
        table["target"] = [str(data.target_names[label]) for label in data.target]
    return table


def houses(rng: np.random.Generator, rows: int = 1200) -> pd.DataFrame:
    """Return prices that depend on area, age, town and date, with a few entries missing."""
    town = rng.choice(["Ghent", "Bruges", "Leuven", "Antwerp"], rows, p=[0.4, 0.2, 0.2, 0.2])
    area, built = rng.uniform(40, 220, rows).round(), rng.integers(1900, 2024, rows).astype(float)
    sold = pd.Timestamp("2015-01-01") + pd.to_timedelta(rng.integers(0, 3650, rows), "D")
    per_square_meter = pd.Series(town).map({"Ghent": 3100, "Bruges": 2800, "Leuven": 3500, "Antwerp": 2600}).to_numpy()
    years = (sold - pd.Timestamp("2015-01-01")).days.to_numpy() / 365
    age = 2024 - built
    price = area * per_square_meter * (1 + 0.04 * years) * (1 - 0.3 * age / (age + 60)) * rng.lognormal(0, 0.08, rows)
    built[rng.random(rows) < 0.05] = np.nan
    return pd.DataFrame(
        {
            "id": np.arange(1, rows + 1),
            "area": area,
            "built": built,
            "town": town,
            "sold": sold.strftime("%Y-%m-%d"),
            "garden": rng.random(rows) < 0.4,
            "price": price.round(),
        }
    )


def churn(rng: np.random.Generator, rows: int = 3000) -> pd.DataFrame:
    """Return customers, of whom about an eighth leave: categories and numbers that interact."""
    months = rng.exponential(24, rows).round() + 1
    plan = rng.choice(["basic", "plus", "business"], rows, p=[0.6, 0.3, 0.1])
    calls = rng.poisson(1.2, rows)
    charge = pd.Series(plan).map({"basic": 15.0, "plus": 30.0, "business": 80.0}).to_numpy() * rng.uniform(
        0.8, 1.4, rows
    )
    logit = -2.6 - 0.05 * months + 0.9 * calls * (plan != "business") + 0.02 * charge
    left = rng.random(rows) < 1 / (1 + np.exp(-logit))
    return pd.DataFrame(
        {
            "customer": [f"C{number:05d}" for number in rng.permutation(rows)],
            "months": months,
            "plan": plan,
            "calls": calls,
            "charge": charge.round(2),
            "left": np.where(left, "yes", "no"),
        }
    )


def bicycles(rng: np.random.Generator, rows: int = 2400) -> pd.DataFrame:
    """Return bicycles hired per hour: two peaks on working days, one on weekends, and the weather."""
    time = pd.Timestamp("2023-01-01") + pd.to_timedelta(np.sort(rng.choice(24 * 365, rows, replace=False)), "h")
    hour, weekend = time.hour.to_numpy(), time.dayofweek.to_numpy() >= 5
    warmth = 10 - 9 * np.cos(2 * np.pi * (time.dayofyear.to_numpy() - 20) / 365)
    temperature = warmth + 4 * np.sin((hour - 9) * np.pi / 12) + rng.normal(0, 2, rows)
    rain = rng.random(rows) < 0.2
    working = np.exp(-((hour - 8) ** 2) / 4) + 1.2 * np.exp(-((hour - 17.5) ** 2) / 6)
    day = np.where(weekend, 0.9 * np.exp(-((hour - 14) ** 2) / 18), working) + 0.1
    mean = 300 * day * (0.3 + np.clip(temperature, 0, 30) / 30) * np.where(rain, 0.45, 1)
    return pd.DataFrame(
        {
            "time": time.strftime("%Y-%m-%d %H:%M"),
            "temperature": temperature.round(1),
            "rain": np.where(rain, "yes", "no"),
            "hired": rng.poisson(mean),
        }
    )


def friedman(rng: np.random.Generator, rows: int = 800) -> pd.DataFrame:
    """Return the function of J. Friedman (1991) with noise: 10 sin(pi a b) + 20 (c - 1/2)^2 + 10 d + 5 e."""
    x = rng.random((rows, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    table = pd.DataFrame(x.round(4), columns=list("abcdefghij"))
    return table.assign(y=(y + rng.normal(0, 1, rows)).round(3))


def linear(rng: np.random.Generator, rows: int = 300) -> pd.DataFrame:
    """Return a linear function of 20 numbers of very different sizes, with values around 300,000."""
    x = rng.normal(0, 1, (rows, 20))
    y = 300_000 + 20_000 * (x @ rng.normal(0, 1, 20) + rng.normal(0, 1, rows))
    table = pd.DataFrame(x * 10.0 ** rng.integers(-3, 4, 20), columns=[f"x{number}" for number in range(1, 21)])
    return table.assign(y=y.round())


def moons(rng: np.random.Generator, rows: int = 500) -> pd.DataFrame:
    """Return two interleaved half circles with noise."""
    from sklearn.datasets import make_moons

    x, label = make_moons(rows, noise=0.25, random_state=int(rng.integers(2**31)))
    return pd.DataFrame({"x": x[:, 0].round(3), "y": x[:, 1].round(3), "moon": np.where(label, "lower", "upper")})


TABLES: Mapping[str, tuple[str, Callable[[np.random.Generator], pd.DataFrame]]] = {
    "iris": ("target", lambda rng: _embedded("iris")),
    "wine": ("target", lambda rng: _embedded("wine")),
    "breast_cancer": ("target", lambda rng: _embedded("breast_cancer")),
    "digits": ("target", lambda rng: _embedded("digits")),
    "diabetes": ("target", lambda rng: _embedded("diabetes")),
    "houses": ("price", houses),
    "churn": ("left", churn),
    "bicycles": ("hired", bicycles),
    "friedman": ("y", friedman),
    "linear": ("y", linear),
    "moons": ("moon", moons),
}
"""The name of the target, and the function that makes the table, by name."""
