"""`python -m lsd.pipeline` is `livesd`."""

from lsd.pipeline.cli import main

if __name__ == "__main__":
    main()
