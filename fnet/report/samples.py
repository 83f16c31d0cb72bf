"""The figure of `fnet data show`: training examples, the balance of classes, and the effect of normalization."""

import io
from typing import Any

import numpy as np

from fnet.core.wording import printable
from fnet.data.arrays import Arrays
from fnet.data.inspect import Inspection
from fnet.data.tokens import decode
from fnet.report.text import visible

ROWS, COLUMNS = 10, 10
TEXT_LINES = 27
MAX_POINTS = 2000
POINT_STYLE: dict[str, Any] = {"s": 14, "alpha": 0.75, "linewidths": 0}
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D31", "#7B6FD0", "#999999", "#222222")
"""Colors of classes and parts, distinguishable by color-blind readers (after Okabe and Ito)."""


def draw(inspection: Inspection) -> bytes:
    """Draw a dataset as a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.2), dpi=110, layout="constrained")
    spec = inspection.spec
    figure.suptitle(
        _escape(f"{printable(spec.name)}: {spec.size:,} examples {spec.shape}, {spec.targets}"), fontsize=13
    )
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.75, 1))
    left, right = halves
    if spec.tokens:
        _text(left, inspection)
    elif len(spec.shape) == 3 and spec.shape[2] in (1, 3):
        _images(left, inspection)
    else:
        _points(left, inspection)
    upper, lower = right.subplots(2, 1)
    _balance(upper, inspection)
    _entries(lower, inspection)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _images(figure: Any, inspection: Inspection) -> None:
    """Draw rows of examples for every class; with many classes, one row for each of the first."""
    train, targets = inspection.raw[0], inspection.spec.targets
    if targets.kind == "classes":
        labels = [label for label in range(targets.number) if (train.y == label).any()][:ROWS]
        rows_per_class = ROWS // len(labels)
        rows = [
            (
                _name(inspection, label) if line == 0 else "",
                np.flatnonzero(train.y == label)[line * COLUMNS :][:COLUMNS],
            )
            for label in labels
            for line in range(rows_per_class)
        ]
        rows = [row for row in rows if len(row[1])]
    else:
        rows = [("", np.arange(start, min(start + COLUMNS, train.size))) for start in range(0, train.size, COLUMNS)][
            :ROWS
        ]
    low, high = inspection.spec.range or (float(train.x.min()), float(train.x.max()))
    axes = figure.subplots(len(rows), COLUMNS, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    for line, (name, examples) in zip(axes, rows, strict=True):
        for column, axis in enumerate(line):
            axis.set_axis_off()
            if column < len(examples):
                pixels = (train.x[examples[column]].astype(np.float64) - low) / max(high - low, 1e-12)
                gray = {"cmap": "gray", "vmin": 0, "vmax": 1} if pixels.shape[2] == 1 else {}
                axis.imshow(np.clip(pixels, 0, 1).squeeze(), interpolation="nearest", **gray)
        if name:
            line[0].text(
                -0.15, 0.5, _escape(_truncate(name)), transform=line[0].transAxes, ha="right", va="center", fontsize=10
            )
    selection = f", of the first {ROWS} classes" if targets.kind == "classes" and targets.number > ROWS else ""
    figure.suptitle(f"training examples as stored{selection}", fontsize=11)


def _points(figure: Any, inspection: Inspection) -> None:
    """Draw examples as points: a value over one feature, two features, or the first two principal components."""
    axis = figure.subplots()
    train = inspection.splits.train
    sample = np.random.default_rng(0).permutation(train.size)[:MAX_POINTS]
    x, y = train.x[sample].reshape(len(sample), -1), train.y[sample]
    points, title = _projected(axis, inspection, x, y)
    if inspection.spec.targets.kind == "classes":
        _scatter_classes(axis, inspection, points, y, legend=x.shape[1] > 1)
    else:
        _scatter_values(figure, axis, inspection, points, y, legend=x.shape[1] > 1)
    axis.set_title(title + ("" if inspection.normalization == "none" else ", normalized"), fontsize=11)
    _hide_spines(axis)


def _projected(axis: Any, inspection: Inspection, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the examples as points in two dimensions, and the title of the plot; label the axes."""
    if x.shape[1] == 1:
        axis.set_xlabel("feature 1")
        return np.stack([x[:, 0], _heights(axis, inspection, y)], axis=1), "training examples"
    if x.shape[1] == 2:
        axis.set_xlabel("feature 1")
        axis.set_ylabel("feature 2")
        return x, "training examples"
    points, share = _principal_components(x)
    axis.set_xlabel(f"first principal component, {share[0]:.0%} of the variance")
    axis.set_ylabel(f"second, {share[1]:.0%}")
    return points, f"training examples, first two of {x.shape[1]} principal components"


