"""What can go wrong, said in one sentence, and the exit status that says it to a scheduler."""

from __future__ import annotations

EXIT_FAILED = 1  # a job tried and some of its work failed; what is done is kept
EXIT_BAD_INPUT = 2  # the input or the settings are wrong; running it again changes nothing
EXIT_REQUEUE = 75  # EX_TEMPFAIL: stopped on the scheduler's signal after a checkpoint


class TesseraError(Exception):
    """Bad input: one sentence that says what is wrong, where, and what to do."""

    exit_status = EXIT_BAD_INPUT


class WorkFailed(TesseraError):
    """Part of a job's work failed; what is done is kept, and the next run does the rest."""

    exit_status = EXIT_FAILED


class Requeue(TesseraError):
    """The scheduler asked the job to leave; its checkpoint is written and a rerun goes on."""

    exit_status = EXIT_REQUEUE
