// The bridge: how the business numbers stand, what needs somebody, what runs, what changed, what is seen: one screen.
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { ask, type Schemas } from "../api/client";
import { usePages } from "../api/pages";
import type { Release, Run, RunFacts } from "../api/shapes";
import { useEnv } from "../frame/shell";
import { TourOffer } from "../frame/tour";
import { command } from "../parts/command";
import { count, kindOf, nameOf, plural, who } from "../parts/format";
import { AssetLink, Card, Head, ReleaseLink, RunLink } from "../parts/links";
import { envOf } from "../parts/lists";
import { cell, isBetter, marksOf, numeric, shownValue, SPARK_POINTS, useMarks, useSpark } from "../parts/number";
import { Empty, Shown } from "../parts/problem";
import { Meter, progressWords } from "../parts/progress";
import { Delta, GoalSign, Spark } from "../parts/spark";
import { State } from "../parts/state";
import { instant, Time } from "../parts/time";
import "../styles/numbers.css";

type Node = Schemas["GraphNode"];
type Status = Schemas["Status"];
type AssetStatus = Schemas["AssetStatus"];

const TILES = 8;
const LISTED = 40;
const SERVICES = 6;
const FAILING = 0.05; // of its requests: a service that fails more is in trouble, fewer are looked at
const DAY_MS = 86_400_000;

export default function Bridge() {
  const env = useEnv();
  const graph = ask.useQuery("get", "/api/v1/graph");
  const status = ask.useQuery("get", "/api/v1/status", { params: { query: { env } } }, { enabled: env !== "" });
  const releases = usePages<Release>("/api/v1/releases", { env }, env !== "");
  const nodes = graph.data?.assets ?? [];
  const isEmpty = graph.data !== undefined && nodes.every((one) => one.kind === "project");
  if (isEmpty)
    return (
      <div className="sx-page">
        <Head title="Bridge" />
        <Empty title="The project declares nothing yet." lines={START}>
          Declare a dataset and a number in Python, see what would run, and run it. It appears here as soon as it is loaded.
        </Empty>
      </div>
    );
  return (
    <div className="sx-page sx-bridge-page">
      <Head title="Bridge">
        {status.data && <Summary status={status.data} />}
      </Head>
      <TourOffer />
      <Numbers nodes={nodes} env={env} asked={graph.data !== undefined} />
      <div className="sx-bridge">
        <Panel title="Needs somebody" tall>
          <Shown query={status}>{(found) => <Needs status={found} env={env} />}</Shown>
        </Panel>
        <Panel title="Runs">
          <Runs env={env} />
        </Panel>
        <Panel title="Changed in the last day" tall>
          <Shown query={releases}>{(rows) => <Changed releases={rows} project={nodes.find((one) => one.kind === "project")} env={env} />}</Shown>
        </Panel>
        <Panel title={nodes.some((one) => one.kind === "service") ? "Services and freshness" : "Freshness of tier 1"}>
          {nodes.some((one) => one.kind === "service") && status.data?.telemetry_off === "" && <Services />}
          <Shown query={status}>{(found) => <Fresh status={found} />}</Shown>
        </Panel>
      </div>
    </div>
  );
}

const START = `# in ops.py
@sx.dataset(partition=sx.daily(start="2026-01-01"), time="at")
def orders(day: sx.Partition) -> pl.DataFrame: ...

sx.kpi("revenue", of=orders, measure="sum(amount)", goal=sx.goal(">= 1000", over="7d"))

# on the command line
sextant plan
sextant run`;

function Panel({ title, tall = false, children }: { title: string; tall?: boolean; children: ReactNode }) {
  return (
    <section className={`sx-card ${tall ? "sx-bridge-tall" : ""}`} aria-label={title}>
      <h2>{title}</h2>
      {/* what does not fit scrolls, also by keyboard */}
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className="sx-bridge-body" tabIndex={0} role="group" aria-label={title}>
        {children}
      </div>
    </section>
  );
}

