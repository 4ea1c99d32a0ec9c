"""kill -9 under load, with senders that try again: what was acknowledged is there, once.
`bench/telemetry_crash.py` does it 200 times."""

import http.client
import json
import random
import threading
import time
from pathlib import Path

from remote_writer import HEADERS, TYPE, request, series
from served import INTERNAL
from telemetry_process import Telemetry, telemetry

_KILLS = 10
_BETWEEN = (1, 25)  # batches that are acknowledged between two kills


class Sender(threading.Thread):
    """Sends numbered batches, each until it is acknowledged."""

    def __init__(self, process: Telemetry, number: int) -> None:
        super().__init__(daemon=True)
        self.process, self.number = process, number
        self.acknowledged = 0
        self.stopping = False

    def run(self) -> None:
        batch = 0
        while not self.stopping:
            now = time.time_ns()
            if self.number % 2:
                lines = [{"ts": now, "msg": f"batch {self.number}-{batch}-{n}"} for n in range(5)]
                path, kind, body, headers = (
                    "/v1/jsonlines?asset=service:crash",
                    "application/x-ndjson",
                    "\n".join(map(json.dumps, lines)).encode(),
                    {},
                )
            else:
                body = request(
                    *(
                        series(
                            {"__name__": "crash", "sender": str(self.number), "n": str(n)},
                            [(float(batch), now // 1_000_000)],
                        )
                        for n in range(5)
                    )
                )
                path, kind, headers = "/api/v1/write", TYPE, HEADERS
            while True:  # also when it is told to stop: what was begun is brought to its end
                try:
                    answer = self.process.post(
                        path, body, content_type=kind, X_Sextant_Internal=INTERNAL, **headers
                    )
                except (OSError, http.client.HTTPException):
                    continue
                if answer.status < 300:
                    break
                assert answer.status in (429, 503), answer
            batch += 1
            self.acknowledged = batch


def test_kills(tmp_path: Path) -> None:
    """If this fails, telemetry that a client was told is safe is lost with the process, or is there
    twice."""
    luck = random.Random(7)
    with telemetry(tmp_path) as process:
        senders = [Sender(process, number) for number in range(4)]
        for sender in senders:
            sender.start()
        for _ in range(_KILLS):
            target = sum(sender.acknowledged for sender in senders) + luck.randint(*_BETWEEN)
            until = time.monotonic() + 60
            while sum(sender.acknowledged for sender in senders) < target:
                assert time.monotonic() < until, "nothing is taken any more"
            process.kill()
            process.begin()
        for sender in senders:
            sender.stopping = True
        for sender in senders:
            sender.join(60)
            assert not sender.is_alive()
        lines = process.rows("SELECT body, count() AS n FROM obs.logs GROUP BY body")
        samples = process.rows(
            "SELECT labels['sender'] AS sender, labels['n'] AS n, groupArray(value) AS "
            "values FROM obs.metrics WHERE metric = 'crash' GROUP BY sender, n"
        )
    assert {row["n"] for row in lines} == {1}
    wanted = {
        f"batch {s.number}-{batch}-{n}"
        for s in senders
        if s.number % 2
        for batch in range(s.acknowledged)
        for n in range(5)
    }
    assert {row["body"] for row in lines} == wanted
    for row in samples:
        assert sorted(row["values"]) == list(range(senders[int(row["sender"])].acknowledged)), row[
            "sender"
        ]
    assert len(samples) == 10
