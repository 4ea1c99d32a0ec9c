"""The limits, each with its unit and the reason for its value. Reaching one is an error or an
event, never a hang."""

# one event's payload: a version of PARTITIONS_MAX partitions fits; larger facts belong into a
# blob
PAYLOAD_BYTES_MAX = 32 << 20
WRITES_QUEUED_MAX = 10_000  # writes waiting for the writer thread: beyond it callers wait
GROUP_WRITES_MAX = 2_000  # writes in one commit: bounds the latency of the first one in the group
# failing rows kept as evidence: enough to see the pattern, few enough to erase
SAMPLES_PER_CHECK_MAX = 20
PARTITIONS_PER_STEP_MAX = 31  # a month of days: what one retry repeats, what one commit writes
PARTITIONS_MAX = 100_000  # partitions of one dataset (11 years of hours)
ASSETS_MAX = 20_000  # assets of one project
# assets of other tools in the graph, of one owner; beyond it the one that was not seen for longest
# makes room, if it was silent for OBSERVED_SILENT_S: so many names a day can be made up
QUERY_CHARS_READ = 4_096  # of the text of a query in a span, for the tables that it names
QUERY_TABLES_READ = 8
READS_MAX = 20  # tables and topics that one asset declares to read
USED_PER_SERVICE_MAX = 100  # tables and topics that one service is seen to use
OBSERVED_PER_OWNER_MAX = 1_000
OBSERVED_SILENT_S = 24 * 3600.0
OBSERVED_KEPT_S = 90 * 24 * 3600.0  # without a sign of life, before it leaves the graph
LINEAGE_SOURCES_MAX = 100_000  # columns that flow into those of one query; beyond, all are personal
LINEAGES_KEPT_MAX = 4_096  # queries whose columns are remembered by one process
COLUMNS_SHOWN_MAX = 2_000  # columns in the answer to what a column is made of and stands below
COLUMN_EDGES_MAX = 10_000  # and edges between them; what was left out is said
PERSONAL_CACHE_MAX = 10_000  # versions whose personal columns are remembered by one process
STEP_CAUSES_MAX = 5  # of what changed, named with each step that runs because of it
STEPS_MAX = 1_000_000  # steps of one run
STEP_LOG_BYTES_MAX = 1 << 20  # captured output of one attempt: the head and the tail are kept
LIVE_LOOK_S = 0.5  # so often it is looked at what a running step has printed
# of one step's output that is copied at one look; what is printed faster is left out of the live
# log, and kept when the step has ended
LIVE_PIECE_BYTES_MAX = 64 << 10
LIVE_SEGMENT_BYTES_MAX = 1 << 20  # of a running run's log: a file of it
LIVE_SEGMENTS_MAX = 8  # newest segments of it that are there: older pieces are said to be gone
LIVE_KEPT_S = 600.0  # so long it stays after the run has ended, for those who follow it
LOG_ANSWER_BYTES_MAX = 4 << 20  # about so much of a run's log in one answer; it goes on with `next`
STEP_RESULT_BYTES_MAX = 64 << 20  # a worker's answer; data itself travels as files
STEP_MEMORY_BYTES_MAX = 8 << 30  # default address-space limit of a worker
STEP_TIMEOUT_S = 3600.0  # default: a step without a declared timeout hangs at most an hour
RETRIES_SHOWN_MAX = 20  # runs that tried one run again, shown with it
RETRIES_MAX = 20  # attempts of one step
LEASE_S = 30.0  # a lease that is not renewed for so long may be taken over
# failed attempts of one step of a release, or of its undo, before it is stuck: ten minutes with the
# waits between them, so that a restart of what it talks to does not end it
RELEASE_ERRORS_MAX = 8
RELEASE_BACKOFF_S = 2.0  # after the first failed attempt; twice as long after each further one
RELEASE_BACKOFF_S_MAX = 300.0
# a driver asks a kind about a step no more often, and no less often: a clock that was set far
# ahead and back again must not leave a release alone
RELEASE_LOOK_S_MIN = 1.0
RELEASE_LOOK_S_MAX = 3600.0
LAST_ACTS_READ_MAX = 20  # newest events of a release among which a person's is looked for
RELEASES_DRIVEN_MAX = 8  # releases that one process works on at once
RELEASE_WAITS_S = 7 * 86_400.0  # a release that nobody approves in so long is rejected
EVIDENCE_BYTES_MAX = 64 << 10  # of what a kind measured when it judged a release
RUNS_SCHEDULED_MAX = 4  # runs that the scheduler of one environment has going on at once
RUN_WAIT_S = 3600.0  # a run waits in line so long for others that write the same
STAND_BY_S = 600.0  # after an upload, a worker is ready for the next one for so long
WORKER_IDLE_S = 60.0  # an idle worker ends after so long: a server has days without work
WORKER_LEFT_S = 1.0  # an idle worker leaves an order so long to one that has loaded its code
WORKER_PASSED_S = 5.0  # an order lets others go before it so long, whose code a worker has loaded
POOL_WORKERS_MAX = 64  # worker processes of one pool
TEXT_FILE_BYTES_MAX = 16 << 20  # a project file: larger is data, not code
BUNDLE_BYTES_MAX = 64 << 20  # all files of a project together: what every worker unpacks
# files of a project: more means that an environment or data stands among them
BUNDLE_FILES_MAX = 20_000
# a file that is uploaded, and the files of one request together, before base 64: with the list of
# paths they fit into REQUEST_BYTES_MAX
UPLOAD_BYTES_MAX = 8 << 20
UPLOADS_HELD_BYTES_MAX = 128 << 20  # files in memory, of all uploads that are not complete
UPLOADS_LOADED_AT_ONCE_MAX = 2  # the others wait: what does not load may take LOAD_TIMEOUT_S
UPLOAD_S = 600.0  # so long they wait for the rest
UPLOAD_ROUNDS_MAX = 3  # so often what is missing is sent, when the server forgets it
# uploaded versions whose files need not be sent again, beside those in force
UPLOADS_REMEMBERED_MAX = 64
INSTALLED_SHOWN_MAX = 12  # distributions that differ between who uploads and the server
# folders of one unpacked bundle, while no run holds more: steps that write into their working
# folder leave one each
BUNDLE_COPIES_MAX = 8
# files of all projects of a user that are remembered as verified, 32 bytes each: 8 MiB at most
VERIFIED_FILES_MAX = 262_144
# a file that was changed less than this before it was hashed is not remembered: a file system may
# give two changes the same time, and a write through a shared mapping none until the kernel has
# written the page, 30 s after the first
VERIFIED_SETTLED_NS = 60 * 10**9
DATA_FINDINGS_MAX = 1_000  # of a check of all data that are listed; all are counted
LOAD_TIMEOUT_S = 60.0  # importing a project: it declares, it does not work
APPROVED_AT_ONCE_MAX = 100  # releases of one batch: what a person can have looked at
GIT_TIMEOUT_S = 10.0  # one question to git
UNCOMMITTED_SHOWN_MAX = 20  # files of a project's version that its commit does not have
NAME_CHARS_MAX = 128  # a name of an asset, environment, team
# a name that another tool gives, or its version: the names of generated tests are long
LABEL_CHARS_MAX = 256
LINE_CHARS_MAX = 1_000  # of a text that something is looked up by
REASON_CHARS_MAX = 4_000  # a reason or message: it stands in the ledger for good
# a condition that is met again within so long after its last event has no event of its own: one
# that is met each second writes 288 events a day
SIGNAL_REPEATED_S = 300.0
SIGNALS_COUNTED_MAX = 10_000  # signals for which one process remembers what it has not written
# comments of one incident: a long night of several people writes a hundred
INCIDENT_COMMENTS_MAX = 1_000
# signals of one incident, after merges too: each event of it names them all
INCIDENT_SIGNALS_MAX = 500
# newest events of one incident that are shown with it; the ledger has all
INCIDENT_EVENTS_SHOWN_MAX = 2_000
INCIDENT_CAUSES_SHOWN_MAX = 10  # causes of each of them
URL_CHARS_MAX = 2_048  # of a link to another tool: what browsers and proxies take
PATH_CHARS_MAX = 4_096  # of a folder's path: PATH_MAX of Linux
PASSWORD_CHARS_MAX = 1_024  # of a password: hashing takes longer with its length
WITNESS_CHARS_MAX = 64 << 10  # of a witness: its text has a few lines
# of a number that a request names: databases hold 64 bits
INTEGER_MAX = 9_000_000_000_000_000_000
LIST_ITEMS_MAX = 10_000  # entries of a list that a request names
EDGES_REPORTED_MAX = 1_000  # assets that one report says it reads, and that it feeds
# newest recorded actions that `doctor` asks the rules about again: a second of work
ACTIONS_REPLAYED_MAX = 2_000
PAGE_ROWS = 100  # rows of a list when nothing else is asked
PAGE_ROWS_MAX = 10_000  # rows of one page
# different columns that one text of SQL names: more is not looked up before a run
COLUMN_READS_MAX = 10_000
# answers that take long to make and are kept by one process until they are out of date: layouts of
# the graph, the states of an environment's assets
MEMORY_KEPT_MAX = 64
# rows of answers about business numbers that are kept: 300 bytes each
MEMORY_NUMBERS_MAX = 200_000
PICTURE_NODES_MAX = 300  # nodes of a picture of the graph; more are shown as clusters
PICTURE_OPENED_MAX = 20  # clusters of it that are opened at once
# events that one page of a timeline, or of changes, looks at: beyond it the page ends, and the next
# one goes on
TIMELINE_READ_MAX = 20_000
TIMELINE_CAUSES_MAX = 3  # causes of each of its items
# runs of equal partitions in one answer, 100 bytes each: as many as a screen has pixels across
PARTITION_RUNS_MAX = 2_000
PARTITIONS_DETAILED_MAX = 1_000  # partitions of one answer with their facts
PARTITION_HISTORIES_READ_MAX = 10  # newest runs that are looked through for failed attempts
PARTITION_CHECKS_READ_MAX = 10_000  # newest results of checks that are looked through for refusals
SEARCH_HITS = 20  # what a search shows when nothing else is asked: a screen of a list
SEARCH_HITS_MAX = 200  # and at most: who wants more asks in other words
SEARCH_TEXT_CHARS_MAX = 2_000  # of one text that can be searched: documentation is longer rarely
# places of three letters in a row that are looked at for near spellings
SEARCH_NEAR_MAX = 1_000
# events after which the index of a search is made again, instead of following each
SEARCH_EVENTS_MAX = 5_000
RUNNING_SHOWN_MAX = 16  # steps that run at once, named in each sign of progress
# events of an asset that a plan looks through for the declaration that made what is live
DECLARATIONS_READ_MAX = 1_000
COLUMN_MISTAKES_SHOWN_MAX = 50  # of a plan: a renamed column may be named all over a project
CONDITION_CHARS_MAX = 4_000  # of a condition that somebody asks a KPI with
# of an answer that derives numbers without some of the changes
DERIVED_MOVES_MAX = 50_000  # releases of one asset since the first moment
DERIVED_PROJECT_VERSIONS_MAX = 1_000  # versions of the project in which old code is looked for
DERIVED_PARTITIONS_MAX = 20_000  # partitions that are made for it
DERIVED_CASES_MAX = 256  # sets of changes of which each is derived: all orders of eight changes
DERIVED_SECONDS_MAX = 900.0  # that a derivation may be expected to take
DERIVED_ORDERS = 16  # orders of changes that are sampled where there are more
DERIVED_CHANGES_MAX = 24  # changes that are told apart; earlier ones count as one
PROMISES_OPEN_MAX = 1_000  # of all releases together, whose time is not over
PROMISES_PER_RELEASE = 10
PROMISE_LATE_S = 86_400.0  # so long after a release is live it may still be promised what it does
PROOF_DIFFERENCES_SHOWN = 20  # of a proof that does not hold
CAUSES_SHOWN = 20  # of a number's move
BISECTED_CHANGES_MAX = 10_000  # changes between two moments, of which one is looked for
DERIVED_DRIVERS_MAX = 8  # values of dimensions that are told apart; the others count as one
KPI_LAST_MAX = 100_000  # newest points of a series that are asked for by their number
KPI_POINTS_MAX = 100_000  # points to which a series may be thinned
KPI_SEGMENTS_MAX = 500  # values of dimensions of which it is computed what each has moved
# rows of one pushed batch: no more fit into a body of REQUEST_BYTES_MAX
PUSHED_ROWS_MAX = 1_000_000
# rows of one pushed batch times columns of its stream: they are in memory together
PUSHED_VALUES_MAX = 20_000_000
# of a pushed body in Arrow or Parquet, unpacked: beyond it it is taken for a decompression bomb
PUSHED_UNPACKED_BYTES_MAX = 128 << 20
PUSHED_FOOTER_BYTES_MAX = 1 << 20  # of a pushed Parquet file's footer: memory grows with it
# address space and time of the process that reads such a body; its libraries take a gigabyte of it
PUSHED_UNPACK_BYTES_MAX = 6 << 30
PUSHED_UNPACK_S = 60.0
PUSHED_LARGE_BYTES = 256 << 10  # of a batch: a larger one is kept as a blob, not in the state store
# batches with a larger body, or of Arrow or Parquet, that are read at once: each may take gigabytes
PUSHES_LARGE_MAX = 4
PUSHES_LARGE_WAIT_S = 5.0  # for a turn; then the sender is told to come again
BAD_ROWS_SHOWN_MAX = 20  # rows of a refused batch that are named; all are counted
# rows of one batch of a file that is cut into several. With REQUEST_BYTES_MAX it decides what each
# batch of the file holds: a repeated command sends nothing twice only while both stay as they are
PUSHED_CUT_ROWS = 100_000
# a file with one JSON array, which is read whole; a larger one is written as lines
PUSHED_ARRAY_BYTES_MAX = 256 << 20
# batches of one dataset that wait to be published: beyond it senders are told to come again
INBOX_BATCHES_MAX = 10_000
INBOX_ROWS_MAX = 100_000_000  # and their rows
INBOX_PARTS_MAX = 64  # blobs of one partition's pushed rows before they are put together
# rows of one dataset that are moved out of the inbox in one write, unless one batch has more: a key
# is a statement of its own, and other writers wait for them
FOLD_ROWS_MAX = 20_000
FOLD_BATCHES_MAX = 500  # and batches: the length of the write
# keys that the index of a stream gets in one write while it is filled, or a large batch is folded
KEYS_PER_WRITE = 5_000
# a publish of a stream is followed by a pause of so many times its cost: publishing takes at most
# a tenth of the time
PUBLISH_REST_FACTOR = 9.0
# shortest pause, however cheap a publish was: every publish is a version, files and events that
# are kept for a while
PUBLISH_EVERY_S_MIN = 5.0
# longest pause, however dear it was: rows become visible after five minutes at the latest
PUBLISH_EVERY_S_MAX = 300.0
# batches that end the pause: half of INBOX_BATCHES_MAX, so that senders are not held up by it
INBOX_BATCHES_EARLY = 5_000
# versions that one write of a collection expires: bounds how long other writes wait for it
EXPIRED_PER_WRITE = 500
SESSION_S = 12 * 3600  # a signed-in browser: a working day
# signed-in browsers of one person; one more signs the oldest out
SESSIONS_PER_PERSON_MAX = 50
SESSIONS_SHOWN_MAX = 1_000  # of all persons, in one answer
# a link that signs its reader in: to be opened right away, by who started the server
SIGN_IN_LINK_S = 600
TOKEN_DAYS_MAX = 730  # longest life of a token
DENIED_AGAIN_S = 60.0  # equal refusals of the policy within this time are one event
TOKEN_LINE_MAX = 8  # tokens made with tokens, one with the other
TOKENS_PER_AGENT_MAX = 20  # that an agent has made and that have not ended
TOKENS_PER_PERSON_MAX = 500  # tokens that one person answers for and that have not ended
REQUEST_BYTES_MAX = 16 << 20  # body of one request to the API
STREAMS_MAX = 64  # live streams of events at once
# sustained requests of one token or address, beyond a burst of twice as many
REQUESTS_PER_S_MAX = 200.0
# sustained tries to sign in from one address: 17,000 guesses of a password a day
SIGN_INS_PER_S_MAX = 0.2
SIGN_INS_BURST = 20  # and at once: an office behind one address in the morning
# for the head of a request to arrive: a connection that says nothing takes somebody's place
REQUEST_HEAD_S = 20.0
REQUEST_BODY_S = 120.0  # and for its body: 32 MiB at 280 KB/s
# connections of one address (of IPv6: one /64) that have not sent the head of a request; beyond it
# the one that waits longest is closed: a quarter of the API's places. Browsers open a few ahead
HALF_OPEN_PER_ADDRESS_MAX = 128
# frames of one HTTP/2 connection that are read, to say that this is HTTP/1.1, whatever their kind:
# an exporter makes a call a minute, of a few frames. Beyond it, or HTTP2_BYTES_MAX, it is closed
HTTP2_FRAMES_MAX = 300
# and bytes: an honest client sends 64 KiB of data, then waits to be allowed more; and its headers
HTTP2_BYTES_MAX = 128 << 10
API_THREADS = 32  # requests to the API that are worked on at once
# kept versions of one dataset that SQL can name; older ones by `sextant show --as-of`
VERSIONS_SHOWN_MAX = 200
RUNS_AT_ONCE_MAX = 8  # requests that run, release or undo at once; more are told to come again
# files whose rows are given to somebody over the network in one answer: it is held in memory
EXPORT_BYTES_MAX = 256 << 20
# body of one request to the SQL endpoint, unpacked: the longest query and its parameters
SQL_BODY_BYTES_MAX = 1 << 20
SQL_SECONDS_MAX = 30.0  # of one query
SQL_MEMORY_BYTES_MAX = 1 << 30  # of one query: half of what the store may use
SQL_ROWS_MAX = 10_000_000  # of one answer
SQL_RESULT_BYTES_MAX = 128 << 20  # of one answer: it is held in memory until it is sent
# words of one search of logs, conditions on attributes or labels: each is a parameter of the query
TELEMETRY_CONDITIONS_MAX = 32
TRACES_MAX = 1_000  # traces of one list: each is counted whole
# spans that meet the conditions of a list of traces and are looked at, the newest or slowest: their
# traces' ids are held
TRACES_SPANS_MAX = 100_000
# a trace lasts no longer: so far around its window a list looks for the rest of a trace
TRACE_LENGTH_S = 24 * 3600
TRACE_SPANS_MAX = 200_000  # spans of one trace whose place in the tree is found: 30 MB
TRACE_DETAILS_MAX = 20_000  # spans of one trace that are shown with their attributes
METRICS_MAX = 20_000  # names of metrics that are looked at to list them, or to find one
SQL_AT_ONCE_MAX = 4  # queries that run, each in a process of its own
# of them, by one person at the endpoint, or through the API: a dashboard leaves room for others
SQL_OF_ONE_MAX = 2
SQL_OF_PERSON_MAX = 3  # the same, with those that he asks through the API
SQL_WAITING_OF_PERSON_MAX = 32  # of those that wait, by one person
SQL_WARM_MAX = 2  # query processes that are kept between questions: some 100 MB each
SQL_IDLE_S = 120.0  # and so long after the last one: somebody who thinks about an answer
SQL_PROCESS_S_MAX = 3600.0  # age of a query process: what its allocator keeps goes with it
# memory that a query process may map, beyond which the kernel gives it no more: what ClickHouse
# counts (SQL_MEMORY_BYTES_MAX), what it does not, the answer and its compressed form
SQL_PROCESS_BYTES_MAX = 3 << 30
# and beyond which it ends after its answer: memory that it does not give back, and the next query
# would lack
SQL_PROCESS_KEPT_BYTES_MAX = 1 << 30
# so far a query process may be behind the tables; who has just written does not wait for it
SQL_BEHIND_S = 3.0
SQL_WAITING_MAX = 64  # queries that wait for a turn: three dashboards
SQL_WAIT_S = 10.0  # for a turn
# of one message over gRPC, unpacked: twice what the OpenTelemetry Collector takes
GRPC_MESSAGE_BYTES_MAX = 8 << 20
# messages that are being received at once: 128 MiB, and as much of seconds ones, which are refused
GRPC_READING_MAX = 16
GRPC_READING_OF_ONE_MAX = 4  # of them, of one token: it leaves turns to others
GRPC_TURN_S = 5.0  # for a turn: half of what an exporter waits for its answer
GRPC_MESSAGE_S = 10.0  # for the message, once it has its turn: what an exporter waits in all
GRPC_AT_ONCE_MAX = 1_000  # calls at once, as over HTTP
GRPC_CALLS_OF_ONE_MAX = 250  # of them, of one token, that wait for a turn or have one
# connections at once, and at most half of the files that the process may open: each exporter keeps
# one
GRPC_CONNECTIONS_MAX = 4_000
# of a connection without calls, before it ends: who exports every minute keeps his
GRPC_IDLE_S = 120.0
# age of a connection: one that is kept by refused calls ends too; others begin a new one with the
# next call. And for the calls that it still has: a turn, the message, and DECODE_WAIT_S
GRPC_AGE_S = 600.0
GRPC_AGE_GRACE_S = 60.0
GRPC_GRACE_S = 3.0  # at the end, for the calls that are being answered
BODY_BYTES_MAX = 32 << 20  # what one request to the intake may carry, as sent
# the same, decompressed: beyond it a body is taken for a decompression bomb. The OpenTelemetry
# Collector takes 20 MiB
BODY_UNPACKED_BYTES_MAX = 32 << 20
BODY_MEMBERS_MAX = 1_000  # members of a gzip body: concatenated files have a few
# samples, log lines, spans, events of one request, and the messages that hold them. Prometheus
# sends 10,000 at most, collectors 8,192, which are 20 samples each where they are histograms
BODY_RECORDS_MAX = 200_000
# of the rows of one request as the tables get them: the attributes of a resource stand in each row
BODY_ROWS_BYTES_MAX = 64 << 20
# resources of one request and their scopes: as many as a project has assets
BODY_GROUPS_MAX = 20_000
# the same, of a request that the event loop decodes itself: a few milliseconds. What is larger is
# decoded by a process of its own
LOOP_RECORDS_MAX = 1_000
LOOP_ROWS_BYTES_MAX = 1 << 20
LOOP_GROUPS_MAX = 32
LOOP_FIELD_BYTES_MAX = 8 << 10  # of messages of remote write that are read field by field
LOOP_UNPACKED_BYTES_MAX = 512 << 10  # so much is unpacked on the event loop: half a millisecond
# series that one slice of the event loop learns, in bytes of their labels, and samples that it
# takes: a few milliseconds
SLICE_KEY_BYTES = 4 << 10
SLICE_SAMPLES = 2_500
SLICE_SERVICES = 500  # services and spans that one slice of the event loop takes
DECODERS_MAX = 2  # processes that decode large requests: one for each core of a small machine
DECODE_MEMORY_BYTES = 1 << 30  # address space of such a process: 32 MiB of OTLP take 400 MiB
DECODE_S = 10.0  # for one request, also of processor time: 32 MiB of honest OTLP take 3 s
DECODE_WAIT_S = 30.0  # for a turn; then the sender is told to come again
DECODER_IDLE_S = 30.0  # an idle one ends after so long: a server has hours without large requests
# of a body after which the process ends at once, for the memory that it leaves behind
DECODER_KEPT_BYTES_MAX = 8 << 20
# of all requests to the intake that are at hand, as sent and unpacked: more are told to come
# again
BODIES_BYTES_MAX = 256 << 20
# batches that are durable in the journal but not in the tables yet: beyond it senders are told to
# wait
INTAKE_BYTES_MAX = 96 << 20
# of a journal segment: reached sooner than FLUSH_S, it is put into the tables at once
SEGMENT_BYTES_MAX = 16 << 20
FLUSH_S = 1.0  # so often what has arrived is put into the tables; a query does it at once
# batches whose repetition is recognised: a sender that got no answer repeats within seconds
BATCHES_REMEMBERED_MAX = 100_000
BATCHES_REMEMBERED_S = 900.0  # and so long
# cells of one exponential histogram that hold something: twice what SDKs send, for both sides of
# zero; beyond it neighbours become one
HISTOGRAM_CELLS_MAX = 320
LABELS_MAX = 96  # labels of a series: more is a mistake (a label for each request, say)
LABEL_NAME_BYTES_MAX = 256  # of a label's name
LABEL_VALUE_BYTES_MAX = 4096  # of a label's value: longer text belongs into a log
# of all labels of a series as its sender writes them: LABELS_MAX of the longest, escaped
SERIES_KEY_BYTES_MAX = 1 << 20
# live series of one owner; beyond it new ones are refused and counted
SERIES_PER_OWNER_MAX = 200_000
# live series of all owners: about 500 bytes of memory each, of a counter of OTLP 300 more
SERIES_MAX = 1_000_000
# the labels of one owner's live series, as sent, and of all owners': series of long labels are
# fewer
SERIES_BYTES_PER_OWNER_MAX = 128 << 20
SERIES_BYTES_MAX = 512 << 20
SERIES_LIVE_S = 7200.0  # a series that was silent for so long no longer counts
# a series' labels are written again after so long: last_seen is right to this
SERIES_REPEATED_S = 3600.0
# starts of one series that live at once: so many processes with equal labels, or one that crashes
# twice a minute. Beyond it a sender is taken to send another start with each value
STARTS_PER_SERIES_MAX = 256
# for so long the times of increments are remembered, so that those of several processes that fall
# into one millisecond each count: an export that comes later than that may replace another one
INCREMENTS_REMEMBERED_S = 60.0
# within so long the values of two processes that count as one alternate: five exports of a minute
PROCESSES_MIXED_S = 300.0
# of the series of a scraped target that are remembered until the next scrape, to tell which have
# ended: some 40,000. Those of a larger target get no staleness markers
SCRAPE_KEYS_BYTES_MAX = 8 << 20
FUTURE_S = 600.0  # a timestamp may lie so far ahead of our clock
# attributes of a log line, span or event; the specification of OpenTelemetry has the same
ATTRIBUTES_MAX = 128
TEXT_BYTES_MAX = 256 << 10  # a log's body, an event's data
SPANS_WAITING_MAX = 50_000  # spans whose other side has not arrived yet
# and how long they wait: client and server report within their exporters' intervals
SPANS_WAITING_S = 60.0
# a token's owner is asked for again after so long: how long a revoked token still works
GRANT_FRESH_S = 5.0
GRANT_STALE_S = 600.0  # how long an answer serves while the coordinator is away
RETRY_AFTER_S = 1.0  # what a sender is told when a queue is full: one flush
# the profiles of one data file, unpacked: 200 columns of 3,000 partitions
PROFILE_BYTES_MAX = 512 << 20
# what is held of a column while profiles are merged: of points the error that thinning adds is
# below 0.01 %, of different values a hundredth
PROFILE_POINTS_MAX = 65_536
PROFILE_HASHES_MAX = 16_384
PROFILE_TEXTS_MAX = 1_000  # most frequent texts that are counted
PROFILE_BARS = 20  # stretches of a histogram
PROFILE_TOP_SHOWN = 10  # most frequent values of a column
