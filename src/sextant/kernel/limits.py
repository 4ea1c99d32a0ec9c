"""Every limit, with its unit and the reason for its value. Reaching one is an error or an event, never a hang."""

PAYLOAD_BYTES_MAX = 32 << 20  # one event's payload: a version of PARTITIONS_MAX partitions fits; larger facts belong into a blob
WRITES_QUEUED_MAX = 10_000  # writes waiting for the writer thread: beyond it callers wait
GROUP_WRITES_MAX = 2_000  # writes in one commit: bounds the latency of the first one in the group
SAMPLES_PER_CHECK_MAX = 20  # failing rows kept as evidence: enough to see the pattern, few enough to erase
PARTITIONS_PER_STEP_MAX = 31  # a month of days: what one retry repeats, what one commit writes
PARTITIONS_MAX = 100_000  # partitions of one dataset (11 years of hours)
ASSETS_MAX = 20_000  # assets of one project
STEPS_MAX = 1_000_000  # steps of one run
STEP_LOG_BYTES_MAX = 1 << 20  # captured output of one attempt: the head and the tail are kept
STEP_RESULT_BYTES_MAX = 64 << 20  # a worker's answer; data itself travels as files
STEP_MEMORY_BYTES_MAX = 8 << 30  # default address-space limit of a worker
STEP_TIMEOUT_S = 3600.0  # default: a step without a declared timeout hangs at most an hour
RETRIES_MAX = 20  # attempts of one step
LEASE_S = 30.0  # a lease that is not renewed for so long may be taken over
POOL_WORKERS_MAX = 64  # worker processes of one pool
TEXT_FILE_BYTES_MAX = 16 << 20  # a project file: larger is data, not code
BUNDLE_BYTES_MAX = 64 << 20  # all files of a project together: what every worker unpacks
BUNDLE_FILES_MAX = 20_000  # files of a project: more means that an environment or data stands among them
LOAD_TIMEOUT_S = 60.0  # importing a project: it declares, it does not work
NAME_CHARS_MAX = 128  # a name of an asset, environment, team
PAGE_ROWS = 100  # rows of a list when nothing else is asked
PAGE_ROWS_MAX = 10_000  # rows of one page