def _principal_components(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first two principal components of examples (n, features), (n, 2), and their shares of the variance.

    They are the largest eigenvalues and the eigenvectors of the smaller one of c cᵀ and cᵀ c for the centered examples
    c, which takes a fraction of the time of a singular value decomposition.
    """
    from scipy.linalg import eigh

    centered = x - x.mean(axis=0, dtype=np.float64)
    is_wide = len(x) < x.shape[1]
    products = centered @ centered.T if is_wide else centered.T @ centered
    first = max(0, len(products) - 2)
    squares, vectors = eigh(products, subset_by_index=(first, len(products) - 1))
    squares, vectors = np.clip(squares[::-1], 0, None), vectors[:, ::-1]
    points = vectors * np.sqrt(squares) if is_wide else centered @ vectors
    missing = 2 - len(squares)  # a single example has one component
    share = np.pad(squares, (0, missing)) / max(float(np.trace(products)), 1e-12)
    return np.pad(points, ((0, 0), (0, missing))), share


def _heights(axis: Any, inspection: Inspection, y: np.ndarray) -> np.ndarray:
    """Return the vertical positions of examples with one feature: the value, or the class with jitter."""
    targets = inspection.spec.targets
    if targets.kind == "classes":
        axis.set_yticks(range(targets.number), [_escape(_name(inspection, label)) for label in range(targets.number)])
        return y + np.random.default_rng(1).uniform(-0.3, 0.3, len(y))
    axis.set_ylabel(_escape(_value_name(inspection)))
    return y[:, 0]


def _scatter_classes(axis: Any, inspection: Inspection, points: np.ndarray, y: np.ndarray, *, legend: bool) -> None:
    number = inspection.spec.targets.number
    for label in range(min(number, len(COLORS))):
        name = _escape(_truncate(_name(inspection, label)))
        axis.scatter(*points[y == label].T, color=COLORS[label], label=name, **POINT_STYLE)
    if legend and number > 1:
        axis.legend(fontsize=9, markerscale=1.5)


def _scatter_values(
    figure: Any, axis: Any, inspection: Inspection, points: np.ndarray, y: np.ndarray, *, legend: bool
) -> None:
    scatter = axis.scatter(*points.T, c=y[:, 0], cmap="viridis", **POINT_STYLE)
    if legend:
        figure.colorbar(scatter, ax=axis, label=_escape(_value_name(inspection)), pad=0.01)


def _text(figure: Any, inspection: Inspection) -> None:
    """Write the first training examples, as text if the dataset has a vocabulary, else as numbers."""
    axis = figure.subplots()
    axis.set_axis_off()
    train, vocabulary = inspection.raw[0], inspection.spec.vocabulary
    lines = []
    for row in train.x[:TEXT_LINES]:
        text = " ".join(map(str, row.tolist())) if vocabulary is None else decode(row, vocabulary)
        shown = "".join(letter if letter.isprintable() else "↵" if letter == "\n" else "·" for letter in text)
        wrapped = [shown[start : start + 68] for start in range(0, len(shown), 68)]
        lines += [("│ " if number == 0 else "  ") + line for number, line in enumerate(wrapped)]
    axis.text(
        0, 1, "\n".join(lines[:TEXT_LINES]), family="monospace", fontsize=11, va="top", transform=axis.transAxes,
        linespacing=1.45, parse_math=False,
    )  # fmt: skip
    axis.set_title("the first training examples; │ marks the start of each", fontsize=11, loc="left")


def _balance(axis: Any, inspection: Inspection) -> None:
    """Draw the share of every class in every part, of many classes the most frequent; or the target's distribution."""
    parts = [
        (name, part) for name, part in zip(("train", "validation", "test"), inspection.raw, strict=True) if part.size
    ]
    if inspection.spec.targets.kind == "values":
        bins = np.histogram_bin_edges(np.concatenate([part.y[:, 0] for _, part in parts]), 15)
        for number, (name, part) in enumerate(parts):
            axis.hist(
                part.y[:, 0], bins, weights=np.full(part.size, 1 / part.size), histtype="step", lw=1.8,
                color=COLORS[number], label=name,
            )  # fmt: skip
        axis.set_title("distribution of the target", fontsize=11)
    else:
        counts = [np.bincount(part.y.reshape(-1), minlength=inspection.spec.targets.number) for _, part in parts]
        number = inspection.spec.targets.number
        order = np.arange(number) if number <= 20 else np.argsort(-counts[0], kind="stable")[:20]
        width = 0.8 / len(parts)
        for index, ((name, _), count) in enumerate(zip(parts, counts, strict=True)):
            left = np.arange(len(order)) + (index - (len(parts) - 1) / 2) * width
            axis.bar(left, count[order] / max(1, count.sum()), width, color=COLORS[index], label=name)
        names = [_escape(_truncate(_name(inspection, int(label)), 14)) for label in order]
        long = max(map(len, names)) * len(names) > 70
        rotation = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}
        axis.set_xticks(range(len(order)), names, fontsize=9, **rotation)
        axis.set_title("share of each class" + (", the 20 most frequent" if number > 20 else ""), fontsize=11)
    axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    axis.set_ylim(0, 1.18 * axis.get_ylim()[1])
    axis.legend(fontsize=9, frameon=False, ncols=3, loc="upper right")
    _hide_spines(axis)


