from hpcrun.experiment import Run as Run
