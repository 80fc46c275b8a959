"""plot.py VALUES.json OUT.png: what bench/soft.py found, as bars of how many times native."""

import json
import sys

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot  # noqa: E402

COLOURS = {'soft': '#1f6f8b', 'qemu-tcg': '#c9a227'}


def main():
    with open(sys.argv[1]) as f:
        values = json.load(f)
    rows = [row for row, found in values.items() if found.get('native')]
    figure, axes = pyplot.subplots(figsize=(9, 0.42 * len(rows) + 1.4))
    for number, (subject, colour) in enumerate(COLOURS.items()):
        places = [len(rows) - at + (0.2 if number == 0 else -0.2) for at in range(len(rows))]
        widths = [values[row].get(subject, 0) / values[row]['native'] for row in rows]
        axes.barh(places, widths, 0.38, color=colour, label=subject)
    axes.set_yticks([len(rows) - at for at in range(len(rows))], rows)
    axes.set_xscale('log')
    axes.axvline(1, color='black', linewidth=0.8)
    axes.set_xlabel('processor time, times native (less is better)')
    axes.legend(frameon=False)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(sys.argv[2], dpi=110)


main()
