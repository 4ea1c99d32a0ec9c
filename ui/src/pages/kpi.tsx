// One business number: its course with goal and changes, what a selected span was moved by, and what it means.
import { Button, NativeSelect } from "@mantine/core";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { type ReactNode, useCallback, useMemo, useState } from "react";
import { ask, type Schemas } from "../api/client";
import { kept, usePages } from "../api/pages";
import type { AssetFacts } from "../api/shapes";
import { useEnv } from "../frame/shell";
import { Chart, ChangeList, type Span } from "../parts/chart";
import { command, Id, Lines } from "../parts/command";
import { plural } from "../parts/format";
import { AssetLink, Card, Facts, Head, RunLink } from "../parts/links";
import { cell, goalOf, isBetter, isDay, type Kpi, type Mark, marksOf, numeric, pointsOf, secondsOf, shownValue, useMarks } from "../parts/number";
import { Empty, Shown } from "../parts/problem";
import { Delta, GoalSign } from "../parts/spark";
import { State } from "../parts/state";
import { Time, useUtc } from "../parts/time";
import { Waterfall } from "../parts/waterfall";
import "../styles/numbers.css";

type Version = Schemas["VersionSeen"];

const POINTS = 1200; // more are thinned by the server
const OTHERS = 8; // other numbers beside it
const FAILED = 20; // checks that are listed
const SHOWN = 12; // values of a dimension that are listed at once
const SECONDS: Record<string, number> = { "5m": 300, "15m": 900, "1h": 3600, "1d": 86_400, "1w": 604_800 };
const MONTHS: Record<string, number> = { "1mo": 1, "1q": 3, "1y": 12 };
const GRAINS: Record<string, string> = { "5m": "5 minutes", "15m": "15 minutes", "1h": "hours", "1d": "days", "1w": "weeks", "1mo": "months", "1q": "quarters", "1y": "years" };

/** The beginning of the bucket after one. */
function bucketAfter(grain: string, at: number): number {
  const months = MONTHS[grain];
  if (!months) return at + (SECONDS[grain] ?? 86_400);
  const day = new Date(at * 1000);
  return Date.UTC(day.getUTCFullYear(), day.getUTCMonth() + months, 1) / 1000;
}

