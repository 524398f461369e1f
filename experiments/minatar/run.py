"""What V-trace, PPO and PQN reach on MinAtar, ten learners and ten million steps each.

Every cell is one `isjax train --env GAME --algorithm NAME --learners 10` with isjax's default settings, one set for
all games. The runs stand in runs/minatar: an interrupted one goes on where it stopped, a finished one is read as it
is, on whatever device it was trained. Curves are returns of episodes that ended in training; the answer is of the
evaluation at the end, which plays the most likely actions.

Published figures (gymnax's README and PureJaxRL's plot, read off to ±3 %) are of PPO in gymnax after the same ten
million steps, with other settings, other networks and an earlier version of the games; none are known of V-trace, and
none of Seaquest. Of PQN its authors show Asterix: 70 to 72 by greedy play, of three seeds (their notebook).

The record on file was taken before PQN was added, in several goes, some beside other work: minutes and steps per
second are those of each.

    python -m experiments.minatar.run [--quick | --redraw]
"""

import tempfile
from pathlib import Path

from matplotlib.figure import Figure

from experiments.drawing import BLACK, BLUE, GREEN, ORANGE, band, legend, panels, title
from experiments.experiment import Experiment, run
from experiments.learners import train
from isjax.learner.defaults import defaults

HERE = Path(__file__).parent
RUNS = HERE.parent.parent / "runs" / "minatar"
GAMES = tuple(f"{name}-MinAtar" for name in ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders"))
ALGORITHMS = {"impala": ("V-trace (impala)", BLUE), "ppo": ("PPO", ORANGE), "pqn": ("PQN", GREEN)}
PUBLISHED = {
    "Asterix-MinAtar": (15, 15),
    "Breakout-MinAtar": (28, 40),
    "Freeway-MinAtar": (58, 58),
    "SpaceInvaders-MinAtar": (131, 131),
}
"""Returns of PPO after 1e7 steps, lowest and highest."""
LEARNERS, SEED = 10, 0


def measure(quick: bool) -> dict:
    found: dict = {}
    with tempfile.TemporaryDirectory() as elsewhere:
        for game in GAMES[: 1 if quick else None]:
            for algorithm in ("impala", "pqn") if quick else ALGORITHMS:
                found.setdefault(game, {})[algorithm] = cell(game, algorithm, Path(elsewhere) if quick else RUNS, quick)
                print(game, algorithm, found[game][algorithm]["returns"], flush=True)
    minutes = sum(each["minutes"] for cells in found.values() for each in cells.values())
    whole = {"seed": SEED, "learners": LEARNERS, "published": PUBLISHED, "games": found}
    return whole | {"minutes": round(minutes, 1)}


def cell(game: str, algorithm: str, root: Path, quick: bool) -> dict:
    """A run of ten learners."""
    flags = ["--env", game, "--algorithm", algorithm, "--learners", "2" if quick else str(LEARNERS)]
    flags += ["--seed", str(SEED), "--steps", "4096" if quick else str(defaults(game, algorithm)[0].steps)]
    return train(flags, root / f"{game}-{algorithm}")


def answer(result: dict) -> str:
    first = next(iter(result["games"].values()))["impala"]
    values = (
        f"{game.split('-')[0]} {' / '.join(str(round(cell['iqm']['value'], 1)) for cell in cells.values())}"
        for game, cells in result["games"].items()
    )
    names = " / ".join(ALGORITHMS[name][0] for name in algorithms_of(result))
    return f"IQM returns after {first['steps']:,} steps, {names}: {', '.join(values)}."


def algorithms_of(result: dict) -> list[str]:
    """Those that were run, on the first game and all others."""
    return list(next(iter(result["games"].values())))


def interval(cell: dict) -> str:
    return f"{cell['iqm']['value']:.1f} [{cell['iqm']['low']:.1f}, {cell['iqm']['high']:.1f}]"


def published(result: dict, game: str) -> str:
    if game not in result["published"]:
        return "none known"
    low, high = result["published"][game]
    return f"{low}" if low == high else f"{low} to {high}"


def details(result: dict) -> str:
    """The record as a table, beside what others published, with what there is to mind."""
    lines = []
    for game, cells in result["games"].items():
        each = [interval(cell) for cell in cells.values()]
        rates = [f"{cell['env_steps_per_s'] / 1e3:,.0f} k ({cell['device']})" for cell in cells.values()]
        dead = sum(cell["died"] for cell in cells.values())
        lines.append([game, *each, published(result, game), *rates, str(dead)])
    names = [ALGORITHMS[name][0] for name in algorithms_of(result)]
    header = ["game", *names, "PPO, published", *(f"{name}, steps/s" for name in names), "learners that died"]
    rows = "".join(f"| {' | '.join(line)} |\n" for line in [header, ["---"] * len(header), *lines])
    return (
        f"{rows}\nIQM of {result['learners']} learners with 95 % bootstrap intervals, seed {result['seed']}; a return "
        "is the mean over the evaluation at the end, which plays the most likely actions. One set of settings for all. "
        "Published: gymnax's README and PureJaxRL's plot, read off to ±3 %, with other settings, other networks "
        "and an earlier version of the games: marks, not rivals."
    )


def draw(result: dict) -> Figure:
    games = result["games"]
    drawing, axes = panels(1, len(games), (3.1 * len(games), 3.2))
    for panel, (game, cells) in zip(axes[0], games.items(), strict=True):
        for name, found in cells.items():
            steps = [x / 1e6 for x in found["curve"]["env_steps"]]
            band(panel, steps, found["curve"], color=ALGORITHMS[name][1], label=ALGORITHMS[name][0], marker=None)
        if game in result["published"]:
            low, high = result["published"][game]
            panel.axhspan(low * 0.97, high * 1.03, color=BLACK, alpha=0.12, linewidth=0, label="published (PPO)")
        panel.set(xlabel="million steps", ylim=(0, None))
        title(panel, game.split("-")[0])
    axes[0, 0].set_ylabel("return in training (IQM)")
    legend(axes[0, 0])
    return drawing


EXPERIMENT = Experiment(HERE, "What do V-trace and PPO reach on MinAtar?", measure, answer, details, draw)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
