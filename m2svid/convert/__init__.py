"""Films through all stages to stereo films, and each stage by itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m2svid.convert.report import Listener


def convert(
    films: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    on_event: Listener | None = None,
    **options: Any,
) -> dict[Path, Path]:
    """Convert films into stereo films, as `python -m m2svid convert` does.

        m2svid.convert("film.mp4", "film_3d.mp4", refine="none", on_event=lambda event: print(event.text))

    Args:
        films: one or several films, pictures, folders or globs.
        output: the stereo film, or a folder; if not given, it lies beside the film.
        on_event: called with every `Event` instead of showing progress; those named "progress" have the
            fields stage, frames (just done), done, total (0 = not known) and speed (frames/s).
        **options: the command line's, such as `max_disparity=0.02`; `Options` in `stereo_options` has all.

    Returns:
        Film -> its stereo film, also where it was there already.

    Raises:
        UserError: a mistake; with several films, after all others were converted.
    """
    from m2svid.convert.presets import with_preset
    from m2svid.convert.report import Reporter
    from m2svid.convert.stereo_options import Options
    from m2svid.convert.verbs import convert_films  # these take seconds to import

    chosen = Options(**with_preset(options))
    given = [films] if isinstance(films, str | Path) else films
    report = Reporter(on_event or chosen.progress)
    return convert_films(list(map(Path, given)), None if output is None else Path(output), chosen, report)


class _Package(ModuleType):
    """`m2svid.convert` names this package, and the function once the package is imported."""

    __call__ = staticmethod(convert)


sys.modules[__name__].__class__ = _Package