def _entries(axis: Any, inspection: Inspection) -> None:
    """Draw the distribution of the training entries, stored and normalized; of features for tables, tokens for text."""
    train = inspection.raw[0]
    if inspection.spec.tokens:
        counts = np.sort(np.bincount(train.x.reshape(-1), minlength=inspection.spec.targets.number))[::-1]
        axis.bar(np.arange(1, len(counts) + 1), counts / counts.sum(), color=COLORS[0])
        axis.set_title("share of each token, by rank", fontsize=11)
        axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
        _hide_spines(axis)
        return
    if len(inspection.spec.shape) == 1 and inspection.spec.shape[0] > 1:
        _features(axis, inspection)
        return
    stored, normalized = (_finite_entries(part) for part in (train, inspection.splits.train))
    shares = _histogram(axis, stored, COLORS[0], filled=True)
    axis.set_xlabel("as stored", color=COLORS[0])
    axis.set_title("entries of the training examples", fontsize=11)
    if inspection.normalization != "none":
        upper = axis.twiny()
        _histogram(upper, normalized, COLORS[5], filled=False)
        upper.set_xlabel(f"normalized ({inspection.normalization})", color=COLORS[5])
        upper.spines[["left", "right"]].set_visible(False)
    if shares.max() > 0.5:
        axis.set_yscale("log")
    axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    _hide_spines(axis, top=inspection.normalization != "none")


def _features(axis: Any, inspection: Inspection) -> None:
    """Draw a box plot of the first 20 features of a table, as the network receives them."""
    x = inspection.splits.train.x[:, :20]
    line = {"color": COLORS[0]}
    axis.boxplot(
        x, patch_artist=True, flierprops={"marker": ".", "markersize": 3, "markeredgecolor": COLORS[0]},
        boxprops={"facecolor": "#B0D3E8", **line}, whiskerprops=line, capprops=line,
        medianprops={"color": COLORS[5], "lw": 1.6},
    )  # fmt: skip
    more = f", the first 20 of {inspection.spec.shape[0]}" if inspection.spec.shape[0] > 20 else ""
    form = "as stored" if inspection.normalization == "none" else f"normalized ({inspection.normalization})"
    axis.set_title(f"features, {form}{more}", fontsize=11)
    axis.tick_params(axis="x", labelsize=9)
    _hide_spines(axis)


def _finite_entries(part: Arrays) -> np.ndarray:
    """Return at most a million evenly spaced entries, without missing ones."""
    entries = part.x.reshape(-1)
    entries = entries[:: max(1, entries.size // 1_000_000)].astype(np.float64)
    return entries[np.isfinite(entries)]


def _histogram(axis: Any, entries: np.ndarray, color: str, *, filled: bool) -> np.ndarray:
    """Draw the shares of fifty bins, and return them."""
    style = {"histtype": "stepfilled", "alpha": 0.3} if filled else {"histtype": "step", "lw": 1.6}
    return axis.hist(entries, 50, weights=np.full(len(entries), 1 / max(1, len(entries))), color=color, **style)[0]


def _name(inspection: Inspection, label: int) -> str:
    names = inspection.spec.targets.names
    return visible(names[label] if names else str(label))


def _value_name(inspection: Inspection) -> str:
    names = inspection.spec.targets.names
    return visible(names[0]) if names else "target"


def _truncate(name: str, length: int = 18) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _escape(text: str) -> str:
    """Escape dollar signs, which would start a formula."""
    return text.replace("$", r"\$")


def _hide_spines(axis: Any, *, top: bool = False) -> None:
    axis.spines[["right"] if top else ["top", "right"]].set_visible(False)
