"""Entry point of `localmtp` and `python -m localmtp`."""


def main() -> None:
    """Runs the command line."""
    from localmtp.portability import DeferredInterrupt

    try:
        with DeferredInterrupt():
            from localmtp.cli import main as run
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
