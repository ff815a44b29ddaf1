"""Figures of a run: medians, ratios, what counts, the table, the JSON.

A pair is three turns of a measure: Sluice, the peer, Sluice. The ratio of a pair is the mean of Sluice's two turns to
the peer's one between them, so a machine that gets slower or faster during the pair does not show in it. Sluice's
second turn to its first is A against A: where its median over the pairs is more than 10 % off 1, either way, the
machine was not steady enough and the figure does not count.
"""

import statistics

A_TO_A_LIMIT = 1.10


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else None


class Series:
    """One figure of all pairs: `sluice` holds both turns of each, `peer` one of each."""

    def __init__(self, figure):
        self.figure = figure
        self.sluice, self.peer = [], []

    def a_to_a(self):
        return spread([second / first for first, second in self.sluice if first and second])

    def ratio(self):
        return spread([statistics.mean(two) / one for two, one in zip(self.sluice, self.peer) if one])

    def counts(self):
        a_to_a = self.a_to_a()
        return a_to_a is not None and 1 / A_TO_A_LIMIT <= a_to_a["median"] <= A_TO_A_LIMIT

    def as_json(self):
        return {
            "figure": self.figure.key, "label": self.figure.label, "unit": self.figure.unit,
            "more_is_better": self.figure.more_is_better, "sluice": self.sluice, "peer": self.peer,
            "sluice_median": median_of(self.sluice), "peer_median": median_of(self.peer),
            "ratio": self.ratio(), "a_to_a": self.a_to_a(), "counts": self.counts(),
        }


def median_of(values):
    flat = [each for value in values for each in (value if isinstance(value, tuple) else (value,))]
    return statistics.median(flat) if flat else None


def number(value):
    """Three digits that mean something."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio_words(ratio):
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}…{ratio['max']:.2f})" if ratio else "–"


def table(all_series, memory, judged):
    """Markdown. `memory` is the peak of each server in MiB; unless `judged` nothing is marked as not counting."""
    rows = [("", "unit", "Sluice", "ganesha", "Sluice / ganesha", "A / A")]
    for series in sorted(all_series, key=lambda series: not series.figure.more_is_better):
        figure = series.figure
        mark = "" if series.counts() or not judged else " does not count"
        rows.append((figure.label, figure.unit, number(median_of(series.sluice)), number(median_of(series.peer)),
                     ratio_words(series.ratio()), ratio_words(series.a_to_a()) + mark))
    sluice, peer = memory["sluice"], memory.get("ganesha")
    rows.append(("peak resident memory, whole run", "MiB", number(sluice), number(peer),
                 f"{sluice / peer:.2f}" if peer else "–", "–"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows)
