// The partitions of an asset as a strip: how each stands, what one is about, and a range that is chosen to be made
// again. The server sends runs of equal neighbours, so a hundred thousand are as fast as ten.
import { Button } from "@mantine/core";
import { useDebouncedValue, useElementSize } from "@mantine/hooks";
import { IconCalendarPlus, IconX, IconZoomIn, IconZoomOut } from "@tabler/icons-react";
import { useNavigate } from "@tanstack/react-router";
import { type KeyboardEvent, memo, type PointerEvent, useCallback, useMemo, useRef, useState } from "react";
import { ask, type Schemas } from "../api/client";
import { kept } from "../api/pages";
import { command, Id, Lines } from "./command";
import { count, plural } from "./format";
import { Card, RunLink } from "./links";
import { Empty, Shown } from "./problem";
import { State, toneOf } from "./state";
import { type Column, DataTable } from "./table";
import { Time } from "./time";
import "../styles/partitions.css";

type Strip = Schemas["PartitionsSeen"];
type Run = Schemas["PartitionRun"];

const DETAILED_MAX = 1000; // partitions whose facts the server sends at once
const THIN_PX = 2; // so wide is one partition at least, or nobody sees it
const TALL: Record<string, number> = { good: 24, busy: 30, warn: 34, bad: 40, calm: 12 }; // height is a second sign