export default function KpiPage() {
  const { name } = useParams({ from: "/kpis/$name" });
  const search = useSearch({ from: "/kpis/$name" });
  const navigate = useNavigate();
  const env = useEnv();
  const [utc] = useUtc();
  const id = `kpi:${name}`;
  const given = { params: { path: { name } } };
  // what it can be asked by is in any of its answers
  const head = ask.useQuery("get", "/api/v1/kpis/{name}", { ...given, params: { path: { name }, query: { env, last: 60, compare: "previous", states: true } } }, { enabled: env !== "", placeholderData: kept({ name, env }) });
  const kpi = head.data;
  const grain = search.grain && kpi?.grains.includes(search.grain) ? search.grain : (kpi?.grains[0] ?? "");
  const range = { since: search.since ?? "", until: search.until ?? "" };
  const bounded = Boolean(range.since && range.until);
  const compare = bounded && search.compare ? search.compare : "";
  const series = ask.useQuery(
    "get",
    "/api/v1/kpis/{name}",
    { params: { path: { name }, query: { env, grain, points: POINTS, states: true, compare, ...range } } },
    { enabled: env !== "" && grain !== "", placeholderData: kept({ name, env }) },
  );
  const changes = useMarks(id, env);
  const marks = useMemo(() => marksOf(changes.data?.items ?? []), [changes.data]);
  const set = useCallback(
    (values: Record<string, string | undefined>) => void navigate({ to: ".", search: (before) => ({ ...before, ...values }), replace: true }),
    [navigate],
  );
  const days = isDay(String(cell(series.data?.rows[0], "bucket") ?? ""));
  const write = useCallback((at: number) => (days ? new Date(at * 1000).toISOString().slice(0, 10) : new Date(at * 1000).toISOString()), [days]);
  const selected = useMemo<Span | null>(() => (search.from && search.to ? { from: secondsOf(search.from), to: secondsOf(search.to) } : null), [search.from, search.to]);
  const select = useCallback((span: Span | null) => set({ from: span ? write(span.from) : undefined, to: span ? write(span.to) : undefined }), [set, write]);
  const points = useMemo(() => pointsOf(series.data?.rows ?? []), [series.data]);
  const before = useMemo(() => {
    const found = series.data?.compared;
    if (!found) return [];
    const shift = secondsOf(series.data?.since ?? "") - secondsOf(found.since);
    return pointsOf(found.rows).map((point) => ({ ...point, at: point.at + shift }));
  }, [series.data]);
  const next = useCallback((at: number) => bucketAfter(grain, at), [grain]);
  const format = kpi?.format ?? "";
  const say = useCallback((value: number | null) => shownValue(value, format), [format]);
  const sayTime = useCallback(
    (at: number) =>
      days
        ? new Intl.DateTimeFormat(undefined, { timeZone: "UTC", weekday: grain === "1d" ? "short" : undefined, day: MONTHS[grain] ? undefined : "numeric", month: "short", year: "numeric" }).format(at * 1000)
        : new Intl.DateTimeFormat(undefined, { timeZone: utc ? "UTC" : undefined, dateStyle: "medium", timeStyle: "short", hourCycle: "h23" }).format(at * 1000),
    [days, grain, utc],
  );
  const ends = useMemo(() => ({ first: points[0]?.at, last: points.at(-1)?.at }), [points]);
  const lines = [
    "kpi",
    name,
    ...(grain ? ["--grain", grain] : []),
    ...(range.since ? ["--since", range.since] : []),
    ...(range.until ? ["--until", range.until] : []),
    ...(compare ? ["--compare", compare] : []),
  ];

  const choose = (value: string) => {
    // to compare, there must be a time to compare: the newest half of what is shown
    if (value && !bounded && ends.first !== undefined && ends.last !== undefined) {
      const middle = points[Math.floor(points.length / 2)]?.at ?? ends.first;
      set({ compare: value, since: write(value === "year" ? ends.first : middle), until: write(next(ends.last)) });
    } else set({ compare: value || undefined });
  };

  return (
    <div className="sx-page">
      <Head kind="kpi" title={<bdi>{name}</bdi>} actions={<Link to="/assets/$asset" params={{ asset: id }}>the asset and its actions</Link>}>
        {kpi && (
          <>
            <strong className="sx-number sx-big">
              {shownValue(kpi.goal ? kpi.goal_value : (kpi.total ?? cell(kpi.rows[0], "value")), kpi.format)} <span className="sx-dim">{kpi.unit}</span>
            </strong>
            {kpi.goal && (
              <span>
                goal {kpi.goal} <GoalSign kpi={kpi} />
              </span>
            )}
            {kpi.compared && (
              <span>
                <Delta kpi={kpi} better={isBetter(kpi, (numeric(kpi.total) ?? 0) - (numeric(kpi.compared.total) ?? 0))} /> against the 60 points before
              </span>
            )}
          </>
        )}
      </Head>
      {head.error && !kpi ? (
        <Empty title={`It has no value in ${env} yet.`} lines={`${command("plan", id, "--env", env)}\n${command("run", id, "--env", env)}`}>
          {(head.error as unknown as Error).message}
        </Empty>
      ) : (
        <>
          {kpi && !kpi.grain && (
            <Card title="Over all time">
              <p>This KPI has no grain: it is one number over all its rows.</p>
            </Card>
          )}
          {grain && (
            <section className="sx-card sx-chart-card" aria-label="Course">
              <div className="sx-chart-tools">
                <NativeSelect size="xs" aria-label="Grain" data={kpi?.grains.map((one) => ({ value: one, label: `by ${GRAINS[one] ?? one}` }))} value={grain} onChange={(event) => set({ grain: event.currentTarget.value === kpi?.grains[0] ? undefined : event.currentTarget.value })} />
                <NativeSelect
                  size="xs"
                  aria-label="Compare with"
                  data={[
                    { value: "", label: "compare with nothing" },
                    { value: "previous", label: "the time before" },
                    { value: "year", label: "52 weeks earlier" },
                  ]}
                  value={compare}
                  onChange={(event) => choose(event.currentTarget.value)}
                />
                <DateField label="From" value={range.since || (ends.first === undefined ? "" : write(ends.first))} onSet={(since) => set({ since: since || undefined, until: range.until || (ends.last === undefined ? undefined : write(next(ends.last))) })} />
                <DateField label="To before" value={range.until || (ends.last === undefined ? "" : write(next(ends.last)))} onSet={(until) => set({ until: until || undefined, since: range.since || (ends.first === undefined ? undefined : write(ends.first)) })} />
                {(range.since || range.until) && (
                  <Button size="compact-sm" variant="default" onClick={() => set({ since: undefined, until: undefined, compare: undefined })}>
                    All of it
                  </Button>
                )}
                {selected && (
                  <>
                    <Button size="compact-sm" variant="default" onClick={() => set({ since: search.from, until: search.to })}>
                      Show only the span
                    </Button>
                    <Button size="compact-sm" variant="default" onClick={() => select(null)}>
                      Clear the span
                    </Button>
                  </>
                )}
              </div>
              <Shown query={series}>
                {(found) =>
                  points.length ? (
                    <>
                      <Chart label={`${name} by ${GRAINS[grain] ?? grain}, ${plural(points.length, "point")}`} points={points} before={before} goal={goalOf(found.goal)?.value ?? null} marks={marks} days={days} next={next} say={say} sayTime={sayTime} selected={selected} onSelect={select} />
                      <Legend kpi={found} marks={marks} compared={before.length > 0} />
                    </>
                  ) : (
                    <Empty title="There are no values in this time.">Choose another one above.</Empty>
                  )
                }
              </Shown>
            </section>
          )}
          {grain && selected && search.from && search.to ? (
            <Moved name={name} env={env} from={search.from} to={search.to} dimensions={kpi?.dimensions ?? []} marks={marks} format={format} unit={kpi?.unit ?? ""} days={days} />
          ) : (
            grain && (
              <Card title="What moved it">
                <p className="sx-dim">Drag over the chart to select a span of time: here stands what each dimension moved the number by, against the time before, and what changed upstream in it. By keyboard: Tab into the chart, Shift and arrows, Enter.</p>
              </Card>
            )
          )}
          {grain && kpi && !selected && <Waterfall name={name} env={env} before="" after="" dimensions={kpi.dimensions} />}
        </>
      )}
      <Definition id={id} env={env} kpi={kpi} />
      <details className="sx-cli">
        <summary>The same on the command line</summary>
        <Lines text={command(...lines)} />
      </details>
    </div>
  );
}

