"""``python -m nemo_adapt``: the command line."""

from nemo_adapt.cli import main

if __name__ == "__main__":
    main()