function Summary({ status }: { status: Status }) {
  const live = status.assets.filter((one) => one.version).length;
  return (
    <>
      <span>
        {count(live)} of {plural(status.assets.length, "asset")} live in {status.env}
      </span>
      <span>{plural(status.runs_open.length, "run")} now</span>
      <span>{plural(status.signals.length, "open signal")}</span>
    </>
  );
}

function Numbers({ nodes, env, asked }: { nodes: Node[]; env: string; asked: boolean }) {
  const kpis = nodes.filter((one) => one.kind === "kpi" && one.mode === "managed").toSorted((a, b) => a.tier - b.tier || a.id.localeCompare(b.id));
  if (asked && !kpis.length)
    return (
      <Card title="Business numbers">
        <p className="sx-dim">
          The project declares no KPI yet: <code>sx.kpi("revenue", of=orders, measure="sum(amount)")</code> in its files shows one here.
        </p>
      </Card>
    );
  return (
    <section className="sx-bridge-numbers" aria-label="Business numbers">
      {kpis.slice(0, TILES).map((one) => (
        <Tile key={one.id} id={one.id} env={env} />
      ))}
      {kpis.length > TILES && (
        <Link to="/kpis" className="sx-tile">
          all {count(kpis.length)} KPIs
        </Link>
      )}
    </section>
  );
}

function Tile({ id, env }: { id: string; env: string }) {
  const name = nameOf(id);
  const found = useSpark(name, env);
  const marks = useMarks(id, env);
  const kpi = found.data;
  const delta = (numeric(kpi?.total) ?? 0) - (numeric(kpi?.compared?.total) ?? 0);
  return (
    <Link to="/kpis/$name" params={{ name }} className={`sx-tile ${kpi?.goal_met === false ? "sx-tile-missed" : ""}`}>
      <span className="sx-tile-name">
        <bdi title={name}>{name}</bdi>
        {kpi?.goal && <GoalSign kpi={kpi} />}
      </span>
      {kpi ? (
        <>
          <span className="sx-tile-value">
            <strong className="sx-number sx-big">
              {shownValue(kpi.goal ? kpi.goal_value : (kpi.total ?? cell(kpi.rows[0], "value")), kpi.format)} <span className="sx-dim">{kpi.unit}</span>
            </strong>
            {kpi.goal && <span className="sx-dim">goal {kpi.goal}</span>}
          </span>
          {kpi.grain && <Spark kpi={kpi} marks={marksOf(marks.data?.items ?? [])} />}
          <span className="sx-tile-value">
            {kpi.compared ? <Delta kpi={kpi} better={isBetter(kpi, delta)} /> : <span className="sx-dim">over all time</span>}
            {kpi.grain && (
              <span className="sx-dim">
                {SPARK_POINTS} x {kpi.grain} to {String(cell(kpi.rows.at(-1), "bucket") ?? "").slice(0, 10)}
              </span>
            )}
          </span>
        </>
      ) : found.error ? (
        <span className="sx-dim">no value in {env} yet: {command("run", id, "--env", env)}</span>
      ) : (
        <span className="sx-loading" role="status" aria-label="loading">
          <i />
          <i />
        </span>
      )}
    </Link>
  );
}

interface Item {
  key: string;
  state: string;
  what: ReactNode;
  next: ReactNode;
}

