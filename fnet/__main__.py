"""The entry point of the `fnet` command, and of `python -m fnet`."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C while its modules are imported also ends it with one line."""
    try:
        from fnet.cli.app import main as run
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
