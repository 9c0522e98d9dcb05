"""A worker of Tune that takes the GPU that Ray gives it, and has its trials compute on the CPU."""

from dataclasses import replace

from studies.execution.cluster.tune_executor import _TrialWorker
from studies.execution.processes import bundle_process
from tests.studies.execution.card_log import run_and_log


class CpuWorker(_TrialWorker):
    """It runs in an actor of Ray, which imports this module; its processes log the GPU that they see."""

    def _start_process(self, jobs, request):
        bundle_process.run_trial_process = run_and_log
        return super()._start_process(jobs, replace(request, gpus_per_trial=0.0))