/** What needs somebody, the most pressing first, each with what to do next. */
function itemsOf(status: Status, env: string): Item[] {
  const items: Item[] = [];
  if (status.load_problem)
    items.push({ key: "load", state: "failed", what: `The project does not load: ${status.load_problem}`, next: "What was loaded last stays in force. Mend the file; it is read again by itself." });
  const waits = (status.waiting as unknown as Release[]).toSorted((a, b) => Number(status.yours.includes(b.id)) - Number(status.yours.includes(a.id)));
  for (const one of waits) {
    const needs = one.needs?.map((need) => `${need.by?.length ?? 0} of ${need.count}${need.of ? ` of ${need.of}` : ""}`).join(", ");
    items.push({
      key: one.id,
      state: one.state,
      what: (
        <>
          {one.intent === "undo" ? "undo" : "release"} of {one.moves[0] && <AssetLink id={one.moves[0].asset} />} in {envOf(one)} <ReleaseLink id={one.id} /> by {who(one.by)}
        </>
      ),
      next:
        one.state !== "waiting"
          ? "Look why it stopped, then continue or abort it."
          : status.yours.includes(one.id)
            ? `Yours to approve or deny${needs ? `: ${needs} so far` : ""}.`
            : `Waits for somebody else${needs ? `: ${needs} so far` : ""}.`,
    });
  }
  for (const one of status.incidents)
    items.push({
      key: one.id,
      state: "failed",
      what: (
        <>
          incident <bdi>{one.title}</bdi> <span className="sx-dim">{plural(one.signals.length, "signal")}{one.assignee && `, ${one.assignee} works on it`}</span>
        </>
      ),
      next: <>{command("incidents", one.id)} shows its timeline; {command("why", one.id)} what changed before.</>,
    });
  // a signal of an incident is told by it
  const told = new Set(status.incidents.flatMap((one) => one.signals));
  for (const one of status.signals.filter((signal) => !told.has(signal.id)))
    items.push({
      key: one.id,
      state: one.severity === "error" || one.severity === "critical" ? "failed" : "warned",
      what: (
        <>
          {one.asset ? <AssetLink id={one.asset} /> : one.kind} <bdi>{one.message}</bdi>
        </>
      ),
      next: <>{command("signals", one.id, "--close")} says that it is dealt with.</>,
    });
  if (status.failed_run)
    items.push({ key: status.failed_run, state: "failed", what: <>The newest run failed: <RunLink id={status.failed_run} /></>, next: "Its steps show where and why; the next run goes on from what was made." });
  const of = (state: string, word: (one: AssetStatus) => string, next: (one: AssetStatus) => string, found: AssetStatus[]) =>
    found.map((one): Item => ({ key: `${state} ${one.asset}`, state, what: <><AssetLink id={one.asset} /> {word(one)}</>, next: next(one) }));
  items.push(
    ...of("held", (one) => (one.held_by_incident ? `by incident ${one.held_by_incident}` : plural(one.held, "partition")), (one) => (one.held_by_incident ? "It waits until the incident is closed." : "It was undone and is not made again until its code or inputs change."), status.assets.filter((one) => one.held || one.held_by_incident)),
    ...of("stale", (one) => plural(one.stale, "partition"), (one) => `Its code has changed since: ${command("run", one.asset, "--stale", "--env", env)} makes them again.`, status.assets.filter((one) => one.stale)),
    ...of("missing", () => "was never made", (one) => `${command("run", one.asset, "--env", env)} makes it.`, status.assets.filter((one) => !one.version && !Object.keys(one.to_run).length)),
  );
  for (const one of status.inbox as unknown as Record<string, unknown>[])
    items.push({ key: `inbox ${JSON.stringify(one)}`, state: "waiting", what: `Pushed rows wait: ${String(cell(one, "dataset") ?? "")}`, next: "The next run takes them in." });
  return items;
}

function Needs({ status, env }: { status: Status; env: string }) {
  const items = itemsOf(status, env);
  if (!items.length) return <p className="sx-dim">Nothing: no approval is asked for, nothing failed, is held or stale.</p>;
  return (
    <ul className="sx-lines-list">
      {items.slice(0, LISTED).map((one) => (
        <li key={one.key}>
          <State state={one.state} /> <span className="sx-what">{one.what}</span>
          <span className="sx-next">{one.next}</span>
        </li>
      ))}
      {items.length > LISTED && (
        <li>
          <Link to="/assets">and {count(items.length - LISTED)} more</Link>
        </li>
      )}
    </ul>
  );
}

