"""Lets `python -m inferry` do what the `inferry` command does."""

from inferry.cli.entry import main

if __name__ == "__main__":
    main()
