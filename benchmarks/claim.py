"""What the README claims first, and its figure, from the records: `python -m benchmarks.claim` measures nothing."""

from matplotlib.figure import Figure

from benchmarks.accelerators import populations
from benchmarks.harness import RESULTS as FOLDER
from benchmarks.harness import read
from benchmarks.population import RESULTS as POPULATION
from benchmarks.readme import README, write_table
from benchmarks.time_to_return import RESULTS as TIME_TO_RETURN

COLORS = {"isjax": "#0072b2", "rejax": "#d55e00"}


def claim(race: dict, sizes: dict, accelerators: list[dict]) -> str:
    """One sentence about each record; of accelerators, records of populations."""
    cartpole = race["records"][0]
    records = {record["learners"]: record for record in sizes["records"]}
    few, many = (f"{records[n]['env_steps_per_s']['median'] / 1e6:.1f}" for n in (16, max(records)))
    ours, theirs = (cartpole["seconds"][name]["median"] for name in ("isjax", "rejax"))
    return (
        f"**{cartpole['learners']} learners reach {cartpole['goal']:.0f} on {cartpole['environment']} in {ours:.1f} "
        f"seconds ({race['device']}): {cartpole['times_faster']['median']:.0f} times sooner than\nRejax's PPO with its "
        f"own published settings, which takes {theirs:.0f} seconds; "
        f"{cartpole['times_faster_with_compilation']:.1f} times with compilation.**\n"
        f"16 learners make {few} million environment steps a second there, {max(records):,} learners {many} million.\n"
        + "".join(sentence(cartpole["environment"], sizes) for sizes in accelerators)
    )


def sentence(env: str, sizes: dict) -> str:
    """Of the largest populations on an accelerator."""
    found = {r["learners"]: r["env_steps_per_s"]["median"] for r in sizes["records"] if r["environment"] == env}
    few, many = sorted(found)[-2:]
    return (
        f"On {sizes['device'].replace('1 ×', 'one')} {few:,} learners make {found[few] / 1e6:,.0f} million, "
        f"{many:,} learners {found[many] / 1e6:,.0f} million.\n"
    )


def draw(race: dict) -> Figure:
    """Returns over the seconds of training, a line a run."""
    record = race["records"][0]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, runs in record["runs"].items():
        for i, run in enumerate(runs):
            label = f"{name}, {len(runs)} runs" if i == 0 else None
            axes.plot(run["curve"]["seconds"], run["curve"]["iqm"], color=COLORS[name], linewidth=1.3, label=label)
    axes.axhline(record["goal"], color="#888888", linewidth=0.8, linestyle="dashed")
    axes.set(xscale="log", xlabel="seconds of training, compilation left out", ylabel="IQM return of 16 learners")
    axes.set_title(f"{record['environment']}, each library with its own settings", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def main() -> None:
    race = read(TIME_TO_RETURN)
    write_table("claim", claim(race, read(POPULATION), populations()), README)
    draw(race).savefig(FOLDER / "time_to_return.png", dpi=150)


if __name__ == "__main__":
    main()