function DateField({ label, value, onSet }: { label: string; value: string; onSet: (value: string) => void }) {
  const [text, setText] = useState<string | null>(null);
  return (
    <label className="sx-date">
      {label}
      <input
        type="date"
        value={text ?? value.slice(0, 10)}
        onChange={(event) => setText(event.currentTarget.value)}
        onBlur={() => {
          if (text !== null && text !== value.slice(0, 10)) onSet(text);
          setText(null);
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter") event.currentTarget.blur();
        }}
      />
    </label>
  );
}

function Legend({ kpi, marks, compared }: { kpi: Kpi; marks: Mark[]; compared: boolean }) {
  const states = [...new Set(kpi.rows.map((row) => String(cell(row, "state") ?? "live")))].filter((one) => one !== "live");
  return (
    <ul className="sx-legend">
      <li>
        <i className="sx-key-line" /> the number
      </li>
      {compared && (
        <li>
          <i className="sx-key-before" /> {kpi.compared?.since} to {kpi.compared?.until}
        </li>
      )}
      {kpi.goal && (
        <li>
          <i className="sx-key-goal" /> goal {kpi.goal}
        </li>
      )}
      {states.length > 0 && (
        <li>
          <i className="sx-key-odd" /> hollow, or a gap: {states.map((one) => <State key={one} state={one} />)}
        </li>
      )}
      {kpi.thinned_from !== undefined && (
        <li className="sx-dim">
          {plural(kpi.rows.length, "point")} of {plural(kpi.thinned_from, "bucket")}: the least and the greatest of each stretch
        </li>
      )}
      <li className="sx-dim">{plural(marks.length, "change")} of it and of what it is made of in all</li>
    </ul>
  );
}

