// One release: what it moves, its states over time, who agreed, and what can be done about it.
import { useParams } from "@tanstack/react-router";
import { ask } from "../api/client";
import type { Move, ReleaseFacts } from "../api/shapes";
import { Id } from "../parts/command";
import { count, plural, who } from "../parts/format";
import { AssetLink, Card, Facts, Head, ReleaseLink, RunLink } from "../parts/links";
import { envOf } from "../parts/lists";
import { Shown } from "../parts/problem";
import { Needs, ReleaseActions } from "../parts/release";
import { State } from "../parts/state";
import { type Column, DataTable } from "../parts/table";
import { instant, length, Time } from "../parts/time";
import { WhyIt } from "./run";

const MOVES: Column<Move>[] = [
  { id: "asset", header: "Asset", value: (move) => move.asset, cell: (move) => <AssetLink id={move.asset} />, width: "minmax(11rem, 2fr)", phone: true },
  { id: "env", header: "Environment", value: (move) => move.env, width: "7.5rem" },
  { id: "source", header: "From", value: (move) => move.source, cell: (move) => <Id id={move.source} />, width: "minmax(9rem, 1fr)", phone: true },
  { id: "target", header: "To", value: (move) => move.target, cell: (move) => <Id id={move.target} />, width: "minmax(9rem, 1fr)", phone: true },
];

export default function ReleasePage() {
  const { release: id } = useParams({ from: "/releases/$release" });
  const query = ask.useQuery(
    "get",
    "/api/v1/releases/{release}",
    { params: { path: { release: id } } },
    { select: (data) => data as unknown as ReleaseFacts },
  );
  return (
    <div className="sx-page">
      <Shown query={query}>
        {(release) => (
          <>
            <Head
              kind={release.intent === "undo" ? "undo" : "release"}
              title={<Id id={release.id} length={40} />}
              actions={<ReleaseActions release={release} plan={release.plan} />}
            >
              <State state={release.state} />
              <span>
                {plural(release.moves.length, "asset")} in {envOf(release)}
              </span>
              <span>
                by {who(release.by)}, <Time at={release.created_at} />
              </span>
              {release.reason && <q dir="auto">{release.reason}</q>}
            </Head>
            {release.error && (
              <p className="sx-problem" dir="auto">
                {release.error}
              </p>
            )}
            <div className="sx-columns">
              <Card title="States over time">
                <Timeline release={release} />
              </Card>
              <Card title="Facts">
                <Facts
                  facts={[
                    ["Strategy", strategy(release)],
                    ["Run", <RunLink key="run" id={release.run} />],
                    ...(release.undoes ? ([["Undoes", <ReleaseLink key="undoes" id={release.undoes} />]] as [string, React.ReactNode][]) : []),
                    ...(release.after ? ([["After", <ReleaseLink key="after" id={release.after} />]] as [string, React.ReactNode][]) : []),
                    ["Approvals", release.needs?.length ? <Needs key="needs" release={release} /> : "none asked for"],
                    ...(release.broke_glass ? ([["Glass broken", release.broke_glass], ["Rules passed", release.passed?.join(", ")]] as [string, React.ReactNode][]) : []),
                    ...(release.due_at ? ([["Next look", <Time key="due" at={release.due_at} />]] as [string, React.ReactNode][]) : []),
                    ["Plan", <Id key="plan" id={release.plan} />],
                  ]}
                />
              </Card>
            </div>
            <Card title="Moves" note={plural(release.moves.length, "asset")}>
              <DataTable id="release-moves" label="moves" rows={release.moves} columns={MOVES} rowId={(move) => `${move.env} ${move.asset}`} empty={null} />
            </Card>
            <Card title="Why">
              <WhyIt subject={release.id} env={release.moves[0]?.env ?? ""} />
            </Card>
          </>
        )}
      </Shown>
    </div>
  );
}

function strategy(release: ReleaseFacts): string {
  const { kind = "publish", steps = [] } = release.strategy ?? {};
  const reached = steps[release.step ?? 0];
  return steps.length > 1 ? `${kind}: ${steps.join(", ")} %${reached === undefined ? "" : `, now ${reached} %`}` : kind;
}

/** The states that a release went through, the oldest first, with what each took. */
function Timeline({ release }: { release: ReleaseFacts }) {
  const events = release.events.toReversed();
  return (
    <ol className="sx-timeline">
      {events.map((event, n) => {
        const next = events[n + 1];
        const data = (event.data ?? {}) as { reason?: string; error?: string; step?: number };
        const seconds = next ? (instant(next.at) - instant(event.at)) / 1000 : undefined;
        return (
          <li key={event.id}>
            <State state={event.type.replace(/^release\./, "")} />
            <span className="sx-dim">
              <Time at={event.at} /> {who(event.actor)}
            </span>
            {data.error && <span dir="auto">{data.error}</span>}
            {seconds !== undefined && <span className="sx-dim">{length(seconds)}</span>}
            <span className="sx-dim sx-seq" title="place in the ledger">
              #{count(event.seq)}
            </span>
          </li>
        );
      })}
    </ol>
  );
}
