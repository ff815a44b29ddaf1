"""Figures of a run: medians, ratios, what counts, what is reached, the tables, the JSON.

A pair is three turns of a measure: Sluice, the peer, Sluice. The ratio of a pair is the mean of Sluice's two turns to
the peer's one between them, so a machine that gets slower or faster during the pair does not show in it. Sluice's
second turn to its first is A against A: where its median over the pairs is more than 10 % off 1, either way, the
machine was not steady enough and the figure does not count.

A ratio to the peer may have a bound: at least.

Of an own measure (see own.py) a pair is base, measure, base, and the ratio that of the measure to the mean of its base; A
against A is the base. Its bounds: the median ratio, at least or at most; the median of seconds, at most; the peaks of memory
and descriptors over all turns, at most and below. What is not reached is marked so. A ratio that does not count is
neither reached nor missed.
"""

import statistics

A_TO_A_LIMIT = 1.10


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else None


def a_to_a(pairs):
    return spread([second / first for first, second in pairs if first and second])


def is_steady(a_to_a):
    return a_to_a is not None and 1 / A_TO_A_LIMIT <= a_to_a["median"] <= A_TO_A_LIMIT


class Series:
    """One figure of all pairs: `sluice` holds both turns of each, `peer` one of each."""

    def __init__(self, figure, bound=None):
        self.figure = figure
        self.bound = bound  # of the ratio, at least
        self.sluice, self.peer = [], []

    def a_to_a(self):
        return a_to_a(self.sluice)

    def ratio(self):
        return spread([statistics.mean(two) / one for two, one in zip(self.sluice, self.peer) if one])

    def counts(self):
        return is_steady(self.a_to_a())

    def reached(self):
        """Whether the bound of the ratio is: None if there is none, or none that counts."""
        if self.bound is None or not self.peer or not self.counts():
            return None
        return self.ratio()["median"] >= self.bound

    def not_reached(self):
        if self.reached() is not False:
            return []
        return [f"{self.figure.key}-ratio: a ratio of {number(self.ratio()['median'])} to the peer, at least "
                f"{number(self.bound)} wanted"]

    def as_json(self, judges_ratio):
        return {
            "figure": self.figure.key, "label": self.figure.label, "unit": self.figure.unit,
            "more_is_better": self.figure.more_is_better, "sluice": self.sluice, "peer": self.peer,
            "sluice_median": median_of(self.sluice), "peer_median": median_of(self.peer),
            "ratio": self.ratio(), "a_to_a": self.a_to_a(), "counts": self.counts(),
            "ratio_at_least": self.bound, "reached": self.reached() if judges_ratio else None,
        }


