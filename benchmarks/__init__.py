"""Measurements of the supervisor. Each runs in a bare clone: ``packages.py`` finds what it needs before its own imports."""

from benchmarks.packages import find_packages

find_packages()
