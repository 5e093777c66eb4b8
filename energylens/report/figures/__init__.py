"""The figures, by what they are about. Each module has one function that makes all of its own."""
