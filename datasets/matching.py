"""Which file belongs to which by their stems: equal, or told apart by one suffix or prefix."""

import re
from collections import Counter
from typing import Collection, Dict, Iterator, List, Tuple

TRIED = 8  # stems from which suffixes and prefixes are guessed


def match_stems(wanted: Collection[str], known: Collection[str]) -> Tuple[Dict[str, str], str]:
    """Return the `known` stem of each of `wanted` that has one, and by which pattern.

    If no stems are equal, those belong together that one suffix or prefix tells apart, on either
    side, or their folders alone: the pattern is then '*_sal', or 'gt_*', of the longer ones. It is
    '' for equal stems, and if none fits most of them, or two fit as many.
    """
    equal = {stem: stem for stem in wanted if stem in known}
    if equal or not wanted or not known:
        return equal, ""
    names, known_names = _names(wanted), _names(known)
    longer, pattern = _by_affix(names, known_names)
    if longer:
        return longer, pattern
    shorter, pattern = _by_affix(known_names, names)
    if shorter:
        return {stem: other for other, stem in shorter.items()}, pattern
    return _by_cores(names, known_names)


def _by_cores(names: Dict[str, str], known: Dict[str, str]) -> Tuple[Dict[str, str], str]:
    """Match names by their cores, without the words that all names of a side share: 'img_1' and
    'mask_1'. Return the stem in `known` of each stem, and the pattern.
    """
    if min(len(names), len(known)) < 2:
        return {}, ""
    (cores, _), (known_cores, pattern) = _cores(names), _cores(known)
    found = {stem: known_cores[core] for core, stem in cores.items() if core in known_cores}
    return (found, pattern) if 2 * len(found) > min(len(names), len(known)) else ({}, "")


def _cores(names: Dict[str, str]) -> Tuple[Dict[str, str], str]:
    """Return the stems by their cores, without the words that all names share, and the pattern."""
    before = _shared_words([*names])
    after = _shared_words([name[len(before) :][::-1] for name in names])[::-1]
    end = -len(after) or None
    return {name[len(before) : end]: stem for name, stem in names.items()}, f"{before}*{after}"


def _shared_words(names: List[str]) -> str:
    """Return the words that all names begin with, up to the last mark: -, _, . or a space."""
    starts = [names[0][: mark.end()] for mark in re.finditer("[-_ .]", names[0])]
    shared = (start for start in starts[::-1] if all(name.startswith(start) for name in names))
    return next(shared, "")


def _names(stems: Collection[str]) -> Dict[str, str]:
    """Return the stems by their names without folders; by themselves if two names are alike."""
    names = {stem.rpartition("/")[2]: stem for stem in stems}
    return names if len(names) == len(stems) else {stem: stem for stem in stems}


def _by_affix(short: Dict[str, str], long: Dict[str, str]) -> Tuple[Dict[str, str], str]:
    """Match each name in `short` with the one in `long` that has a prefix and a suffix more, the
    same for most names. Return the stem of each stem, and the pattern; ({}, "") if none fits.
    """
    guesses = {guess for name in list(short)[:TRIED] for guess in _affixes(name, long)}
    hits = Counter(
        {guess: sum(f"{guess[0]}{name}{guess[1]}" in long for name in short) for guess in guesses}
    )
    (best, count), *others = hits.most_common(2) or [(("", ""), 0)]
    if 2 * count <= min(len(short), len(long)) or (others and others[0][1] == count):
        return {}, ""
    before, after = best
    found = {name: f"{before}{name}{after}" for name in short}
    matched = {short[name]: long[other] for name, other in found.items() if other in long}
    return matched, f"{before}*{after}" if before or after else ""


def _affixes(name: str, long: Dict[str, str]) -> Iterator[Tuple[str, str]]:
    """Yield prefix and suffix of each name in `long` that holds `name`, unless a number is cut."""
    for other in long:
        before, found, after = other.partition(name)
        cuts = [a + b for a, b in ((before[-1:], name[:1]), (name[-1:], after[:1])) if a and b]
        if found and not any(cut.isdigit() for cut in cuts):
            yield before, after
