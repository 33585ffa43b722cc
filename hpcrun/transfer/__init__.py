"""Bringing files of runs home: what there is, what of it is wanted, and getting exactly that.

The target lists its files (:mod:`.manifest`), and hpcrun names one by one those it wants (:mod:`.fetch`). So
any number of runs is one listing and one rsync; what a run's folder holds besides, links out of it, pipes,
devices, names that climb, is never followed or asked for.
"""
