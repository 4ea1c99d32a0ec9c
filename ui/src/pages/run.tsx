// One run: its steps in time, why it ran, what it printed, what its checks found.
import { IconPlayerStop, IconRefresh } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import { api, ask } from "../api/client";
import type { RunFacts } from "../api/shapes";
import { Action } from "../parts/action";
import { command, Id } from "../parts/command";
import { FailingRows } from "../parts/failing";
import { bytes, count, plural, who } from "../parts/format";
import { AssetLink, Card, Facts, Head, RunLink, Subject } from "../parts/links";
import { CHECK_COLUMNS, took } from "../parts/lists";
import { RunLog } from "../parts/log";
import { Empty, Shown } from "../parts/problem";
import { Meter, progressWords } from "../parts/progress";
import { retryRun } from "../parts/start";
import { State } from "../parts/state";
import { type Column, DataTable } from "../parts/table";
import { instant, length, Time } from "../parts/time";

const OPEN = ["running", "started"];
const RETRIED = ["failed", "refused", "cancelled"];

interface Bar {
  step: string;
  asset: string;
  state: string;
  from: number; // ms since the epoch
  to: number;
  attempts: number;
  rows: number;
  cpu: number;
  memory: number;
  read: number;
  written: number;
  why: string;
  code: string;
  error: string;
}

/** The steps as bars: what started and has not ended goes on until now. */
export function bars(run: RunFacts, now: number): Bar[] {
  const found = new Map<string, Bar>();
  for (const one of run.steps_recorded) {
    const at = instant(one.at);
    const before = found.get(one.step);
    const from = instant(one.started_at) || (one.kind === "start" ? at : at - (one.resources?.wall_s ?? 0) * 1000);
    const state =
      one.kind === "start" ? "running" : one.kind === "reuse" ? "reused" : one.kind === "skip" ? "skipped" : one.ok === false ? "failed" : "finished";
    found.set(one.step, {
      step: one.step,
      asset: one.asset || before?.asset || (one.step.split("[")[0] ?? ""),
      state,
      from: Math.min(before?.from ?? from, from),
      to: one.kind === "start" ? now : at,
      attempts: Math.max(before?.attempts ?? 1, one.attempt ?? 1),
      rows: one.rows ?? 0,
      cpu: one.resources?.cpu_s ?? 0,
      memory: one.resources?.memory_bytes_peak ?? 0,
      error: one.error ? `${one.error}${one.error_code ? ` (${one.error_code})` : ""}${one.where ? ` at ${one.where}` : ""}` : "",
      read: one.resources?.bytes_read ?? 0,
      written: one.resources?.bytes_written ?? 0,
      why: (one.why ?? []).join("; ") || (before?.why ?? ""),
      code: one.code || (before?.code ?? ""),
    });
  }
  // a step's start is recorded only where it must not be repeated: the others are known while they run
  for (const [step, since] of Object.entries(run.progress?.since ?? {}))
    if (OPEN.includes(run.state) && !found.has(step))
      found.set(step, { step, asset: step.split("[")[0] ?? "", state: "running", from: instant(since), to: now, attempts: 1, rows: 0, cpu: 0, memory: 0, read: 0, written: 0, why: "", code: "", error: "" });
  return [...found.values()].toSorted((a, b) => a.from - b.from || a.to - b.to);
}

