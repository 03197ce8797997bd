"""A summary of a study's rankings: the numbers of the paper's Tables 2 and 3, and what they are worth.

Shapes: R rankings, N methods.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from m2svid.errors import UserError
from m2svid.report.statistics import holm
from m2svid.study.collect import FORMAT
from m2svid.study.statistics import (
    Array,
    by_person,
    competition_ranks,
    estimate,
    friedman,
    intervals,
    mean_ranks,
    outcomes,
    sign_test,
)

Summary = dict[str, Any]


def read_study(path: Path) -> dict[str, Any]:
    """Read what `collect` wrote. Raises a UserError for other files."""
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT or not content["rankings"]:
            raise KeyError
        return content
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: give the JSON that `study collect` wrote") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is none of `study collect`: give the JSON that it wrote") from error


def summarize(study: dict[str, Any]) -> Summary:
    """Everything the tables say of a study, as JSON has it."""
    methods, rankings = study["methods"], study["rankings"]
    ranks = np.full((len(rankings), len(methods)), np.nan)
    for row, ranking in enumerate(rankings):
        for method, rank in zip(ranking["shown"], ranking["ranks"], strict=True):
            ranks[row, methods.index(method)] = rank
    people = [ranking["participant"].casefold() for ranking in rankings]
    films = [ranking["video"] for ranking in rankings]
    found, ends = estimate(ranks, np.ones((1, len(rankings)))), intervals(ranks, people, films)
    places = competition_ranks(ranks)
    by_method = {
        method: {
            "rankings": int((~np.isnan(places[:, i])).sum()),
            "best": int((places[:, i] == 1).sum()),
            **{
                name: {"value": float(getattr(found, name)[0, i]), "interval": ends[name][:, i].tolist()}
                for name in ("average", "mean_at_ties", "best_share", "strength")
            },
        }
        for i, method in enumerate(methods)
    }
    return {
        "kind": study["kind"],
        "rankings": len(rankings),
        "participants": len(set(people)),
        "videos": len(set(films)),
        "tied": float((outcomes(ranks)[..., 2].any(1)).mean()),
        "methods": by_method,
        "davidson_ties": {"value": float(found.ties[0]), "interval": ends["ties"].tolist()},
        "friedman": _friedman(mean_ranks(ranks), people),
        "pairs": _pairs(ranks, people, methods),
        "by_place": _by_place(rankings, places, methods),
    }


def _friedman(ranks: Array, people: list[str]) -> dict[str, Any]:
    """By ranking, as if they were independent, and by person, who are."""
    found = {"rankings": friedman(ranks), "participants": friedman(by_person(ranks, people))}
    return {name: agreement and asdict(agreement) for name, agreement in found.items()}


def _pairs(ranks: Array, people: list[str], methods: list[str]) -> list[dict[str, Any]]:
    """Answers about each pair of methods; p values are adjusted by Holm over the pairs."""
    each = outcomes(ranks)
    pairs = []
    for index, (first, second) in enumerate(combinations(methods, 2)):
        better, worse, equal = each[:, index].sum(0).tolist()
        lead = by_person(each[:, index].astype(float), people)
        lead = np.sign(lead[:, 0] - lead[:, 1])
        if better + worse + equal:
            pairs.append(
                {"first": first, "second": second, "first_better": better, "second_better": worse}
                | {"equal": equal, "p": sign_test(better, worse)}
                | {"participants_first": int((lead > 0).sum()), "participants_second": int((lead < 0).sum())}
            )
            pairs[-1]["p_participants"] = sign_test(
                pairs[-1]["participants_first"], pairs[-1]["participants_second"]
            )
    for name in ("p", "p_participants"):
        for pair, p in zip(pairs, holm([pair[name] for pair in pairs]), strict=True):
            pair[f"{name}_holm"] = p
    return pairs


def _by_place(rankings: list[dict[str, Any]], places: Array, methods: list[str]) -> list[float]:
    """Average rank of the films by the place at which they were shown: far from equal, the place decided."""
    shown = [
        [row[methods.index(method)] for method in ranking["shown"]]
        for ranking, row in zip(rankings, places, strict=True)
    ]
    return np.mean(shown, axis=0).tolist()
