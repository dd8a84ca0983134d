"""Writes the recordings that ship in two Python packages as CSV files of codes.

Example: python3 recordings.py WHEELS FOLDER
"""

import io
import pathlib
import sys
import zipfile

import numpy

GRAVITY = 9.80665
GAIT = "aeon/datasets/data/Daphnet_S06R02E0/S06R02E0.csv"
WATCH = "seglearn/data/watch_dataset.npy"

wheels, folder = map(pathlib.Path, sys.argv[1:3])


def content(package, name):
    (wheel,) = wheels.glob(f"{package}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return io.BytesIO(archive.read(name))


def write(name, codes):
    numpy.savetxt(folder / name, codes, fmt="%d", delimiter=",")


columns = range(1, 10)
write("gait.csv", numpy.loadtxt(content("aeon", GAIT), delimiter=",", skiprows=1, usecols=columns))
# An array of one object; m/s2.
watch = numpy.load(content("seglearn", WATCH), allow_pickle=True).item()
acceleration = numpy.concatenate([series[:, :3] for series in watch["X"]]) / GRAVITY
for mg in (1, 4):
    write(f"watch-{mg}mg.csv", numpy.rint(acceleration * 1000 / mg))