function Moved({ name, env, from, to, dimensions, marks, format, unit, days }: { name: string; env: string; from: string; to: string; dimensions: string[]; marks: Mark[]; format: string; unit: string; days: boolean }) {
  const whole = ask.useQuery("get", "/api/v1/kpis/{name}", { params: { path: { name }, query: { env, since: from, until: to, compare: "previous" } } }, { placeholderData: kept({ name, env }) });
  const [start, end] = [secondsOf(from), secondsOf(to)];
  const inside = marks.filter((mark) => mark.first < end && mark.last >= start);
  const found = whole.data;
  const delta = (numeric(found?.total) ?? 0) - (numeric(found?.compared?.total) ?? 0);
  const last = days ? new Date(secondsOf(to) * 1000 - 1).toISOString().slice(0, 10) : to;
  return (
    <>
      <section className="sx-card sx-moved-head" aria-label="The span">
        <h2>
          {from} to {last}
        </h2>
        <Shown query={whole}>
          {(data) => (
            <p className="sx-facts-line">
              <strong className="sx-number sx-big">
                {shownValue(data.total, format)} <span className="sx-dim">{unit}</span>
              </strong>
              <Delta kpi={data} better={isBetter(data, delta)} />
              <span>
                before, {data.compared?.since} to before {data.compared?.until}: <span className="sx-number">{shownValue(data.compared?.total, format)}</span>
              </span>
            </p>
          )}
        </Shown>
      </section>
      {found?.compared && <Waterfall name={name} env={env} before={`${found.compared.since}/${found.compared.until}`} after={`${from}/${to}`} dimensions={dimensions} />}
      <div className="sx-columns sx-moved">
        <Others name={name} env={env} from={from} to={to} />
        <Failed id={`kpi:${name}`} env={env} from={from} to={to} />
        <Card title="What changed upstream in this span" note={inside.length ? plural(inside.length, "change") : undefined}>
          {inside.length ? (
            <ChangeList marks={inside} />
          ) : (
            <p className="sx-dim">No release, undo or edit replaced anything of this span, of the number or of what it is made of: what moved it lies in the data.</p>
          )}
        </Card>
        {dimensions.map((one) => (
          <Dimension key={one} name={name} env={env} by={one} from={from} to={to} format={format} />
        ))}
      </div>
    </>
  );
}

/** The other numbers in the same span: a cause seldom moves one alone. */
function Others({ name, env, from, to }: { name: string; env: string; from: string; to: string }) {
  const graph = ask.useQuery("get", "/api/v1/graph");
  const others = (graph.data?.assets ?? [])
    .filter((one) => one.kind === "kpi" && one.mode === "managed" && one.id !== `kpi:${name}`)
    .toSorted((a, b) => a.tier - b.tier || a.id.localeCompare(b.id));
  if (!others.length) return null;
  return (
    <Card title="Other numbers in this span" note="against the time before">
      <ul className="sx-lines-list">
        {others.slice(0, OTHERS).map((one) => (
          <Other key={one.id} id={one.id} env={env} from={from} to={to} />
        ))}
        {others.length > OTHERS && (
          <li>
            <Link to="/kpis">all {plural(others.length + 1, "KPI")}</Link>
          </li>
        )}
      </ul>
    </Card>
  );
}

function Other({ id, env, from, to }: { id: string; env: string; from: string; to: string }) {
  const name = id.slice(id.indexOf(":") + 1);
  const asked = ask.useQuery("get", "/api/v1/kpis/{name}", { params: { path: { name }, query: { env, since: from, until: to, compare: "previous" } } }, { placeholderData: kept({ name, env }), retry: false });
  const found = asked.data;
  const delta = (numeric(found?.total) ?? 0) - (numeric(found?.compared?.total) ?? 0);
  return (
    <li>
      <span className="sx-what">
        <Link to="/kpis/$name" params={{ name }} search={(before) => ({ ...before, from, to, since: undefined, until: undefined, grain: undefined })}>
          <bdi>{name}</bdi>
        </Link>
      </span>
      <span className="sx-end">
        {found ? (
          <>
            <span className="sx-number">
              {shownValue(found.total, found.format)} {found.unit}
            </span>{" "}
            <Delta kpi={found} better={isBetter(found, delta)} />
          </>
        ) : (
          <span className="sx-dim">{asked.error ? "no value" : "…"}</span>
        )}
      </span>
    </li>
  );
}