class OwnSeries:
    """An own measure of all pairs: `base` holds both turns of each, none if it has no base; `measured` one of each.

    `taken` holds, of turns on servers of their own, what those took: {"base": [...], "measured": [...]}.
    """

    def __init__(self, measure, bounds):
        self.measure, self.bounds = measure, bounds
        self.base, self.measured = [], []
        self.taken = {"base": [], "measured": []}

    def a_to_a(self):
        return a_to_a(self.base)

    def ratio(self):
        return spread([one / statistics.mean(two) for two, one in zip(self.base, self.measured)])

    def counts(self):
        return self.measure.base is None or is_steady(self.a_to_a())

    def most(self, what, of="measured"):
        values = [taken[what] for taken in self.taken[of] if taken[what] is not None]
        return max(values) if values else None

    def reached(self, what, judges_ratio=True):
        """Whether a bound is: None if there is none, or none that counts."""
        if what not in self.bounds or what == "ratio" and not (judges_ratio and self.counts()):
            return None
        limit = self.bounds[what]
        if what == "seconds":
            return median_of(self.measured) <= limit
        if what == "ratio":
            ratio = self.ratio()["median"]
            return ratio <= limit if self.measure.ratio_at_most is not None else ratio >= limit
        return self.most("memory_mib") <= limit if what == "memory" else self.most("descriptors") < limit

    def not_reached(self, judges_ratio):
        """One line for each bound that is not."""
        at = "at least" if self.measure.ratio_at_most is None else "at most"
        has = {"ratio": lambda: f"a ratio of {number(self.ratio()['median'])}, {at} {number(self.bounds['ratio'])}",
               "seconds": lambda: f"{number(median_of(self.measured))} s, at most {number(self.bounds['seconds'])}",
               "memory": lambda: f"{number(self.most('memory_mib'))} MiB resident, at most {number(self.bounds['memory'])}",
               "descriptors": lambda: f"{self.most('descriptors'):,} descriptors, below {self.bounds['descriptors']:,.0f}"}
        return [f"{self.measure.name}-{what}: {has[what]()} wanted" for what in self.bounds
                if self.reached(what, judges_ratio) is False]

    def as_json(self, judges_ratio):
        return {
            "measure": self.measure.name, "label": self.measure.label, "unit": self.measure.unit,
            "base": self.base, "measured": self.measured,
            "base_median": median_of(self.base), "measured_median": median_of(self.measured),
            "ratio": self.ratio(), "a_to_a": self.a_to_a(), "counts": self.counts(), "taken": self.taken,
            "peak_resident_mib": self.most("memory_mib"), "base_peak_resident_mib": self.most("memory_mib", "base"),
            "most_descriptors": self.most("descriptors"), "most_open_files": self.most("open_files"),
            "bounds": self.bounds, "reached": {what: self.reached(what, judges_ratio) for what in self.bounds},
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
    rows = [("", "unit", "Sluice", "ganesha", "Sluice / ganesha", "wanted", "A / A")]
    for series in sorted(all_series, key=lambda series: not series.figure.more_is_better):
        figure = series.figure
        unsteady = "" if series.counts() or not judged else " does not count"
        rows.append((figure.label, figure.unit, number(median_of(series.sluice)), number(median_of(series.peer)),
                     ratio_words(series.ratio()), wanted(series, judged), ratio_words(series.a_to_a()) + unsteady))
    sluice, peer = memory["sluice"], memory.get("ganesha")
    rows.append(("peak resident memory, whole run", "MiB", number(sluice), number(peer),
                 f"{sluice / peer:.2f}" if peer else "–", "–", "–"))
    return markdown(rows)


def wanted(series, judged):
    """The bound of a ratio to the peer, and whether it is reached."""
    if series.bound is None or not series.peer:
        return "–"
    return f"≥ {number(series.bound)}" + {True: " reached", False: " NOT REACHED", None: ""}[series.reached() if judged else None]


def own_table(all_series, judges_ratio):
    """Markdown: rates of own measures beside their bases."""
    rows = [("Sluice beside itself or its disk", "unit", "base", "measure", "measure / base", "wanted", "A / A")]
    for series in all_series:
        measure = series.measure
        limits = {"ratio": "≥" if measure.ratio_at_most is None else "≤", "seconds": "≤"}
        limit = next((f"{sign} {number(series.bounds[what])}{mark(series, what, judges_ratio, reached=' reached')}"
                      for what, sign in limits.items() if what in series.bounds), "–")
        rows.append((measure.label, measure.unit, number(median_of(series.base)), number(median_of(series.measured)),
                     ratio_words(series.ratio()), limit,
                     ratio_words(series.a_to_a()) + ("" if series.counts() or not judges_ratio else " does not count")))
    return markdown(rows)


def taken_table(all_series, budget_mib):
    """Markdown: what the servers of own measures took at most, over all turns."""
    rows = [(f"--memory {budget_mib}MiB, a server for each turn", "peak resident memory, MiB", "at most",
             "most descriptors", "below", "most files open")]
    for series in all_series:
        if series.measure.base:
            rows.append((f"in order, as base of {series.measure.name}", number(series.most("memory_mib", "base")), "–",
                         f"{series.most('descriptors', 'base'):,}", "–", "–"))
        open_files = series.most("open_files")
        rows.append((series.measure.label, number(series.most("memory_mib")),
                     number(series.bounds["memory"]) + mark(series, "memory"), f"{series.most('descriptors'):,}",
                     f"{series.bounds['descriptors']:,.0f}" + mark(series, "descriptors"),
                     "–" if open_files is None else f"{open_files:,}"))
    return markdown(rows)


def mark(series, what, judges_ratio=True, reached=""):
    return {True: reached, False: " NOT REACHED", None: ""}[series.reached(what, judges_ratio)]


def markdown(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows)
