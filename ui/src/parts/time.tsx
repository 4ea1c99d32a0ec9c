// Times in the viewer's zone, or in UTC by choice; the exact instant in UTC is in the title.
import { useKept } from "../frame/kept";

const MINUTE = 60_000;
const DAY = 86_400_000;
const THIS_YEAR = new Date().getFullYear(); // it is left out

/** Milliseconds of a time as the API writes it: ISO text, or ns since the epoch; NaN for none. */
export function instant(at: string | number | undefined): number {
  if (at === undefined || at === "" || at === 0) return Number.NaN;
  return typeof at === "number" ? at / 1e6 : Date.parse(at);
}

export function useUtc(): [boolean, (utc: boolean) => void] {
  return useKept("utc", false);
}

export function zoneName(utc: boolean): string {
  return utc ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone;
}

function ago(ms: number): string {
  const past = Date.now() - ms;
  const text = length(Math.abs(past) / 1000);
  return past >= 0 ? `${text} ago` : `in ${text}`;
}

/** A length of time for people: `1.5 s`, `3 min`, `5 h`, `2 d`. */
export function length(seconds: number): string {
  if (seconds < 0.9995) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round((seconds * 1000) / MINUTE);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
  return `${Math.round((minutes * MINUTE) / DAY)} d`;
}

export function Time({ at, date = true }: { at: string | number | undefined; date?: boolean }) {
  const [utc] = useUtc();
  const ms = instant(at);
  if (Number.isNaN(ms)) return <span className="sx-dim">-</span>;
  const when = new Date(ms);
  const timeZone = utc ? "UTC" : undefined;
  const day = new Intl.DateTimeFormat(undefined, { timeZone, year: when.getFullYear() === THIS_YEAR ? undefined : "numeric", month: "short", day: "numeric" }).format(when);
  const hour = new Intl.DateTimeFormat(undefined, {
    timeZone,
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  }).format(when);
  return (
    <time className="sx-time" dateTime={when.toISOString()} title={`${when.toISOString().replace("T", " ").replace("Z", "")} UTC\n${ago(ms)}`}>
      {date && <span className="sx-dim">{day}</span>} {hour}
    </time>
  );
}