/** Checks that failed on what the number is made of in the span, and whether their rows are in it. */
function Failed({ id, env, from, to }: { id: string; env: string; from: string; to: string }) {
  const asked = ask.useQuery("get", "/api/v1/assets/{asset}/failed-checks", { params: { path: { asset: id }, query: { env, since: from, until: to, limit: FAILED } } }, { placeholderData: kept({ asset: id, env }) });
  return (
    <Card title="Checks that failed in this span" note={asked.data?.items.length ? plural(asked.data.items.length, "check") : undefined}>
      <Shown query={asked}>
        {(found) =>
          found.items.length ? (
            <ul className="sx-lines-list">
              {found.items.map((one) => (
                <li key={`${one.run} ${one.asset} ${one.name} ${one.partition}`}>
                  <State state={one.severity === "error" ? "failed" : "warned"} />
                  <span className="sx-what">
                    <AssetLink id={one.asset} /> {one.partition} <span className="sx-dim">{one.name}</span>
                  </span>
                  <span className="sx-end">
                    <RunLink id={one.run} />
                  </span>
                  <span className="sx-next">
                    <bdi>{one.message}</bdi>; {one.is_live ? "these rows are in the number" : "these rows are not live"}
                  </span>
                </li>
              ))}
              {found.next && <li className="sx-dim">and more: {command("timeline", id, "--changes")} lists what changed</li>}
            </ul>
          ) : (
            <p className="sx-dim">None, of the number and of what it is made of.</p>
          )
        }
      </Shown>
    </Card>
  );
}