function Runs({ env }: { env: string }) {
  const runs = usePages<Run>("/api/v1/runs", { env }, env !== "");
  return (
    <Shown query={runs}>
      {(rows) => {
        const open = rows.filter((one) => one.state === "running");
        const ended = rows.filter((one) => one.state !== "running").slice(0, Math.max(2, 6 - open.length));
        if (!rows.length) return <Empty title={`Nothing has run in ${env} yet.`} lines={`${command("plan", "--env", env)}\n${command("run", "--env", env)}`} />;
        return (
          <ul className="sx-lines-list">
            {open.map((one) => (
              <Going key={one.id} run={one} />
            ))}
            {!open.length && <li className="sx-dim">Nothing runs now. The last ones:</li>}
            {ended.map((one) => (
              <li key={one.id}>
                <State state={one.state} /> <span className="sx-what">
                  <RunLink id={one.id} /> <span className="sx-dim">{one.trigger || "manual"}</span>
                </span>
                <span className="sx-end">
                  <Time at={one.finished_at} />
                </span>
                {one.error && <span className="sx-next">{one.error}</span>}
              </li>
            ))}
          </ul>
        );
      }}
    </Shown>
  );
}

/** A run that goes on: how far it is. */
function Going({ run }: { run: Run }) {
  const facts = ask.useQuery("get", "/api/v1/runs/{run}", { params: { path: { run: run.id } } }, { refetchInterval: 2000, select: (data) => data as unknown as RunFacts });
  const now = facts.data?.progress ?? run.progress;
  return (
    <li>
      <State state="running" />
      <span className="sx-what">
        <RunLink id={run.id} />{" "}
        <span className="sx-dim">
          {run.trigger || "manual"} by {who(run.by)}
        </span>
      </span>
      <span className="sx-end">since <Time at={run.started_at} date={false} /></span>
      {now && (
        <>
          <span className="sx-next">{progressWords(now, true)}</span>
          <Meter id={run.id} now={now} />
        </>
      )}
    </li>
  );
}

interface Line {
  key: string;
  state: string;
  release: Release;
  times: number;
  at: number;
}

/** Releases of the last day; alike ones that follow each other as one line. */
function linesOf(releases: Release[]): Line[] {
  const since = Date.now() - DAY_MS;
  const lines: Line[] = [];
  for (const one of releases) {
    const at = instant(one.changed_at);
    if (at < since) continue;
    const key = [one.state, one.intent ?? "release", one.by ?? "", one.moves[0]?.asset ?? "", one.moves.length, one.reason ?? ""].join(" ");
    const last = lines.at(-1);
    if (last?.key === key) last.times += 1;
    else lines.push({ key, state: one.state, release: one, times: 1, at });
  }
  return lines;
}

