"""What was seen over time, as (time, value) pairs in the order of time: means and maxima of a window that moves.

The times are irregular and a look may be missing, so a value counts for the time around it, not for itself.
"""

from itertools import pairwise

Series = tuple[tuple[float, float], ...]


def mean(series: Series, seconds: float) -> float:
    """Mean over the last `seconds`, or over what there is of them, with straight lines between the values.

    Not less when a value is more. Raises IndexError when there is none.
    """
    last, value = series[-1]
    begin, area = max(last - seconds, series[0][0]), 0.0
    for (start, low), (end, high) in pairwise(series):
        if end > max(begin, start):
            cut = max(start, begin)
            at_cut = low + (high - low) * (cut - start) / (end - start)
            area += (at_cut + high) / 2 * (end - cut)
    return area / (last - begin) if last > begin else value


def recent(series: Series, since: float) -> Series:
    """What `mean` needs of the time since then: also the last value before."""
    before = sum(time <= since for time, _ in series)
    return series[max(0, before - 1) :]


def highest(series: Series, now: float, value: float, seconds: float) -> Series:
    """With one more value; of the others what is younger than `seconds` and higher: so the first is the highest."""
    return (*(item for item in series if item[0] > now - seconds and item[1] > value), (now, value))
