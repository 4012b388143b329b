"""``python run_all.py NOTEBOOK FOLDER OUT``: "Run all" of a notebook in a real kernel with nobody there; ends as its cells do."""

import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

CELL_S_MAX = 400


def main(notebook: str, folder: str, out: str) -> int:
    """Execute it as it is and keep it with its outputs."""
    book = nbformat.read(notebook, as_version=4)
    nbformat.validate(book)
    client = NotebookClient(book, timeout=CELL_S_MAX, kernel_name="python3", resources={"metadata": {"path": folder}})
    try:
        client.execute()
    except CellExecutionError as error:
        print(error)
        return 1
    finally:
        nbformat.write(book, out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