function stepColumns(from: number, to: number): Column<Bar>[] {
  const span = Math.max(1, to - from);
  return [
    { id: "step", header: "Step", value: (bar) => bar.step, cell: (bar) => <bdi title={bar.step}>{bar.step.replace(/^[^:]*:/, "")}</bdi>, width: "minmax(10rem, 1.4fr)", phone: true },
    { id: "state", header: "State", value: (bar) => bar.state, cell: (bar) => <State state={bar.state} title={bar.error} />, width: "7rem", phone: true },
    {
      id: "time",
      header: `Time (${length(span / 1000)})`,
      value: (bar) => bar.from,
      cell: (bar) => (
        <span
          className="sx-gantt"
          title={[`${length((bar.to - bar.from) / 1000)}, from ${length((bar.from - from) / 1000)} after the start`, bar.why, bar.cpu && `${length(bar.cpu)} of CPU, ${bytes(bar.memory)} at most`].filter(Boolean).join("\n")}
        >
          <i
            className={`sx-bar sx-bar-${bar.state}`}
            style={{ left: `${((bar.from - from) / span) * 100}%`, width: `max(3px, ${((bar.to - bar.from) / span) * 100}%)` }}
          />
        </span>
      ),
      width: "minmax(9rem, 3fr)",
      phone: true,
    },
    { id: "took", header: "Took", value: (bar) => bar.to - bar.from, cell: (bar) => length((bar.to - bar.from) / 1000), width: "5rem", right: true },
    { id: "why", header: "Why", value: (bar) => bar.why, cell: (bar) => <bdi title={bar.why}>{bar.why || "-"}</bdi>, width: "minmax(8rem, 1.4fr)" },
    { id: "rows", header: "Rows", value: (bar) => bar.rows, cell: (bar) => count(bar.rows), width: "6rem", right: true },
    { id: "attempts", header: "Attempts", value: (bar) => bar.attempts, width: "5.5rem", right: true, hidden: true },
    { id: "cpu", header: "CPU", value: (bar) => bar.cpu, cell: (bar) => length(bar.cpu), width: "5rem", right: true },
    { id: "memory", header: "Memory", value: (bar) => bar.memory, cell: (bar) => (bar.memory ? bytes(bar.memory) : "-"), width: "5.5rem", right: true },
    { id: "read", header: "Read", value: (bar) => bar.read, cell: (bar) => (bar.read ? bytes(bar.read) : "-"), width: "5.5rem", right: true, hidden: true },
    { id: "written", header: "Written", value: (bar) => bar.written, cell: (bar) => (bar.written ? bytes(bar.written) : "-"), width: "5.5rem", right: true },
    { id: "code", header: "Definition", value: (bar) => bar.code, cell: (bar) => <code title={bar.code}>{bar.code.slice(0, 8) || "-"}</code>, width: "6rem" },
    { id: "error", header: "Error", value: (bar) => bar.error, cell: (bar) => <bdi title={bar.error}>{bar.error}</bdi>, width: "minmax(8rem, 2fr)" },
  ];
}

