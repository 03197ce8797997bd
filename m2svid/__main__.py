"""`python -m m2svid`."""

from m2svid.cli import main

if __name__ == "__main__":
    main()
