// Lists that more than one page shows: runs, releases, checks.
import type { Check, Release, Run } from "../api/shapes";
import { count, plural, who } from "./format";
import { AssetLink, ReleaseLink, RunLink } from "./links";
import { progressWords } from "./progress";
import { State } from "./state";
import type { Column } from "./table";
import { instant, length, Time } from "./time";

export const RUN_COLUMNS: Column<Run>[] = [
  { id: "run", header: "Run", value: (run) => run.id, cell: (run) => <RunLink id={run.id} />, width: "7rem", phone: true },
  { id: "state", header: "State", value: (run) => run.state, cell: (run) => <State state={run.state} />, width: "7.5rem", phone: true },
  { id: "started", header: "Started", value: (run) => run.started_at ?? 0, cell: (run) => <Time at={run.started_at} />, width: "minmax(11rem, 1fr)", phone: true },
  {
    id: "took",
    header: "Took",
    value: (run) => took(run) ?? 0,
    cell: (run) => (took(run) === undefined ? <span className="sx-dim">-</span> : length(took(run) ?? 0)),
    width: "5.5rem",
    right: true,
  },
  { id: "trigger", header: "Because of", value: (run) => run.trigger ?? "", width: "7rem" },
  { id: "by", header: "By", value: (run) => who(run.by), width: "minmax(6rem, 1fr)" },
  { id: "env", header: "Environment", value: (run) => run.env, width: "7.5rem" },
  {
    id: "assets",
    header: "Assets",
    value: (run) => run.assets?.join(" ") ?? "",
    cell: (run) => (run.assets?.length ? <span title={run.assets.join("\n")}>{run.assets.length === 1 ? <AssetLink id={run.assets[0] ?? ""} /> : plural(run.assets.length, "asset")}</span> : <span className="sx-dim">all</span>),
    width: "minmax(9rem, 2fr)",
  },
  {
    id: "steps",
    header: "Steps",
    value: (run) => run.steps ?? 0,
    cell: (run) => (run.progress ? <span title={progressWords(run.progress, true)}>{`${count(run.progress.ended ?? 0)} of ${count(run.progress.total ?? 0)}`}</span> : count(run.steps ?? 0)),
    width: "5.5rem",
    right: true,
  },
  { id: "reused", header: "Reused", value: (run) => run.reused ?? 0, cell: (run) => count(run.reused ?? 0), width: "5rem", right: true, hidden: true },
  { id: "rows", header: "Rows", value: (run) => run.rows ?? 0, cell: (run) => count(run.rows ?? 0), width: "6.5rem", right: true },
];

/** Seconds that a run took; undefined while it goes on. */
export function took(run: Run): number | undefined {
  if (run.wall_s) return run.wall_s;
  if (!run.started_at || !run.finished_at) return undefined;
  return (instant(run.finished_at) - instant(run.started_at)) / 1000;
}

export const RELEASE_COLUMNS: Column<Release>[] = [
  { id: "release", header: "Release", value: (one) => one.id, cell: (one) => <ReleaseLink id={one.id} />, width: "7rem", phone: true },
  { id: "state", header: "State", value: (one) => one.state, cell: (one) => <State state={one.state} />, width: "8rem", phone: true },
  { id: "what", header: "What", value: (one) => one.moves.map((move) => move.asset).join(" "), cell: (one) => <Moves release={one} />, width: "minmax(10rem, 2fr)", phone: true },
  { id: "intent", header: "Intent", value: (one) => one.intent ?? "release", width: "5.5rem" },
  { id: "env", header: "Environment", value: (one) => envOf(one), width: "7.5rem" },
  { id: "by", header: "By", value: (one) => who(one.by), width: "minmax(6rem, 1fr)" },
  { id: "reason", header: "Reason", value: (one) => one.reason ?? "", width: "minmax(8rem, 2fr)" },
  { id: "changed", header: "Last move", value: (one) => one.changed_at, cell: (one) => <Time at={one.changed_at} />, width: "minmax(11rem, 1fr)" },
  { id: "created", header: "Proposed", value: (one) => one.created_at, cell: (one) => <Time at={one.created_at} />, width: "minmax(11rem, 1fr)", hidden: true },
];

export function envOf(release: Release): string {
  return [...new Set(release.moves.map((move) => move.env))].join(", ");
}

function Moves({ release }: { release: Release }) {
  const first = release.moves[0];
  if (!first) return null;
  const more = release.moves.length - 1;
  return (
    <span title={release.moves.map((move) => move.asset).join("\n")}>
      <AssetLink id={first.asset} />
      {more > 0 && <span className="sx-dim"> and {count(more)} more</span>}
    </span>
  );
}

/** How a check came out, as a state. */
export function checkState(check: Check): string {
  if (check.ok) return "passed";
  return check.severity === "warn" ? "warned" : "failed";
}

export const CHECK_COLUMNS: Column<Check>[] = [
  { id: "state", header: "Result", value: checkState, cell: (check) => <State state={checkState(check)} />, width: "7rem", phone: true },
  { id: "name", header: "Check", value: (check) => check.name, width: "minmax(11rem, 1.5fr)", phone: true },
  { id: "asset", header: "Asset", value: (check) => check.asset, cell: (check) => <AssetLink id={check.asset} kind={false} />, width: "minmax(8rem, 1fr)", hidden: true },
  { id: "partition", header: "Partition", value: (check) => check.partition ?? "", width: "minmax(6.5rem, 0.8fr)" },
  { id: "message", header: "Found", value: (check) => check.message ?? "", cell: (check) => <bdi title={check.message}>{check.message}</bdi>, width: "minmax(14rem, 4fr)", phone: true },
  { id: "failed", header: "Failing rows", value: (check) => check.failed ?? 0, cell: (check) => count(check.failed ?? 0), width: "7rem", right: true },
  { id: "run", header: "Run", value: (check) => check.run ?? "", cell: (check) => <RunLink id={check.run} />, width: "7rem" },
];
