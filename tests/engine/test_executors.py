"""Executors on real worker processes: what a step may do to itself, and to nobody else."""

import hashlib
import os
import signal
import stat
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import pytest
from shop_project import HEAD, load_here

from sextant.kernel.nouns import spec_of
from sextant.kinds.dataset.spec import Written
from sextant.project import bundle
from sextant.project.config import read_config
from sextant.engine.executors.inline import InlineExecutor
from sextant.engine.executors import process
from sextant.engine.executors.process import ProcessExecutor
from sextant.kernel.errors import Damaged
from sextant.kernel.nouns import WorkOrder, WorkResult
from sextant.kernel.ports import Executor
from sextant.stores.lake import frames

OPS = (
    HEAD
    + '''
import os, sys, time, subprocess
from pathlib import Path

def rows(): return pl.DataFrame({"id": [1, 2, 3], "x": [1.0, 2.0, None]})

@sx.dataset(key="id", checks=[sx.not_null("x")])
def fine() -> pl.DataFrame:
    print("hello from", os.getpid())
    print("and from stderr", file=sys.stderr)
    return rows()

@sx.dataset(key="id")
def whisper(token: str = sx.secret("SHOP_TOKEN")) -> pl.DataFrame:
    import base64
    print("token is", token, "or", base64.b64encode(token.encode()).decode())
    return rows()

@sx.dataset(key="id")
def leaks(token: str = sx.secret("SHOP_TOKEN")) -> pl.DataFrame:
    raise ValueError(f"cannot log in with {token}")

@sx.dataset()
def raises() -> pl.DataFrame:
    return inner()

def inner():
    raise KeyError("no such thing")

@sx.dataset(timeout="1s")
def hangs() -> pl.DataFrame:
    time.sleep(3600)

@sx.dataset(timeout="1s")
def hangs_after_talking(token: str = sx.secret("SHOP_TOKEN")) -> pl.DataFrame:
    print("what it was at when it stopped:", token)
    time.sleep(3600)

@sx.dataset()
def leaves_after_talking() -> pl.DataFrame:
    print("the last words")
    os._exit(7)

@sx.dataset()
def leaves_a_talker(token: str = sx.secret("SHOP_TOKEN")) -> pl.DataFrame:
    """Leaves a process behind that prints the secret when it is told to, into the log that it was given."""
    print("begun")
    subprocess.Popen([sys.executable, "-c", "import sys, time\\nwhile not __import__('os').path.exists('tell'): time.sleep(0.01)\\nprint(sys.argv[1], flush=True); open('told', 'w').close()", token])
    return rows()

@sx.dataset()
def waits_for_the_talker() -> pl.DataFrame:
    open("tell", "w").close()
    while not os.path.exists("told"): time.sleep(0.01)
    return rows()

@sx.dataset(timeout="60s")
def hangs_with_child() -> pl.DataFrame:
    child = subprocess.Popen(["sleep", "3600"])
    Path(os.environ["SHOP_CHILD"]).write_text(str(child.pid))
    time.sleep(3600)

@sx.dataset()
def leaves() -> pl.DataFrame:
    os._exit(7)

@sx.dataset()
def leaves_politely() -> pl.DataFrame:
    sys.exit(7)

@sx.dataset(memory="200MB")
def eats() -> pl.DataFrame:
    held = []
    while True:
        held.append(bytearray(10 << 20))

@sx.dataset()
def returns_text() -> pl.DataFrame:
    return "not a table"

@sx.dataset(key="order")
def lacks_its_key() -> pl.DataFrame:
    return rows()

@sx.dataset()
def looks_around() -> pl.DataFrame:
    here = sorted(str(p.relative_to(os.getcwd())) for p in Path.cwd().rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return pl.DataFrame({"cwd": [os.getcwd()] * len(here), "file": here, "ops": [__file__] * len(here)})

@sx.dataset()
def talks_much() -> pl.DataFrame:
    for n in range(60_000):
        print(f"line {n} of a very talkative step")
    return rows()

@sx.dataset()
def chatters() -> pl.DataFrame:
    os.write(1, b"straight into the descriptor")
    return rows()
'''
)