function Changed({ releases, project, env }: { releases: Release[]; project: Node | undefined; env: string }) {
  const edits = ask.useQuery("get", "/api/v1/assets/{asset}/changes", { params: { path: { asset: project?.id ?? "" }, query: { env, since: "1d", additions: false, limit: 20 } } }, { enabled: project !== undefined && env !== "", retry: false });
  const lines = linesOf(releases).slice(0, LISTED);
  const rows: [number, ReactNode][] = lines.map((one, n) => [
    one.at,
    <li key={`${one.key} ${n}`}>
      <State state={one.release.intent === "undo" && one.state === "live" ? "undone" : one.state} />
      <span className="sx-what">
        {one.times > 1 && <strong>{count(one.times)} × </strong>}
        {one.release.intent === "undo" ? "undo of " : ""}
        {one.release.moves[0] && <AssetLink id={one.release.moves[0].asset} />}
        {one.release.moves.length > 1 && <span className="sx-dim"> and {count(one.release.moves.length - 1)} more</span>} <ReleaseLink id={one.release.id} />
      </span>
      <span className="sx-end sx-dim">
        {who(one.release.by)}, <Time at={one.release.changed_at} date={false} />
      </span>
      {one.release.reason && <span className="sx-next">{one.release.reason}</span>}
    </li>,
  ]);
  const edited = (edits.data?.items ?? []).filter((one, n, all) => one.intent === "edit" && !(all[n - 1]?.by === one.by && all[n - 1]?.changed === one.changed));
  for (const one of edited) {
    rows.push([
        Date.parse(one.at),
        <li key={`edit ${one.at} ${one.version}`}>
          <State state="edited" />
          <span className="sx-what">
            <AssetLink id={one.asset} /> {one.changed !== "project edited" && <span className="sx-dim">{one.changed}</span>}
          </span>
          <span className="sx-end sx-dim">
            {who(one.by)}, <Time at={one.at} date={false} />
          </span>
        </li>,
      ]);
  }
  if (!rows.length) return <p className="sx-dim">Nothing was released, undone or edited in {env} in the last day.</p>;
  return <ul className="sx-lines-list">{rows.toSorted((a, b) => b[0] - a[0]).map(([, row]) => row)}</ul>;
}

/** What sends telemetry: those with errors first, then the busiest. */
function Services() {
  const services = ask.useQuery("get", "/api/v1/telemetry/services", { params: { query: { since: "1h", limit: SERVICES } } }, { refetchInterval: 30_000 });
  return (
    <Shown query={services}>
      {(found) => (
        <ul className="sx-lines-list">
          {!found.services.length && <li className="sx-dim">No service sent telemetry in the last hour.</li>}
          {found.services.map((one) => (
            <li key={one.asset}>
              <State state={one.errors > FAILING * one.requests ? "failed" : one.errors ? "warned" : "observed"} />
              <span className="sx-what">
                <AssetLink id={one.asset} />
              </span>
              <span className="sx-end">
                <Time at={one.last_seen} date={false} />
              </span>
              <span className="sx-next">
                {one.requests
                  ? `${one.requests_per_s.toPrecision(2)} requests/s, ${one.errors ? `${count(one.errors)} errors (${((100 * one.errors) / one.requests).toFixed(1)} %)` : "no errors"}, p95 ${length(one.p95_ns ?? 0)}`
                  : "no requests by its spans"}
              </span>
            </li>
          ))}
          {found.cut && (
            <li className="sx-dim">
              More of them: {command("services")}
            </li>
          )}
        </ul>
      )}
    </Shown>
  );
}

/** A duration in ns as people read it. */
function length(ns: number): string {
  return ns < 1e6 ? `${Math.round(ns / 1e3)} µs` : ns < 1e9 ? `${(ns / 1e6).toPrecision(3)} ms` : `${(ns / 1e9).toFixed(1)} s`;
}

/** When what matters most last changed, and whether something of it is due. */
function Fresh({ status }: { status: Status }) {
  const managed = status.assets.filter((one) => kindOf(one.asset) !== "project" && kindOf(one.asset) !== "kpi");
  const most = Math.min(...managed.map((one) => one.tier));
  const first = managed.filter((one) => one.tier === most).toSorted((a, b) => (a.published_at < b.published_at ? 1 : -1));
  if (!first.length) return <p className="sx-dim">No asset has a tier.</p>;
  return (
    <ul className="sx-lines-list">
      {first.slice(0, LISTED).map((one) => (
        <li key={one.asset}>
          <State state={one.state} />
          <span className="sx-what">
            <AssetLink id={one.asset} />
          </span>
          <span className="sx-end">{one.published_at ? <Time at={one.published_at} /> : "never"}</span>
        </li>
      ))}
      {most > 1 && <li className="sx-dim">Nothing has tier 1: these have tier {most}.</li>}
    </ul>
  );
}
