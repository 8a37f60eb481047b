"""How far the work is: a bar on a terminal, else a line at each tenth, for logs and notebooks."""

import sys
from typing import Callable, Iterable, Iterator, Optional, TypeVar

Item = TypeVar("Item")


def progress(
    items: Iterable[Item],
    total: Optional[int],
    unit: str,
    name: str = "",
    size: Callable[[Item], int] = lambda item: 1,
) -> Iterator[Item]:
    """Yield `items`, and show on stderr how many of `total` units are done.

    On a terminal it is a bar. Elsewhere it is `30 of 300 done`, after each tenth but the last; and
    nothing for less than ten units, or if their number is unknown.

    Args:
        items: what is worked on.
        total: the number of units; None is unknown.
        unit: what one is, for the bar.
        name: what stands before the bar or the line.
        size: counts the units in an item.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm  # here, as its import takes a tenth of the time of a photo

        with tqdm(total=total, desc=name or None, unit=unit) as bar:
            for item in items:
                yield item
                bar.update(size(item))
        return
    done = 0
    for item in items:
        yield item
        before, done = done, done + size(item)
        if total and 10 <= total > done and 10 * done // total > 10 * before // total:
            print(f"{name and f'{name}: '}{done} of {total} done", file=sys.stderr, flush=True)
