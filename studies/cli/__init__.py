"""The command line: the composition root, which imports every layer and which nothing imports."""
