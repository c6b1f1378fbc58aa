"""Slurm's messages, states and reasons in plain words."""

REFUSALS = (
    ("invalid partition", "the partition does not exist here: site.partition, site.cpu.partition (sinfo lists them)"),
    ("requested node configuration", "no such nodes here: more nodes, GPUs, cores or memory than the partition has"),
    ("node count specification", "more nodes than the partition allows: launch.nodes, parallel"),
    ("more processors requested", "more cores than the partition allows: site.cpus_per_rank, site.cpu.cpus"),
    ("memory specification", "more memory than a node has: site.memory, site.cpu.memory"),
    ("generic resource", "no such GPUs here: site.gpus_per_node, site.gpu_type, site.gpu_request"),
    ("invalid account", "the account may not use this partition, or does not exist: site.account"),
    ("invalid qos", "no such quality of service: site.qos"),
    ("invalid feature", "no node has these features: site.constraint"),
    ("requested time limit", "a longer time limit than the partition allows: site.time, site.cpu.time"),
    ("accounting/qos policy", "more than the account or its quality of service allows: site.account, site.qos"),
    ("group not permitted", "your group may not use this partition: site.partition"),
    ("access/permission denied", "you may not submit jobs there: site.partition, site.account"),
    ("reservation", "no such reservation: site.sbatch"),
    ("invalid job array", "a larger job array than Slurm takes (MaxArraySize): study.array"),
    ("unrecognized option", "an option that sbatch does not know here: site.sbatch"),
    ("unable to contact slurm controller", "Slurm's controller does not answer: try again later"),
    ("resolve_ctls_from_dns_srv", "Slurm is not set up on this machine: launch from a login node"),
    ("unable to process configuration", "Slurm is not set up on this machine: launch from a login node"),
)
"""(Part of sbatch's message when it rejects a job, its meaning with the configuration keys to change)."""

STATES = {
    "PENDING": "waiting",
    "CONFIGURING": "starting",
    "RUNNING": "running",
    "COMPLETING": "ending",
    "SUSPENDED": "suspended",
    "COMPLETED": "done",
    "CANCELLED": "cancelled",
    "FAILED": "failed",
    "TIMEOUT": "stopped at its time limit",
    "NODE_FAIL": "lost a node",
    "PREEMPTED": "preempted",
    "OUT_OF_MEMORY": "out of memory",
    "BOOT_FAIL": "nodes did not boot",
    "DEADLINE": "missed its deadline",
    "REQUEUED": "queued again",
    "REQUEUE_HOLD": "queued again, held",
    "SPECIAL_EXIT": "queued again, held",
}
"""Slurm's name of a job's state -> a plain word."""
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING")
LIVE = (*WAITING, "RUNNING", "COMPLETING", "SUSPENDED")
"""States of jobs that have not ended."""

REASONS = {
    "Resources": "waits for nodes to become free",
    "Priority": "waits behind jobs of higher priority",
    "Dependency": "waits for the job before it",
    "DependencyNeverSatisfied": "the job before it did not end well",
    "BeginTime": "was queued again, and starts soon",
    "Prolog": "the node is being made ready",
    "PartitionDown": "the partition takes no jobs at present",
    "PartitionInactive": "the partition takes no jobs at present",
    "PartitionNodeLimit": "asks for more nodes than the partition allows",
    "PartitionTimeLimit": "asks for more time than the partition allows",
    "ReqNodeNotAvail": "the nodes it could run on are down or reserved",
    "Nodes_required_for_job_are_DOWN": "the nodes it could run on are down or reserved",
    "NodeDown": "a node that it needs is down",
    "BadConstraints": "no node has what it asks for",
    "Licenses": "waits for a licence",
    "Reservation": "waits for its reservation",
    "JobHeldUser": "is held: scontrol release",
    "JobHeldAdmin": "is held by an administrator",
    "JobHoldMaxRequeue": "was queued again too often, and is held: scontrol release",
    "JobLaunchFailure": "could not be started on its node",
    "InvalidAccount": "its account is not valid",
    "InvalidQOS": "its quality of service is not valid",
    "NonZeroExitCode": "see its log",
    "RaisedSignal": "was ended by a signal",
    "TimeLimit": "its time was up",
    "OutOfMemory": "needed more memory than it asked for",
    "launch_failed_requeued_held": "could not be started, and is held: scontrol release",
    "AssocMaxJobsLimit": "your account runs as many jobs as it may",
    "QOSNotAllowed": "its quality of service is not allowed there",
}
"""Slurm's reason for a job's state -> plain words."""
FAMILIES = (
    ("QOS", "a limit of its quality of service is reached"),
    ("Assoc", "a limit of your account is reached"),
    ("Max", "a limit of your account is reached"),
)
"""The same by prefix of the reason."""
NO_LOG = "0:53"
"""Exit code of a job whose log could not be opened on its node (observed with Slurm 22.05)."""


def refusal(said: str) -> str:
    """Return one line for sbatch's message when it rejected a job: the meaning, if known, and the message."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    known = next((words for part, words in REFUSALS if any(part in line.lower() for line in lines)), "")
    told = "; ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines[:2])
    return f"{known} ({told})" if known else told or "no reason given"


def reason(state: str, given: str, exit_code: str) -> str:
    """Return why a job is in its state; empty if Slurm gives no reason."""
    if exit_code == NO_LOG:
        return "its node could not write the log: it does not see the run's folder"
    name = given.split("(")[0].split(",")[0].strip()
    if state == "CANCELLED" and name != "DependencyNeverSatisfied":
        return ""  # Slurm keeps the reason for which the job was waiting
    if name in ("None", ""):
        return f"exit code {exit_code.split(':')[0]}" if state == "FAILED" and exit_code else ""
    plain = REASONS.get(name) or next((words for begin, words in FAMILIES if name.startswith(begin)), "")
    code = f" (exit code {exit_code.split(':')[0]})" if name == "NonZeroExitCode" else ""
    return f"{plain}{code}" if plain else f"Slurm says: {given}"


def state(name: str) -> str:
    """Return the word for a state, which may have a suffix (``CANCELLED by 1000``, ``CANCELLED+``)."""
    first = name.split()[0].rstrip("+") if name else ""
    return STATES.get(first, first.lower() or "unknown")
