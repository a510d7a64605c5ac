"""The entry point of a chaos run's processes: the product's own, after what `CHAOS_PATCHES` names was patched.

`python -m tests.chaos.child inferwatch ARG...` is `inferwatch ARG...`; `... broker PORT ARG...` is the embedded Kafka
that tells its clients to come to PORT, where a proxy listens.
"""

import os
import sys

from tests.chaos import patches


def main() -> None:
    kind, *arguments = sys.argv[1:]
    for name in os.environ.get("CHAOS_PATCHES", "").split():
        patches.APPLY[name]()
    if kind == "broker":
        proxy_port, *arguments = arguments
        patches.advertise(int(proxy_port))
        from infra.embedded.broker import main as broker

        sys.exit(broker(arguments))
    from infra.cli import main as inferwatch

    sys.argv = ["inferwatch", *arguments]
    inferwatch()


if __name__ == "__main__":
    main()