export default function RunPage() {
  const { run: id } = useParams({ from: "/runs/$run" });
  const { step } = useSearch({ from: "/runs/$run" });
  const navigate = useNavigate();
  const query = ask.useQuery(
    "get",
    "/api/v1/runs/{run}",
    { params: { path: { run: id } } },
    {
      select: (data) => data as unknown as RunFacts,
      // steps are no entries of the ledger, so the stream does not tell of them
      refetchInterval: (state) => (OPEN.includes((state.state.data as { state?: string } | undefined)?.state ?? "") ? 1000 : false),
    },
  );
  const isOpen = OPEN.includes(query.data?.state ?? "");
  const now = query.dataUpdatedAt;
  const steps = useMemo(() => (query.data ? bars(query.data, now) : []), [query.data, now]);
  const span = useMemo(() => {
    const from = Math.min(...steps.map((bar) => bar.from), instant(query.data?.started_at) || Number.POSITIVE_INFINITY);
    return [from, Math.max(...steps.map((bar) => bar.to), from)] as const;
  }, [steps, query.data?.started_at]);
  const columns = useMemo(() => {
    const any = (of: (bar: Bar) => boolean) => steps.some(of);
    return stepColumns(span[0], span[1]).filter((one) => one.id !== "error" || any((bar) => Boolean(bar.error)));
  }, [span, steps]);

  return (
    <div className="sx-page">
      <Shown query={query}>
        {(run) => (
          <>
            <Head
              kind="run"
              title={<Id id={run.id} length={40} />}
              actions={
                isOpen ? (
                  <Action
                    spec={{
                      label: "Cancel",
                      icon: <IconPlayerStop size={15} />,
                      danger: true,
                      title: "Cancel this run",
                      says: "It stops, and nothing of it is published. What it has made is used by the next run.",
                      command: () => command("runs", id, "--cancel"),
                      act: () => api.POST("/api/v1/runs/{run}/cancel", { params: { path: { run: id } } }),
                      done: () => void query.refetch(),
                    }}
                  />
                ) : (
                  RETRIED.includes(run.state) && run.trigger !== "undo" && <Retry run={run} />
                )
              }
            >
              <State state={run.state} />
              <span>
                started <Time at={run.started_at} />
              </span>
              <span>{took(run) === undefined ? "goes on" : `took ${length(took(run) ?? 0)}`}</span>
              <span>
                by {who(run.by) || "the scheduler"} in {run.env}
              </span>
              {run.retry_of && (
                <span>
                  tries <RunLink id={run.retry_of} /> again
                </span>
              )}
              {run.retries.map((one) => (
                <span key={one}>
                  tried again by <RunLink id={one} />
                </span>
              ))}
            </Head>
            {run.progress && (isOpen || RETRIED.includes(run.state)) && (
              <div className="sx-progress">
                <Meter id={run.id} now={run.progress} />
                <span>{progressWords(run.progress, isOpen)}</span>
              </div>
            )}
            <div className="sx-columns">
              <Card title="Why it ran">
                <WhyIt subject={run.id} env={run.env} />
              </Card>
              <Card title="What it did">
                <Facts
                  facts={[
                    ["Because of", run.trigger],
                    ["Asked for", run.assets?.length ? run.assets.map((one) => <AssetLink key={one} id={one} />) : "all that is due"],
                    ["Partitions", run.partitions],
                    ["Steps", isOpen ? `${count(run.steps ?? 0)} planned` : `${count(run.steps ?? 0)}: ${count(run.computed ?? 0)} computed, ${count(run.reused ?? 0)} reused, ${count(run.failed ?? 0)} failed`],
                    ["Rows", count((isOpen ? run.progress?.rows : run.rows) ?? 0)],
                    ["Record", run.seal_ok ? "as it was sealed" : "changed since it was sealed"],
                    ...(run.error ? ([["Error", run.error]] as [string, string][]) : []),
                  ]}
                />
              </Card>
            </div>
            <Card title="Steps" note={plural(steps.length, "step")}>
              <DataTable
                id="run-steps"
                label="steps"
                rows={steps}
                columns={columns}
                rowId={(bar) => bar.step}
                onOpen={(bar) => void navigate({ to: ".", search: (before) => ({ ...before, step: bar.step === step ? undefined : bar.step }), replace: true })}
                empty={<Empty title={isOpen ? "No step has ended yet." : "It had nothing to do."} />}
              />
            </Card>
            <RunLog key={`${id} ${step ?? ""}`} run={id} step={step ?? ""} />
            {run.checks.length > 0 && (
              <Card title="Checks" note={`${plural(run.checks.filter((one) => !one.ok).length, "failure")} in ${count(run.checks.length)}`}>
                <DataTable
                  id="run-checks"
                  label="checks"
                  rows={run.checks}
                  columns={CHECK_COLUMNS}
                  rowId={(check) => `${check.asset} ${check.partition ?? ""} ${check.name}`}
                  empty={null}
                />
                <FailingRows checks={run.checks} />
              </Card>
            )}
          </>
        )}
      </Shown>
    </div>
  );
}

function Retry({ run }: { run: RunFacts }) {
  const navigate = useNavigate();
  const queries = useQueryClient();
  return (
    <Action
      spec={{
        label: "Try again",
        icon: <IconRefresh size={15} />,
        primary: true,
        title: `Try run ${run.id} again`,
        says: (
          <p>
            Makes what failed in {run.env}, what stood on that and what was not reached{run.partitions ? `, of ${run.partitions}` : ""}. What the run has made is used. It is a run of its own, which
            names this one.
          </p>
        ),
        command: () => command("runs", run.id, "--retry"),
        act: () => retryRun(run.id, run.env),
        done: (answer: { data: { id: string } }) => {
          void queries.invalidateQueries();
          if (answer.data.id) void navigate({ to: "/runs/$run", params: { run: answer.data.id } });
        },
      }}
    />
  );
}

export function WhyIt({ subject, env }: { subject: string; env: string }) {
  const why = ask.useQuery("get", "/api/v1/why/{subject}", { params: { path: { subject }, query: { env } } });
  return (
    <Shown query={why}>
      {(found) => (
        <>
          <p dir="auto">{found.reason}</p>
          {(found.chain?.length ?? 0) > 0 && (
            <ol className="sx-chain">
              {found.chain?.slice(0, 12).map((one) => (
                <li key={one.event}>
                  <code>{one.type}</code> <Subject id={one.subject} /> <Time at={one.at} date={false} />
                </li>
              ))}
            </ol>
          )}
        </>
      )}
    </Shown>
  );
}
