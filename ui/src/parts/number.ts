// Business numbers: their values as people read them, and times of their buckets as places of a chart.
import { ask, type Schemas } from "../api/client";
import { kept } from "../api/pages";

export type Kpi = Schemas["KpiSeen"];
export type Change = Schemas["Change"];

export interface Point {
  at: number; // s since 1970; of a bucket that is a date its beginning as if it were UTC
  value: number | null;
  state: string;
}

/** A value of a row: the API's description has objects. */
export function cell(row: object | undefined, name: string): unknown {
  return (row as Record<string, unknown> | undefined)?.[name];
}

/** A value as a number; null for none. Decimals come as texts. */
export function numeric(value: unknown): number | null {
  if (value === null || value === undefined || value === "") return null;
  const found = Number(value);
  return Number.isFinite(found) ? found : null;
}

/** How many digits a number has that says nothing of its format. */
function plainDigits(size: number): Intl.NumberFormatOptions {
  if (size >= 1000) return { maximumFractionDigits: 0 };
  if (size >= 1) return { maximumSignificantDigits: 4 };
  return size >= 0.0001 || size === 0 ? { maximumFractionDigits: 4 } : { maximumSignificantDigits: 2 };
}

const SPEC = /^(,)?(?:\.(\d+))?([f%gde])?$/;

/** A value as its KPI is read: a format specification of Python as far as it is of numbers, else four digits. */
export function shownValue(value: unknown, format: string, signed = false): string {
  const number = numeric(value);
  if (number === null) return value === null || value === undefined ? "-" : String(value);
  const [, comma, places, kind] = SPEC.exec(format) ?? [];
  const signDisplay = signed ? "exceptZero" : "auto";
  if (!format || (!kind && !comma && !places))
    return new Intl.NumberFormat(undefined, { ...plainDigits(Math.abs(number)), signDisplay }).format(number);
  const digits = places === undefined ? (kind === "d" ? 0 : 6) : Number(places);
  return new Intl.NumberFormat(undefined, {
    style: kind === "%" ? "percent" : "decimal",
    useGrouping: Boolean(comma),
    ...(kind === "g" || !kind ? { maximumSignificantDigits: Math.max(1, digits) } : { minimumFractionDigits: digits, maximumFractionDigits: digits }),
    signDisplay,
  }).format(number);
}

/** Seconds of the beginning of a bucket, a partition or a time of a span; NaN for what is none. */
export function secondsOf(text: string): number {
  if (/^\d{4}-\d\d$/.test(text)) return Date.parse(`${text}-01T00:00:00Z`) / 1000;
  if (/^\d{4}-\d\d-\d\d$/.test(text)) return Date.parse(`${text}T00:00:00Z`) / 1000;
  const hour = /^(\d{4}-\d\d-\d\dT\d\d)([+-]\d\d)(\d\d)$/.exec(text);
  if (hour) return Date.parse(`${hour[1]}:00:00${hour[2]}:${hour[3]}`) / 1000;
  const bare = /T\d\d:\d\d(:\d\d)?(\.\d+)?$/.test(text); // a local time: the chart's places have no zone either
  return Date.parse(bare ? `${text}Z` : text) / 1000;
}

export function isDay(text: string): boolean {
  return /^\d{4}-\d\d-\d\d$/.test(text);
}

export function pointsOf(rows: Kpi["rows"]): Point[] {
  return rows.flatMap((row) => {
    const at = secondsOf(String(cell(row, "bucket") ?? ""));
    return Number.isNaN(at) ? [] : [{ at, value: numeric(cell(row, "value")), state: String(cell(row, "state") ?? "live") }];
  });
}

const GOAL = /^(>=|<=|>|<) ([\d.e+-]+)/;

export function goalOf(goal: string): { up: boolean; value: number } | null {
  const [, op, value] = GOAL.exec(goal) ?? [];
  return op && value ? { up: op.startsWith(">"), value: Number(value) } : null;
}

/** Whether a change of a number is for the better; undefined where no goal says which way is good. */
export function isBetter(kpi: Kpi, delta: number): boolean | undefined {
  const goal = goalOf(kpi.goal);
  return goal && delta ? delta > 0 === goal.up : undefined;
}

export interface Mark {
  change: Change;
  first: number; // the part of time that it changed, s
  last: number;
}

/** Changes as marks: at the partitions that they changed, or when they happened where there are none. */
export function marksOf(changes: Change[]): Mark[] {
  return changes.flatMap((change) => {
    const places = change.partitions.map(secondsOf).filter((at) => !Number.isNaN(at));
    const at = Date.parse(change.at) / 1000;
    if (!places.length) return [{ change, first: at, last: at }];
    return [{ change, first: Math.min(...places), last: Math.max(...places) }];
  });
}

/** A change in a word and a sentence. */
export function wordOf(change: Change): string {
  if (change.intent === "undo") return "undo";
  if (change.intent === "edit") return change.changed;
  return { code: "code released", data: "data replaced", definition: "definition released" }[change.changed] ?? change.changed;
}

export const SPARK_POINTS = 60;

/** Asks for a number's newest points and the time before, as the list and the bridge show it. */
export function useSpark(name: string, env: string) {
  return ask.useQuery(
    "get",
    "/api/v1/kpis/{name}",
    { params: { path: { name }, query: { env, last: SPARK_POINTS, compare: "previous", states: true } } },
    { enabled: env !== "", placeholderData: kept({ name, env }), retry: false },
  );
}

/** Asks for what changed a number: what a chart of it marks. */
export function useMarks(id: string, env: string) {
  return ask.useQuery(
    "get",
    "/api/v1/assets/{asset}/changes",
    { params: { path: { asset: id }, query: { env, additions: false, limit: 200 } } },
    { enabled: env !== "", placeholderData: kept({ asset: id, env }), retry: false },
  );
}
