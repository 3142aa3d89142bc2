"""Lets `python -m inferry` do what the `inferry` command does."""

from inferry.cli.main import main

if __name__ == "__main__":
    main()
