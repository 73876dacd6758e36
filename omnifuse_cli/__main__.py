"""`python -m omnifuse`."""

from omnifuse.main import main

main()