class Orders:
    """Work orders for the assets of the project above, and what came of them."""

    def __init__(self, root: Path) -> None:
        (root / "sextant.toml").write_text('module = "ops"\n')
        (root / "ops.py").write_text(OPS)
        (root / "secrets.toml").write_text('SHOP_TOKEN = "s3cr3t-of-the-shop"\n')
        (root / "secrets.toml").chmod(stat.S_IRUSR | stat.S_IWUSR)
        self.root = root
        self.manifest = load_here(root, read_config(root))
        self.count = 0

    def order(self, name: str) -> WorkOrder:
        asset = self.manifest.asset(f"dataset:{name}")
        assert asset is not None
        assert asset.build is not None
        self.count += 1
        return WorkOrder(
            id=f"wo_{self.count}",
            run=f"run_{self.count}",
            step=name,
            attempt=1,
            fence=3,
            asset=asset,
            partitions=("all",),
            bundle=self.manifest.bundle,
            root="ops",
            spec=spec_of(
                Written(
                    lake=str(self.root / "lake"), staging=f"dataset.{name}/data/wo_{self.count}"
                )
            ),
            blobs=str(self.root / "blobs"),
            project=str(self.root),
            secrets=dict(asset.build.secrets),
            environment={"SEXTANT_SECRETS": str(self.root / "secrets.toml")},
        )

    def do(self, executor: Executor, name: str) -> WorkResult:
        answer: SimpleQueue[WorkResult] = SimpleQueue()
        executor.submit(self.order(name), answer.put)
        return answer.get(timeout=30)


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory):
    path, modules = list(sys.path), set(sys.modules)
    yield Orders(tmp_path_factory.mktemp("executors"))
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name == "ops":
            del sys.modules[name]


@pytest.fixture(scope="module")
def pool():
    made = ProcessExecutor(2)
    made.warm()
    yield made
    made.close()


def test_a_result(orders: Orders, pool: Executor) -> None:
    """Rows, checks, log and resources of a step that does its work."""
    done = orders.do(pool, "fine")
    assert (done.ok, done.fence, done.attempt) == (True, 3, 1)
    assert [(out.partition, out.rows) for out in done.outputs] == [("all", 3)]
    assert [(check.name, check.ok, check.failed) for check in done.checks if "x" in check.name] == [
        ("not_null(x)", False, 1)
    ]
    assert "hello from" in done.log
    assert "and from stderr" in done.log
    assert done.resources.wall_s > 0
    assert done.resources.bytes_written > 0
    assert (
        frames.read(
            orders.root / "lake", done.outputs[0].files, frame="polars", schema=done.schema
        ).height
        == 3
    )


def test_the_same_everywhere(orders: Orders, pool: Executor) -> None:
    """A version made in the test's own process would differ from one made by a worker."""
    assert (
        orders.do(pool, "fine").outputs[0].digest
        == orders.do(InlineExecutor(), "fine").outputs[0].digest
    )


def test_a_secret_never_leaves(orders: Orders, pool: Executor) -> None:
    """A password in a log is a password lost."""
    done = orders.do(pool, "whisper")
    assert done.ok, done.error
    assert "***SHOP_TOKEN***" in done.log
    failed = orders.do(pool, "leaks")
    assert "***SHOP_TOKEN***" in failed.error
    assert b"s3cr3t" not in msgspec.msgpack.encode([done, failed])
    assert hashlib.sha256(b"s3cr3t-of-the-shop").hexdigest()[:8] not in done.log


def test_it_raises(orders: Orders, pool: Executor) -> None:
    """The author needs the line, not ours."""
    failed = orders.do(pool, "raises")
    line = OPS.splitlines().index('    raise KeyError("no such thing")') + 1
    assert (failed.ok, failed.where, failed.retryable) == (False, f"ops.py:{line}", True)
    assert "KeyError" in failed.error
    assert "Traceback" in failed.log


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("hangs", "SX-STEP-TIMEOUT", "longer than 1 s"),
        ("leaves", "SX-STEP-DIED", "exit code 7"),
        ("leaves_politely", "SX-STEP-001", "SystemExit"),
        ("eats", "SX-STEP-MEMORY", "more memory"),
        ("returns_text", "SX-LAKE-006", "str"),
        ("lacks_its_key", "SX-DATA-001", "`order`"),
    ],
)
def test_it_ends_badly(orders: Orders, pool: Executor, name: str, code: str, words: str) -> None:
    """What happened, where, how to mend it - and the next step runs as if nothing had been."""
    failed = orders.do(pool, name)
    assert (failed.ok, failed.error_code) == (False, code), failed.error
    assert words in failed.error
    assert failed.where.startswith("ops.py:")
    assert failed.hint
    assert orders.do(pool, "fine").ok


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        (
            "hangs_after_talking",
            "SX-STEP-TIMEOUT",
            "what it was at when it stopped: ***SHOP_TOKEN***",
        ),
        ("leaves_after_talking", "SX-STEP-DIED", "the last words"),
    ],
)
def test_the_log_of_a_step_that_had_to_be_killed_is_kept(
    orders: Orders, pool: Executor, name: str, code: str, words: str
) -> None:
    """Of the step that one most wants to understand nothing would be known; or its password would
    be."""
    failed = orders.do(pool, name)
    assert (failed.error_code, failed.log) == (code, words + "\n")
    assert orders.do(pool, "fine").log.startswith("hello from"), "the next log begins anew"