function Dimension({ name, env, by, from, to, format }: { name: string; env: string; by: string; from: string; to: string; format: string }) {
  const [all, setAll] = useState(false);
  const asked = ask.useQuery("get", "/api/v1/kpis/{name}", { params: { path: { name }, query: { env, by: [by], since: from, until: to, compare: "previous" } } }, { placeholderData: kept({ name, env }) });
  return (
    <Card title={`By ${by}`} note="moved by: what the number before would have changed by, had only this one changed">
      <Shown query={asked}>
        {(found) => {
          const key = (row: object) => String(cell(row, by) ?? "(none)");
          const now = new Map(found.rows.map((row) => [key(row), cell(row, "value")]));
          const then = new Map(found.compared?.rows.map((row) => [key(row), cell(row, "value")]));
          const gap = (one: string) => (numeric(now.get(one)) ?? 0) - (numeric(then.get(one)) ?? 0);
          const rows: [string, number | null][] =
            found.moved?.map((row) => [key(row), numeric(cell(row, "value"))]) ?? [...new Set([...now.keys(), ...then.keys()])].map((one): [string, number] => [one, gap(one)]).toSorted((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
          const most = Math.max(...rows.map(([, moved]) => Math.abs(moved ?? 0)), Number.MIN_VALUE);
          if (!rows.length) return <p className="sx-dim">There are no values in this span.</p>;
          return (
            <>
              <table className="sx-moves-table">
                <thead>
                  <tr>
                    <th scope="col">{by}</th>
                    <th scope="col">{found.moved ? "Moved by" : "Difference"}</th>
                    <th scope="col" aria-hidden="true" />
                    <th scope="col">Before</th>
                    <th scope="col">In the span</th>
                  </tr>
                </thead>
                <tbody>
                  {rows.slice(0, all ? undefined : SHOWN).map(([one, moved]) => {
                    const better = isBetter(found, moved ?? 0);
                    const tone = better === undefined ? "calm" : better ? "good" : "bad";
                    return (
                      <tr key={one}>
                        <th scope="row">
                          <bdi title={one}>{one}</bdi>
                        </th>
                        <td className="sx-number">{shownValue(moved, format, true)}</td>
                        <td className="sx-bars" aria-hidden="true">
                          <span className={`sx-moved-bar sx-moved-${tone}`} style={{ width: `${(Math.abs(moved ?? 0) / most) * 50}%`, left: (moved ?? 0) < 0 ? `${50 - (Math.abs(moved ?? 0) / most) * 50}%` : "50%" }} />
                        </td>
                        <td className="sx-number sx-dim">{shownValue(then.get(one), format)}</td>
                        <td className="sx-number">{shownValue(now.get(one), format)}</td>
                      </tr>
                    );
                  })}
                </tbody>
              </table>
              {rows.length > SHOWN && (
                <Button size="compact-xs" variant="default" onClick={() => setAll(!all)}>
                  {all ? "Only the greatest" : `${rows.length - SHOWN} more`}
                </Button>
              )}
            </>
          );
        }}
      </Shown>
    </Card>
  );
}

function text(value: unknown): ReactNode {
  if (value === undefined || value === null || value === "") return "";
  if (Array.isArray(value)) return value.join(", ");
  return <code>{typeof value === "string" ? value : JSON.stringify(value)}</code>;
}

function Definition({ id, env, kpi }: { id: string; env: string; kpi: Kpi | undefined }) {
  const facts = ask.useQuery("get", "/api/v1/assets/{asset}", { params: { path: { asset: id }, query: { env, limit: 0 } } }, { enabled: env !== "", select: (data) => data as unknown as AssetFacts, retry: false });
  const versions = usePages<Version>("/api/v1/assets/{asset}/versions", { env }, env !== "", id);
  const [shown, setShown] = useState("");
  const measure = facts.data?.measure ?? {};
  return (
    <div className="sx-columns">
      <Card title="Definition">
        {facts.data?.description && (
          <p dir="auto" className="sx-prose">
            {facts.data.description}
          </p>
        )}
        <Facts
          facts={[
            ["Measure", text(measure.sql)],
            ["Of", typeof measure.of === "string" ? <AssetLink id={measure.of} /> : ""],
            ["Only where", text(measure.where)],
            ["Goal", kpi?.goal],
            ["Kept by", GRAINS[kpi?.grains[0] ?? ""] ?? ""],
            ["Dimensions", kpi?.dimensions.join(", ")],
            ["Over time", text(measure.over_time)],
            ["Owner", facts.data?.owner],
            ["Declared in", facts.data?.file && <code>{facts.data.file}</code>],
          ]}
        />
      </Card>
      <Card title="History of the definition" note={versions.data ? plural(versions.data.length, "version") : undefined}>
        <Shown query={versions}>
          {(rows) =>
            rows.length ? (
              <ol className="sx-history">
                {rows.map((one, n) => (
                  <li key={one.version}>
                    <Id id={one.version} length={10} /> {one.state ? <State state={one.state.split(":")[0] ?? ""} title={one.state} /> : <span className="sx-dim">earlier</span>}
                    <Time at={one.created_at} /> <RunLink id={one.run} />
                    {rows[n + 1] && (
                      <Button size="compact-xs" variant="default" aria-expanded={shown === one.version} onClick={() => setShown(shown === one.version ? "" : one.version)}>
                        What it changed
                      </Button>
                    )}
                    {shown === one.version && <Difference id={id} before={rows[n + 1]?.version ?? ""} after={one.version} env={env} format={kpi?.format ?? ""} />}
                  </li>
                ))}
              </ol>
            ) : (
              <p className="sx-dim">It was never released.</p>
            )
          }
        </Shown>
      </Card>
    </div>
  );
}

interface Differs {
  measure?: { before: Record<string, unknown> | null; after: Record<string, unknown> | null };
  history?: { bucket: string; before: unknown; after: unknown }[];
}

function Difference({ id, before, after, env, format }: { id: string; before: string; after: string; env: string; format: string }) {
  const diff = ask.useQuery("get", "/api/v1/diff", { params: { query: { a: `${id}@${before}`, b: `${id}@${after}`, env } } }, { select: (data) => data as unknown as Differs });
  return (
    <Shown query={diff}>
      {(found) => {
        const [old, young] = [found.measure?.before ?? {}, found.measure?.after ?? {}];
        const fields = [...new Set([...Object.keys(old), ...Object.keys(young)])].filter((one) => one !== "definition" && JSON.stringify(old[one]) !== JSON.stringify(young[one]));
        return (
          <div className="sx-differs">
            {fields.map((one) => (
              <dl key={one}>
                <dt>{one}</dt>
                <dd>
                  <del>{typeof old[one] === "string" ? (old[one] as string) : JSON.stringify(old[one] ?? "")}</del>
                </dd>
                <dd>
                  <ins>{typeof young[one] === "string" ? (young[one] as string) : JSON.stringify(young[one] ?? "")}</ins>
                </dd>
              </dl>
            ))}
            {(found.history?.length ?? 0) > 0 && (
              <table className="sx-moves-table">
                <thead>
                  <tr>
                    <th scope="col">Time</th>
                    <th scope="col">Said before</th>
                    <th scope="col">Says now</th>
                  </tr>
                </thead>
                <tbody>
                  {found.history?.slice(-14).map((one) => (
                    <tr key={one.bucket}>
                      <th scope="row">{one.bucket}</th>
                      <td className="sx-number sx-dim">{shownValue(one.before, format)}</td>
                      <td className="sx-number">{shownValue(one.after, format)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            )}
          </div>
        );
      }}
    </Shown>
  );
}
