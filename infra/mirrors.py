"""A machine's package mirror, proxy and certificates, set for pip or for uv, made to hold for both.

Pure. Standard library only, and nothing that Python 3.7 cannot read: used before anything is installed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping


def index_environment(pip_settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return what to add to the environment so that uv and pip use the same mirror, proxy and certificates.

    uv reads neither pip.conf nor PIP_* variables, and pip no UV_*; a machine set up for one must do for
    both. `pip_settings` is pip's own view (`pip config list`), names without their section. What is set
    for a tool already is left alone.
    """
    wanted = {
        "UV_DEFAULT_INDEX": pip_settings.get("index-url") or environment.get("UV_INDEX_URL"),
        "UV_INDEX": pip_settings.get("extra-index-url"),
        "UV_FIND_LINKS": ",".join(pip_settings.get("find-links", "").split()),
        "UV_INSECURE_HOST": pip_settings.get("trusted-host"),
        "SSL_CERT_FILE": pip_settings.get("cert"),
        "HTTPS_PROXY": pip_settings.get("proxy"),
        "HTTP_PROXY": pip_settings.get("proxy"),
        "PIP_INDEX_URL": None if "index-url" in pip_settings else environment.get("UV_DEFAULT_INDEX"),
        "PIP_CERT": None if "cert" in pip_settings else environment.get("SSL_CERT_FILE"),
    }
    if wanted["UV_INDEX"]:
        # As pip does: every index is asked. Versions and hashes are pinned, so none can slip another file in.
        wanted["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {name: value for name, value in wanted.items() if value and not environment.get(name)}


def parse_pip_settings(listing: str) -> dict[str, str]:
    """Return the options in `pip config list`: lines such as `global.cert='/a'`, commands' own left out."""
    settings: dict[str, str] = {}
    for line in listing.splitlines():
        match = re.match(r"(?:global|install|:env:)\.([a-z-]+)='(.*)'$", line.strip())
        if match:
            # A list of values is written in one string, its line breaks as \n.
            settings[match.group(1)] = " ".join(match.group(2).replace("\\n", " ").split())
    return settings
