"""The pictures of the pages: `python keras_guide.py --plot FILE.png` draws what it measured."""

import sys

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#595959")  # Okabe and Ito's, for every eye
DASHES = ("-", "--", ":", "-.")


def bars(values, xlabel):
    """Horizontal bars: name -> number. Draws nothing without `--plot` on the command line."""
    if "--plot" not in sys.argv:
        return
    axes, save = _axes(0.8 + 0.32 * len(values))
    axes.barh(list(values)[::-1], list(values.values())[::-1], color=COLOURS[0])
    for row, value in enumerate(reversed(list(values.values()))):
        axes.text(value, row, f" {value:.1f}", va="center", fontsize=9)
    axes.margins(x=0.12)
    axes.set_xlabel(xlabel)
    save()


def lines(curves, xlabel, ylabel):
    """One line a name: name -> numbers. Draws nothing without `--plot` on the command line."""
    if "--plot" not in sys.argv:
        return
    axes, save = _axes(3.2)
    for number, (name, values) in enumerate(curves.items()):
        style = {"color": COLOURS[number % 4], "linestyle": DASHES[number % 4]}
        axes.plot(range(1, len(values) + 1), values, label=name, **style)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    save()


def _axes(height):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height), layout="constrained")
    FigureCanvasAgg(figure)
    path = sys.argv[sys.argv.index("--plot") + 1]
    return figure.subplots(), lambda: figure.savefig(path, dpi=90)
