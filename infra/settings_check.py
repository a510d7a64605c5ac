"""All settings at once: which classes there are, which are wrong, which names in the environment nobody reads.

Asked by `inferwatch up` before it starts anything, by `inferwatch doctor`, and by the settings page.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points

from infra.settings import (
    PREFIX,
    ClickHouseSettings,
    HealthSettings,
    KafkaSettings,
    LogSettings,
    Settings,
    SettingsError,
    StackSettings,
    load,
)

GROUP = "inferwatch.settings"
SHARED: tuple[type[Settings], ...] = (StackSettings, KafkaSettings, ClickHouseSettings, HealthSettings, LogSettings)
OTHER_VARIABLES: Mapping[str, str] = {
    "INFERWATCH_CACHE_DIR": "Folder in which the embedded broker's files are kept once fetched. Unset: `inferwatch` in "
    "`XDG_CACHE_HOME`, else in `~/.cache`.",
}
"""Variables of ours that are read outside the settings classes, and what each means."""


def application_settings() -> list[type[Settings]]:
    """The applications' own settings classes, by entry point, sorted by name. Importing them imports no model code."""
    return [point.load() for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)]


def all_settings() -> list[type[Settings]]:
    """Every settings class: the shared parts' and the applications'."""
    return [*SHARED, *application_settings()]


def variable_of(cls: type[Settings], field: str) -> str:
    """The environment variable of a field."""
    return f"{cls.model_config.get('env_prefix', PREFIX)}{field}".upper()


def check_settings(classes: Iterable[type[Settings]]) -> None:
    """Load every class. Raises one SettingsError with the words for all that is wrong, a line each."""
    wrong = []
    for cls in classes:
        try:
            load(cls)
        except SettingsError as error:
            wrong.append(str(error))
    if wrong:
        raise SettingsError("\n".join(wrong))


def unknown_variables(classes: Iterable[type[Settings]], names: Iterable[str]) -> list[str]:
    """A sentence for each of the names that begins like ours and that nothing reads. Values are not looked at."""
    known = {variable_of(cls, field) for cls in classes for field in cls.model_fields}
    known |= {f"{name}_FILE" for name in known} | OTHER_VARIABLES.keys()
    found = []
    for name in sorted(names):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.8)
            meant = f"did you mean {near[0]}?" if near else "docs/settings.md lists all"
            found.append(f"{name} is set and nothing reads it: {meant}")
    return found
