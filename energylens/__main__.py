"""`python -m energylens` is the command `energylens`."""

from energylens.cli import main

main()
