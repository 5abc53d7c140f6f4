"""Tables, and what machine they are of."""

import datetime
import os
import re
import subprocess


def print_table(header, rows, markdown):
    if markdown:
        print(*("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows]), sep="\n")
        return
    widths = [max(len(cells[column]) for cells in [header, *rows]) for column in range(len(header))]
    for cells in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())


def machine():
    shown = subprocess.run(["lscpu"], capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    model = re.search(r"^Model name:\s*(.+)$", shown.stdout, re.MULTILINE)
    return (f"{datetime.date.today().isoformat()}, {model[1] if model else 'unknown CPU'}, "
            f"Linux {os.uname().release}")
