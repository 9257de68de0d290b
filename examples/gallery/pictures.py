"""Run gallery scripts and keep their pictures: python pictures.py FOLDER [--quick] [NUMBER ...].

A script shows its figures when it is run by itself. With --quick, it trains as little as shows that it works.
"""

import argparse
import os
import runpy
from pathlib import Path

import matplotlib

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("numbers", nargs="*", help="of the scripts, 05 say; all of them by default")
    args = parser.parse_intermixed_args()
    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.show = lambda: None
    if args.quick:
        os.environ["FASTNN_QUICK"] = "1"
    args.folder.mkdir(parents=True, exist_ok=True)
    scripts = [path.resolve() for path in HERE.glob("plot_*.py")]
    os.chdir(args.folder)
    for script in sorted(scripts):
        if args.numbers and script.stem.split("_")[1] not in args.numbers:
            continue
        print(script.stem, flush=True)
        runpy.run_path(str(script), run_name="__main__")
        for i, number in enumerate(pyplot.get_fignums()):
            pyplot.figure(number).savefig(f"{script.stem}{'_' + str(i) if i else ''}.png", dpi=100)
        pyplot.close("all")


if __name__ == "__main__":
    main()
