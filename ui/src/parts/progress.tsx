// How far a run is, and how long it is likely to take.
import type { Schemas } from "../api/client";
import { count, plural } from "./format";
import { length } from "./time";

export type Progress = Schemas["RunProgress"];

/** Returns how far a run is, in words: `12 of 40 steps, 3 failed, about 2 min left`. */
export function progressWords(now: Progress, open: boolean): string {
  const running = now.running?.length ?? 0;
  const parts = [
    `${count(now.ended ?? 0)} of ${plural(now.total ?? 0, "step")}`,
    now.failed && `${count(now.failed)} failed`,
    now.skipped && `${count(now.skipped)} that stand on those`,
    running && `${count(running)} running`,
    now.left && `${count(now.left)} ${open ? "to come" : "not reached"}`,
    open && (now.seconds_left === null || now.seconds_left === undefined ? "time left not known: a step was never timed" : `about ${length(now.seconds_left)} left`),
  ];
  return parts.filter(Boolean).join(", ");
}

export function Meter({ id, now }: { id: string; now: Progress }) {
  const total = Math.max(1, now.total ?? 0);
  const share = (n: number | undefined) => `${((n ?? 0) / total) * 100}%`;
  return (
    <span className="sx-meter" role="progressbar" aria-label={`steps of run ${id}`} aria-valuemin={0} aria-valuemax={total} aria-valuenow={now.ended ?? 0} aria-valuetext={progressWords(now, true)}>
      <i style={{ width: share((now.ended ?? 0) - (now.failed ?? 0)) }} />
      <i className="sx-meter-bad" style={{ width: share(now.failed) }} />
    </span>
  );
}
