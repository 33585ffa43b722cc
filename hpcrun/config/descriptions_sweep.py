"""One line on every key of a sweep, and an example of it, as ``descriptions.py`` has for runs."""

from __future__ import annotations

SWEEP = {
    "space": "The hyperparameters by their names, as the script knows them, and how each is drawn.",
    "sampling": "random, grid (every combination of choices), sobol (evenly spread) or bayesian (Optuna).",
    "seed": "What draws begin with; left out, the sweep's id, and so other draws for each sweep.",
    "metric": "The primary metric: what the script logs under this name.",
    "goal": "Whether more of the metric is better, or less.",
    "max_total_runs": "How many trials at most; left out, a grid's size. Other samplings need it.",
    "max_concurrent_runs": "How many trials at once at most; left out, as many as the site takes.",
    "max_duration_minutes": "After this long no trial is started, and those that run are canceled.",
    "policy": "When trials that lag behind are stopped; left out, never.",
    "resume_from": "Earlier sweeps: their trials are not had again, and Bayesian sampling learns from them.",
    "pass_as": "How values reach the script: as --name value, as variables of these names, or in a JSON "
    "file whose path is in HPCRUN_PARAMETERS_FILE.",
    "give_up_after": "The sweep fails once so many trials have ended, and all of them failed. null: never.",
    "pack": "Many small trials in one job: they run so many at a time as a farm, by the mpi4py of their own "
    "environment.",
    "Pack.at_once": "How many trials run at the same time on each node.",
    "Pack.nodes": "How many nodes the job has; fewer where there are fewer trials.",
    "Pack.trials": "How many trials go into one job at most; left out, all that are submitted together.",
    "Expression.choice": "One of these: values, or options that bring hyperparameters of their own.",
    "Expression.uniform": "Evenly from MIN to MAX.",
    "Expression.quniform": "`round(uniform(MIN, MAX) / Q) * Q`.",
    "Expression.loguniform": "`exp(uniform(MIN, MAX))`: MIN and MAX are exponents of e.",
    "Expression.qloguniform": "`round(exp(uniform(MIN, MAX)) / Q) * Q`.",
    "Expression.normal": "Normally distributed with mean MU and standard deviation SIGMA.",
    "Expression.qnormal": "`round(normal(MU, SIGMA) / Q) * Q`.",
    "Expression.lognormal": "`exp(normal(MU, SIGMA))`.",
    "Expression.qlognormal": "`round(exp(normal(MU, SIGMA)) / Q) * Q`.",
    "Expression.randint": "A whole number from 0 up to, and without, this one.",
    "Option.value": "What the hyperparameter is where this option is chosen.",
    "Option.space": "Hyperparameters that there are only then.",
    "PolicySection.bandit": "Stops what is further from the best than a ratio or an amount.",
    "PolicySection.median_stopping": "Stops what is worse than the median of all running averages.",
    "PolicySection.truncation_selection": "Stops the lowest so many percent.",
    "PolicySection.asha": "Successive halving: of those that come to a rung, the best go on.",
    "PolicySection.no_termination": "Stops nothing, as where there is no policy.",
    "BanditPolicy.slack_factor": "The ratio: 0.1 stops what is more than 10 percent from the best.",
    "BanditPolicy.slack_amount": "The amount, in the metric's own unit.",
    **{
        f"{policy}Policy.{key}": text
        for policy in ("Bandit", "MedianStopping", "TruncationSelection")
        for key, text in {
            "evaluation_interval": "After how many reports of the metric the policy is applied each time.",
            "delay_evaluation": "How many reports a trial may make before it is applied at all.",
        }.items()
    },
    "TruncationSelectionPolicy.truncation_percentage": "How many percent.",
    "TruncationSelectionPolicy.exclude_finished_jobs": "Compare only with trials that still run.",
    "AshaPolicy.reduction_factor": "One in so many goes on from each rung.",
    "AshaPolicy.min_resource": "Reports up to the first rung; to the next, reduction_factor times as many.",
    "AshaPolicy.max_resource": "Reports of a whole trial; there is no rung from here on.",
}

EXAMPLES_SWEEP = {
    "space": "space: {lr: {loguniform: [-7, -2]}, batch: {choice: [32, 64]}}",
    "sampling": "sampling: sobol",
    "seed": "seed: 7",
    "metric": "metric: val_acc",
    "goal": "goal: maximize",
    "max_total_runs": "max_total_runs: 100",
    "max_concurrent_runs": "max_concurrent_runs: 10",
    "max_duration_minutes": "max_duration_minutes: 600",
    "policy": "policy: {bandit: {slack_factor: 0.1}}",
    "resume_from": "resume_from: [cifar_20260301-101500_k3v9x2ma]",
    "pass_as": "pass_as: variables",
    "give_up_after": "give_up_after: 3",
    "pack": "pack: {at_once: 16, nodes: 2}",
    "Pack.at_once": "at_once: 16",
    "Pack.nodes": "nodes: 2",
    "Pack.trials": "trials: 200",
    "Expression.choice": "choice: [sgd, {value: adam, space: {beta1: {uniform: [0.8, 0.99]}}}]",
    "Expression.uniform": "uniform: [0.1, 0.9]",
    "Expression.quniform": "quniform: [16, 256, 16]",
    "Expression.loguniform": "loguniform: [-9.2, -2.3]",
    "Expression.qloguniform": "qloguniform: [2, 6, 8]",
    "Expression.normal": "normal: [0, 0.5]",
    "Expression.qnormal": "qnormal: [100, 20, 10]",
    "Expression.lognormal": "lognormal: [0, 1]",
    "Expression.qlognormal": "qlognormal: [4, 1, 4]",
    "Expression.randint": "randint: 10",
    "Option.value": "value: adam",
    "Option.space": "space: {beta1: {uniform: [0.8, 0.99]}}",
    "PolicySection.bandit": "bandit: {slack_factor: 0.1, delay_evaluation: 5}",
    "PolicySection.median_stopping": "median_stopping: {delay_evaluation: 5}",
    "PolicySection.truncation_selection": "truncation_selection: {truncation_percentage: 20}",
    "PolicySection.asha": "asha: {reduction_factor: 3, max_resource: 27}",
    "PolicySection.no_termination": "no_termination: {}",
    "BanditPolicy.slack_factor": "slack_factor: 0.1",
    "BanditPolicy.slack_amount": "slack_amount: 0.02",
    **{
        f"{policy}Policy.{example.partition(':')[0]}": example
        for policy in ("Bandit", "MedianStopping", "TruncationSelection")
        for example in ("evaluation_interval: 2", "delay_evaluation: 5")
    },
    "TruncationSelectionPolicy.truncation_percentage": "truncation_percentage: 20",
    "TruncationSelectionPolicy.exclude_finished_jobs": "exclude_finished_jobs: true",
    "AshaPolicy.reduction_factor": "reduction_factor: 3",
    "AshaPolicy.min_resource": "min_resource: 2",
    "AshaPolicy.max_resource": "max_resource: 81",
}
