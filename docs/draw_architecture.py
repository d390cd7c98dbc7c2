"""Draw the architecture figure of the README.

python docs/draw_architecture.py docs/architecture.png
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

FROZEN, TRAINED, DATA = "#d6e4f0", "#fbd9a5", "#f4f4f4"


def box(axis: plt.Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    patch = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.04", facecolor=colour, edgecolor="#444444")
    axis.add_patch(patch)
    axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9.5)


def arrow(
    axis: plt.Axes, start: tuple[float, float], end: tuple[float, float], text: str = "", dy: float = 0.1
) -> None:
    axis.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "#444444", "shrinkA": 2, "shrinkB": 2})
    if text:
        axis.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + dy, text, ha="center", fontsize=8, color="#333333")


def main(path: str) -> None:
    figure, axis = plt.subplots(figsize=(11, 4.3), layout="constrained")
    box(axis, 0.0, 1.55, 1.3, 0.9, "audio\n16 kHz mono,\nup to 30 s", DATA)
    box(axis, 2.1, 1.55, 1.5, 0.9, "Whisper\nencoder", FROZEN)
    box(axis, 4.8, 2.55, 2.0, 0.9, "semantic adapter\n2 convolutions, MLP", TRAINED)
    box(axis, 4.8, 0.55, 2.0, 0.9, "acoustic adapter\nQ-Former, 64 queries", TRAINED)
    box(axis, 8.2, 0.55, 1.8, 2.9, "LLaDA-8B\nmasked-diffusion\nlanguage model", FROZEN)
    box(axis, 4.1, 4.05, 2.7, 0.7, "prompt: “This is the audio:\n| <audio>. {instruction}”", DATA)
    box(axis, 11.0, 2.55, 2.1, 0.9, "[M] [M] [M] [M]\n[M] is [M] [M]\nHe is a man", DATA)
    arrow(axis, (1.34, 2.0), (2.06, 2.0), "log-mel")
    arrow(axis, (3.64, 2.2), (4.76, 2.95), "last layer,\n50 Hz", 0.16)
    arrow(axis, (3.64, 1.8), (4.76, 1.05), "layers 2, 5,\n8, 11", -0.6)
    arrow(axis, (6.84, 3.0), (8.16, 2.6), "12.5 Hz", 0.12)
    arrow(axis, (6.84, 1.0), (8.16, 1.5), "64 embeddings\n(stage 2)", -0.5)
    arrow(axis, (6.84, 4.3), (8.5, 3.49))
    arrow(axis, (10.04, 2.9), (10.96, 3.0), "unmask", 0.1)
    arrow(axis, (10.96, 2.7), (10.04, 2.3), "repeat", -0.4)
    for x, colour, text in ((0.2, FROZEN, "frozen"), (1.7, TRAINED, "trained"), (3.2, DATA, "data")):
        axis.add_patch(FancyBboxPatch((x, -0.35), 0.3, 0.2, boxstyle="round,pad=0.02", fc=colour, ec="#444444"))
        axis.text(x + 0.45, -0.25, text, va="center", fontsize=9)
    axis.set(xlim=(-0.2, 13.3), ylim=(-0.55, 4.9))
    axis.axis("off")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="the figure, a .png")
    main(parser.parse_args().path)