def test_a_late_secret_of_an_earlier_step_is_not_in_the_next_log(
    orders: Orders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's log serves one step after the other: what a process left behind by one prints
    would stand in another's, unredacted."""
    monkeypatch.chdir(tmp_path)
    executor = ProcessExecutor(1)
    try:
        assert orders.do(executor, "leaves_a_talker").ok
        log = orders.do(executor, "waits_for_the_talker").log
    finally:
        executor.close()
    assert log == "***SHOP_TOKEN***\n"


def test_what_a_step_started_ends_with_it(
    orders: Orders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped step would leave its children running for ever."""
    monkeypatch.setenv("SHOP_CHILD", str(tmp_path / "child"))
    executor = ProcessExecutor(1)
    answers: SimpleQueue[WorkResult] = SimpleQueue()
    try:
        order = orders.order("hangs_with_child")
        executor.submit(order, answers.put)
        child = tmp_path / "child"
        pid = int(_wait_for(lambda: child.exists() and child.read_text()))
        executor.cancel(order.id)
        assert answers.get(timeout=30).error_code == "SX-STEP-CANCELLED"
        _wait_for(lambda: _is_gone(pid))
    finally:
        executor.close()


def _is_gone(pid: int) -> bool:
    """Say whether a process has ended; one that nobody has waited for counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_killed_worker_takes_nobody_along(orders: Orders) -> None:
    """One step that is killed from outside would fail its neighbours and every step after it."""
    executor = ProcessExecutor(2)
    executor.warm()
    answers: SimpleQueue[WorkResult] = SimpleQueue()
    try:
        hangs = orders.order("hangs")
        assert hangs.asset.build is not None
        long = msgspec.structs.replace(
            hangs,
            asset=msgspec.structs.replace(
                hangs.asset, build=msgspec.structs.replace(hangs.asset.build, timeout_s=60.0)
            ),
        )
        executor.submit(long, answers.put)
        busy = _wait_for(
            lambda: next(
                (slot for slot in executor._workers if slot._order == long.id and slot._process),
                None,
            )
        )
        assert orders.do(executor, "fine").ok, "the neighbour works"
        os.kill(busy._process.pid, signal.SIGKILL)
        died = answers.get(timeout=30)
        assert (died.error_code, died.retryable) == ("SX-STEP-DIED", True)
        assert "SIGKILL" in died.error
        assert all(orders.do(executor, "fine").ok for _ in range(3))
    finally:
        executor.close()


def _wait_for(found: Any) -> Any:
    event = threading.Event()
    for _ in range(2000):
        value = found()
        if value:
            return value
        event.wait(0.005)
    raise AssertionError("it never came")


def test_cancelling(orders: Orders) -> None:
    """Ctrl-C would wait for an hour; or hit the step that comes after."""
    executor = ProcessExecutor(1)
    answers: SimpleQueue[WorkResult] = SimpleQueue()
    try:
        first, second, queued = (orders.order(name) for name in ("hangs", "hangs", "fine"))
        for order in (first, second, queued):
            executor.submit(order, answers.put)
        running = {first.id, second.id}
        _wait_for(lambda: {slot._order for slot in executor._workers} == running)
        for order in (queued, second, first):
            executor.cancel(order.id)
        codes = [answers.get(timeout=30).error_code for _ in range(3)]
        assert codes == ["SX-STEP-CANCELLED"] * 3
        os.write(
            executor._workers[0]._wake_w, b"x"
        )  # a cancellation that came a moment too late for its order
        assert orders.do(executor, "fine").ok, "it is not this one's"
    finally:
        executor.close()


def test_long_steps_of_one_run_leave_room_for_another(orders: Orders) -> None:
    """A pushed row would wait for the slow steps of a run that has nothing to do with it."""
    executor = ProcessExecutor(1)
    answers: SimpleQueue[WorkResult] = SimpleQueue()
    try:
        slow = orders.order("hangs")
        executor.submit(slow, answers.put)
        _wait_for(lambda: executor._workers[0]._order == slow.id)
        assert executor._workers[1]._process is None, "it starts when it is needed"
        assert orders.do(executor, "fine").ok
        executor.cancel(slow.id)
    finally:
        executor.close()


def test_a_worker_chooses_what_it_has_loaded(orders: Orders, monkeypatch: Any) -> None:
    """Orders of two versions of the project by turns would start an interpreter for each of
    them; and what nobody has loaded would wait for ever behind what keeps coming."""
    monkeypatch.setattr(process, "WORKER_LEFT_S", 3600.0)
    executor = ProcessExecutor(2)
    answers: SimpleQueue[WorkResult] = SimpleQueue()
    started = []
    start = executor._start
    monkeypatch.setattr(executor, "_start", lambda folder: started.append(1) or start(folder))
    try:
        of = {
            bundle: [
                msgspec.structs.replace(orders.order("fine"), bundle=bundle, run="run_1")
                for _ in range(6)
            ]
            for bundle in ("one", "other")
        }
        for pair in zip(of["one"], of["other"], strict=True):
            for order in pair:
                executor.submit(order, answers.put)
        assert all(answers.get(timeout=30).ok for _ in range(12))
        assert len(started) == 2
        monkeypatch.setattr(process, "WORKER_LEFT_S", 0.0)
        executor.submit(msgspec.structs.replace(orders.order("fine"), bundle="third"), answers.put)
        assert answers.get(timeout=30).ok
        assert len(started) == 3
    finally:
        executor.close()


def test_an_order_is_not_passed_for_ever(orders: Orders, monkeypatch: Any) -> None:
    """One whose code a busy worker has not loaded would wait until nothing else is there."""
    executor = ProcessExecutor(1)
    done: list[str] = []
    ended = threading.Event()
    try:
        first, *others = (
            msgspec.structs.replace(orders.order("fine"), bundle="one", run="run_1")
            for _ in range(4)
        )
        foreign = msgspec.structs.replace(orders.order("fine"), bundle="other", run="run_1")
        for passed_s, place in ((3600.0, 4), (0.0, 1)):
            monkeypatch.setattr(process, "WORKER_PASSED_S", passed_s)
            done.clear()
            ended.clear()

            def then(result: WorkResult) -> None:
                if result.order == first.id:
                    for order in (foreign, *others):
                        executor.submit(order, then)
                done.append(result.order)
                if len(done) == 5:
                    ended.set()

            executor.submit(first, then)
            assert ended.wait(30)
            assert done.index(foreign.id) == place
    finally:
        executor.close()


def test_the_spare_worker_is_for_another_run(orders: Orders) -> None:
    """One run with many short steps would have one worker more than there are processors."""
    executor = ProcessExecutor(1)
    answers: SimpleQueue[WorkResult] = SimpleQueue()
    try:
        slow = orders.order("hangs")
        same = msgspec.structs.replace(orders.order("fine"), run=slow.run)
        executor.submit(slow, answers.put)
        _wait_for(lambda: executor._workers[0]._order == slow.id)
        executor.submit(same, answers.put)
        assert not executor._may_work(executor._workers[1])
        assert orders.do(executor, "fine").ok, "of another run"
        executor.cancel(slow.id)
        assert {answers.get(timeout=30).order for _ in range(2)} == {slow.id, same.id}
    finally:
        executor.close()


def test_closing_ends_what_runs(orders: Orders) -> None:
    """The process would not end while a step hangs."""
    executor = ProcessExecutor(1)
    answers: SimpleQueue[WorkResult] = SimpleQueue()
    executor.submit(orders.order("hangs"), answers.put)
    process = _wait_for(lambda: executor._workers[0]._process)
    executor.close()
    assert answers.get(timeout=5).error_code == "SX-STEP-CANCELLED"
    assert process.poll() is not None


def test_nobody_waits_for_ever(orders: Orders) -> None:
    """A bundle that is gone, or a worker that cannot start, would hang the run."""

    def gone(digest: str, folder: Path) -> None:
        raise FileNotFoundError("the bundle is gone")

    executor = ProcessExecutor(1, keep=False, unpack=gone)
    try:
        for _ in range(2):
            failed = orders.do(executor, "fine")
            assert failed.error_code == "SX-STEP-011"
            assert "the bundle is gone" in failed.error
    finally:
        executor.close()


def test_an_error_of_ours_keeps_its_words(orders: Orders) -> None:
    """A damaged bundle would be told as a worker that could not start, with no hint."""

    def damaged(digest: str, folder: Path) -> None:
        raise Damaged(
            "SX-BUNDLE-003", "the bundle cannot be read", hint="make it again", where="ops.py:1"
        )

    executor = ProcessExecutor(1, keep=False, unpack=damaged)
    try:
        for _ in range(2):
            failed = orders.do(executor, "fine")
            assert (failed.error_code, failed.hint, failed.where, failed.retryable) == (
                "SX-BUNDLE-003",
                "make it again",
                "ops.py:1",
                True,
            )
    finally:
        executor.close()


def test_a_work_order_needs_nothing_but_its_bundle(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine has no checkout: the bundle must be all that a step needs."""
    _, packed = bundle.pack(orders.root)
    monkeypatch.setenv("PYTHONPATH", os.path.relpath(Path(bundle.__file__).parents[2]))
    executor = ProcessExecutor(
        1, keep=False, unpack=lambda digest, folder: bundle.unpack(packed, folder) and None
    )
    try:
        done = orders.do(executor, "looks_around")
    finally:
        executor.close()
    assert done.ok, done.error
    seen = frames.read(
        orders.root / "lake", done.outputs[0].files, frame="polars", schema=done.schema
    )
    assert seen["file"].to_list() == ["ops.py", "secrets.toml", "sextant.toml"] or seen[
        "file"
    ].to_list() == ["ops.py", "sextant.toml"]
    assert seen["ops"][0] == f"{seen['cwd'][0]}/ops.py"
    assert not Path(seen["cwd"][0]).exists(), "and it is gone afterwards"
    assert not seen["cwd"][0].startswith(str(orders.root))


def test_a_talkative_step(orders: Orders, pool: Executor) -> None:
    """A log of gigabytes would fill the memory of the coordinator; one without its end would hide
    the error."""
    log = orders.do(pool, "talks_much").log
    assert len(log) < 1_100_000
    assert log.startswith("line 0 ")
    assert "line 59999 " in log
    assert "left out" in log


def test_what_a_step_writes_to_its_descriptors_is_no_answer(orders: Orders, pool: Executor) -> None:
    """A C library that prints would be taken for the worker's answer."""
    done = orders.do(pool, "chatters")
    assert done.ok
    assert "straight into the descriptor" in done.log


def test_other_code_gets_a_fresh_interpreter(orders: Orders) -> None:
    """An edited helper would still be the old one in a warm worker."""
    executor = ProcessExecutor(1)
    try:
        assert orders.do(executor, "fine").ok
        before = executor._workers[0]._process
        order = msgspec.structs.replace(orders.order("fine"), bundle="another")
        answers: SimpleQueue[WorkResult] = SimpleQueue()
        executor.submit(order, answers.put)
        assert answers.get(timeout=30).ok
        assert executor._workers[0]._process is not before
        assert before is not None
        assert before.poll() is not None
    finally:
        executor.close()


def test_a_process_stands_by_for_other_code(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, each upload waits until a process has started, an order meets the modules of
    other code, or processes are left when the platform has closed."""
    one = ProcessExecutor(1)
    try:
        one.stand_by(600.0)
        first = _ready_of(one)
        assert str(first.pid) in orders.do(one, "fine").log
        next_one = _ready_of(one)
        assert next_one.pid != first.pid
        assert str(first.pid) in orders.do(one, "fine").log, "the same code goes on there"
        monkeypatch.setattr(
            orders, "manifest", msgspec.structs.replace(orders.manifest, bundle="0" * 64)
        )
        assert str(next_one.pid) in orders.do(one, "fine").log
        assert first.poll() is not None
        last = _ready_of(one)
        os.kill(last.pid, signal.SIGKILL)
        last.wait()
        monkeypatch.setattr(
            orders, "manifest", msgspec.structs.replace(orders.manifest, bundle="1" * 64)
        )
        assert orders.do(one, "fine").ok, "one that has died is not used"
        left = _ready_of(one)
        one._ready._until = 0.0
        one._ready._end_when_due()
        assert left.poll() is not None, "not for longer than it was to"
        one.stand_by(600.0)
        left = _ready_of(one)
    finally:
        one.close()
    assert left.poll() is not None
    assert one._ready.take() is None


def _ready_of(executor: ProcessExecutor) -> Any:
    """Return the process that stands by; the slot starts it after it has answered."""
    until = time.monotonic() + 30
    while executor._ready._ready is None and time.monotonic() < until:
        threading.Event().wait(0.01)
    assert executor._ready._ready is not None
    return executor._ready._ready.process


def test_inline_never_raises(orders: Orders) -> None:
    """The inline executor has no process around it: what a step does must still become a result."""
    for name, code in (
        ("raises", "SX-STEP-001"),
        ("leaves_politely", "SX-STEP-001"),
        ("returns_text", "SX-LAKE-006"),
    ):
        assert orders.do(InlineExecutor(), name).error_code == code
