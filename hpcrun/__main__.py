"""``python -m hpcrun``: the command line, whatever else on PATH is called hpcrun."""

from hpcrun.cli.main import entry

if __name__ == "__main__":
    entry()