/** The key of the partition `n` behind another; "" where that cannot be told from the key. */
export function keyAfter(grain: string, zone: string, key: string, n: number): string {
  if (n === 0) return key;
  if (grain === "daily") {
    const day = Date.parse(`${key}T00:00:00Z`);
    return Number.isNaN(day) ? "" : new Date(day + n * 86_400_000).toISOString().slice(0, 10);
  }
  if (grain === "monthly") {
    const [year = Number.NaN, month = Number.NaN] = key.split("-").map(Number);
    const at = year * 12 + month - 1 + n;
    return Number.isNaN(at) ? "" : `${String(Math.floor(at / 12)).padStart(4, "0")}-${String((at % 12) + 1).padStart(2, "0")}`;
  }
  if (grain === "hourly") {
    const read = /^(\d{4}-\d\d-\d\dT\d\d)([+-]\d\d)(\d\d)$/.exec(key);
    if (!read) return "";
    const at = new Date(Date.parse(`${read[1]}:00:00${read[2]}:${read[3]}`) + n * 3_600_000);
    const part = Object.fromEntries(
      new Intl.DateTimeFormat("en-US", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", hourCycle: "h23", timeZoneName: "longOffset" })
        .formatToParts(at)
        .map((one) => [one.type, one.value]),
    );
    const offset = (part.timeZoneName ?? "").replace("GMT", "").replace(":", "") || "+0000";
    return `${part.year}-${part.month}-${part.day}T${part.hour}${offset}`;
  }
  return "";
}

interface Place {
  run: Run;
  from: number; // index of its first partition
}

function placed(runs: readonly Run[]): Place[] {
  const found: Place[] = [];
  let from = 0;
  for (const run of runs) {
    found.push({ run, from });
    from += run.count;
  }
  return found;
}

export function Partitions({ id, env }: { id: string; env: string }) {
  const [span, setSpan] = useState(""); // `A..B` that is looked at, "" = all
  const strip = ask.useQuery(
    "get",
    "/api/v1/assets/{asset}/partitions",
    { params: { path: { asset: id }, query: { env, partition: span } } },
    { enabled: env !== "", placeholderData: kept({ asset: id, env }) },
  );
  const zone = ask.useQuery("get", "/api/v1/project").data?.tz ?? "UTC";
  return (
    <Shown query={strip}>
      {(data) =>
        data.count ? (
          <Looked key={`${id} ${env} ${span}`} id={id} env={env} data={data} zone={zone} span={span} onSpan={setSpan} />
        ) : (
          <Empty title="It has no partitions yet." lines={command("run", id, "--env", env)} />
        )
      }
    </Shown>
  );
}

function Looked({ id, env, data, zone, span, onSpan }: { id: string; env: string; data: Strip; zone: string; span: string; onSpan: (span: string) => void }) {
  const navigate = useNavigate();
  const { ref, width } = useElementSize();
  const svg = useRef<SVGSVGElement>(null);
  const [at, setAt] = useState(-1);
  const [anchor, setAnchor] = useState(-1); // the other end of what is selected; -1 = nothing is
  const drags = useRef(false);
  const places = useMemo(() => placed(data.runs), [data.runs]);
  // keys that no arithmetic tells, such as names: the server says them, where they are few
  const named = data.grain === "static" || data.grain === "none";
  const facts = ask.useQuery(
    "get",
    "/api/v1/assets/{asset}/partitions",
    { params: { path: { asset: id }, query: { env, partition: span, details: true } } },
    { enabled: named && data.count <= DETAILED_MAX },
  ).data?.partitions;

  const placeOf = (index: number): Place | undefined => {
    let [low, high] = [0, places.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((places[middle]?.from ?? 0) <= index) low = middle;
      else high = middle - 1;
    }
    return places[low];
  };
  /** The key at an index; where it cannot be told, that of the end of its run. */
  const keyOf = (index: number, end: "first" | "last" = "first"): string => {
    const place = placeOf(index);
    if (!place) return "";
    if (facts?.[index]) return facts[index].partition;
    const { run, from } = place;
    if (index === from) return run.first;
    if (index === from + run.count - 1) return run.last;
    const told = keyAfter(data.grain, zone, run.first, run.count - 1) === run.last ? keyAfter(data.grain, zone, run.first, index - from) : "";
    return told || run[end];
  };

  const [first, last] = anchor < 0 ? [-1, -1] : [Math.min(anchor, at), Math.max(anchor, at)];
  const range = anchor < 0 ? "" : first === last ? keyOf(first) : `${keyOf(first, "first")}..${keyOf(last, "last")}`;
  const selected = anchor < 0 ? 0 : last - first + 1;
  const here = at >= 0 ? placeOf(at) : undefined;
  const plan = () => void navigate({ to: "/plan", search: { select: id, partition: range || keyOf(at) } });

  const indexAt = (event: PointerEvent) => {
    const box = svg.current?.getBoundingClientRect();
    if (!box?.width) return 0;
    return Math.max(0, Math.min(data.count - 1, Math.floor(((event.clientX - box.left) / box.width) * data.count)));
  };
  const press = (event: KeyboardEvent) => {
    const page = Math.max(1, Math.round(data.count / 20));
    const to: Record<string, number> = { ArrowRight: at + 1, ArrowLeft: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: data.count - 1 };
    const next = to[event.key];
    if (next !== undefined && !event.ctrlKey && !event.altKey && !event.metaKey) {
      event.preventDefault();
      if (event.shiftKey && anchor < 0) setAnchor(Math.max(0, at));
      else if (!event.shiftKey) setAnchor(-1);
      setAt(Math.max(0, Math.min(data.count - 1, next)));
    } else if (event.key === "Enter" && at >= 0) {
      event.preventDefault();
      plan();
    } else if (event.key === "Escape") setAnchor(-1);
  };

  const open = useCallback((place: Place) => {
    setAnchor(place.from);
    setAt(place.from + place.run.count - 1);
  }, []);
  const ticks = [...new Set([0, 1, 2, 3, 4].map((n) => Math.round((n * (data.count - 1)) / 4)))];
  const thin = width ? (THIN_PX * data.count) / width : 0;
  return (
    <>
      <Card title="Partitions" note={`${plural(data.count, "partition")}, ${data.grain === "none" ? "not partitioned" : data.grain}${span ? `, of ${span}` : ""}`}>
        <ul className="sx-strip-legend">
          {Object.entries(data.states).map(([state, n]) => (
            <li key={state}>
              <State state={state} /> {count(n)}
            </li>
          ))}
        </ul>
        <div
          ref={ref}
          className="sx-strip"
          role="slider"
          tabIndex={0}
          aria-label="Partitions: arrows move, with Shift they select a range, Enter plans it"
          aria-valuemin={1}
          aria-valuemax={data.count}
          aria-valuenow={at + 1 || 1}
          aria-valuetext={here ? `${keyOf(at)}, ${here.run.state}${selected > 1 ? `; ${plural(selected, "partition")} selected` : ""}` : "none chosen"}
          onKeyDown={press}
          onFocus={() => at < 0 && !drags.current && setAt(0)}
        >
          <svg
            ref={svg}
            viewBox={`0 0 ${data.count} 40`}
            preserveAspectRatio="none"
            aria-hidden="true"
            onPointerDown={(event) => {
              if (event.button !== 0) return;
              event.currentTarget.setPointerCapture(event.pointerId);
              drags.current = true;
              const index = indexAt(event);
              setAt(index);
              setAnchor(index);
            }}
            onPointerMove={(event) => {
              if (drags.current || anchor < 0) setAt(indexAt(event));
            }}
            onPointerUp={() => (drags.current = false)}
            onPointerCancel={() => (drags.current = false)}
          >
            <Bars places={places} thin={thin} />
            {anchor >= 0 && <rect className="sx-strip-range" x={first} y={0} width={Math.max(selected, thin)} height={40} />}
            {at >= 0 && <rect className="sx-strip-at" x={at} y={0} width={Math.max(1, thin)} height={40} />}
          </svg>
        </div>
        <div className="sx-strip-ends" aria-hidden="true">
          {ticks.map((index) => (
            <span key={index}>{keyOf(index)}</span>
          ))}
        </div>
        <div className="sx-strip-read">
          {here ? <OnePartition id={id} env={env} at={keyOf(at)} run={here.run} /> : <span className="sx-dim">Point at a partition, or move with the arrows. Drag, or Shift and the arrows, selects a range.</span>}
        </div>
        {selected > 0 && (
          <div className="sx-strip-selected">
            <strong>
              {range} · {plural(selected, "partition")}
            </strong>
            <Button size="compact-sm" leftSection={<IconCalendarPlus size={15} />} onClick={plan}>
              Plan a backfill
            </Button>
            {selected > 1 && selected < data.count && (
              <Button size="compact-sm" variant="default" leftSection={<IconZoomIn size={15} />} onClick={() => onSpan(range)}>
                Look closer
              </Button>
            )}
            <Button size="compact-sm" variant="default" leftSection={<IconX size={15} />} onClick={() => setAnchor(-1)}>
              Select none
            </Button>
            <Lines text={command("plan", id, "--partition", range, "--env", env)} />
          </div>
        )}
        {span && (
          <Button size="compact-sm" variant="default" leftSection={<IconZoomOut size={15} />} onClick={() => onSpan("")}>
            Show all partitions
          </Button>
        )}
      </Card>
      <StandsOut places={places} onOpen={open} />
    </>
  );
}

const ORDER = ["good", "calm", "busy", "warn", "bad"]; // what is drawn later is seen where it is narrow

/** The runs, drawn once: what is pointed at moves over them. */
const Bars = memo(function Bars({ places, thin }: { places: Place[]; thin: number }) {
  return places
    .toSorted((a, b) => ORDER.indexOf(toneOf(a.run.state)) - ORDER.indexOf(toneOf(b.run.state)))
    .map(({ run, from }) => {
      const tone = toneOf(run.state);
      const tall = TALL[tone] ?? 20;
      const width = Math.max(run.count, thin);
      return (
        <g key={from}>
          {tone === "calm" && <rect className="sx-strip-gap" x={from} y={0} width={width} height={40} />}
          <rect className={`sx-strip-${tone}`} x={from} y={40 - tall} width={width} height={tall} />
        </g>
      );
    });
});

/** What is known of one partition: at once how it stands, then the rest. */
function OnePartition({ id, env, at, run }: { id: string; env: string; at: string; run: Run }) {
  const [asked] = useDebouncedValue(at, 120);
  const facts = ask.useQuery(
    "get",
    "/api/v1/assets/{asset}/partitions",
    { params: { path: { asset: id }, query: { env, partition: asked, details: true } } },
    { enabled: asked !== "" && !asked.includes("..") },
  );
  const one = facts.data?.partitions?.find((found) => found.partition === at);
  return (
    <>
      <strong>
        <bdi>{at}</bdi>
      </strong>
      <State state={one?.state ?? run.state} />
      {one ? (
        <>
          {one.reason && <span dir="auto">{one.reason}</span>}
          {one.at && <span>{plural(one.rows, "row")}</span>}
          {one.run && (
            <span>
              run <RunLink id={one.run} />
            </span>
          )}
          {one.at && (
            <span>
              made <Time at={one.at} />
            </span>
          )}
          {one.code && (
            <span>
              code <Id id={one.code} length={8} />
            </span>
          )}
        </>
      ) : (
        <span className="sx-dim">{run.states ? Object.entries(run.states).map(([state, n]) => `${count(n)} ${state}`).join(", ") : "…"}</span>
      )}
    </>
  );
}

const StandsOut = memo(function StandsOut({ places, onOpen }: { places: Place[]; onOpen: (place: Place) => void }) {
  const rows = useMemo(() => places.filter(({ run }) => run.state !== "live"), [places]);
  const columns = useMemo<Column<Place>[]>(
    () => [
      { id: "state", header: "State", value: ({ run }) => run.state, cell: ({ run }) => <State state={run.state} />, width: "8rem", phone: true },
      { id: "first", header: "From", value: ({ run }) => run.first, width: "minmax(8rem, 1fr)", phone: true },
      { id: "last", header: "To", value: ({ run }) => run.last, width: "minmax(8rem, 1fr)", phone: true },
      { id: "count", header: "Partitions", value: ({ run }) => run.count, cell: ({ run }) => count(run.count), width: "6rem", right: true },
      {
        id: "inside",
        header: "Inside",
        value: ({ run }) => Object.entries(run.states ?? {}).map(([state, n]) => `${n} ${state}`).join(", "),
        width: "minmax(8rem, 2fr)",
      },
    ],
    [],
  );
  if (!rows.length) return null;
  return (
    <Card title="What is not live" note={plural(rows.length, "range")}>
      <DataTable id="partition-runs" label="ranges of partitions" rows={rows} columns={columns} rowId={({ from }) => String(from)} onOpen={onOpen} empty={null} />
    </Card>
  );
});
