"""Entry point of `localmtp` and `python -m localmtp`."""

from localmtp.cli import main

if __name__ == "__main__":
    main()
