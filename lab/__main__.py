"""`python -m lab` is the command `lab`, and so is `main`."""

import sys


def main() -> None:
    """The console script's entry point: interrupted before it can say so, it just ends."""
    try:
        from lab.cli.main import main as run  # noqa: PLC0415 - loading it takes a moment
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
