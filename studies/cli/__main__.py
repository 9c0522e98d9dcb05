"""``python -m studies.cli``: the command line without its console script."""

from studies.cli.app import run_program

if __name__ == "__main__":
    run_program()
