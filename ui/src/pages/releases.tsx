// Releases: first what waits for somebody, then all, the newest first.
import { Button, NativeSelect } from "@mantine/core";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { ask } from "../api/client";
import { usePages } from "../api/pages";
import type { Release } from "../api/shapes";
import { useEnv } from "../frame/shell";
import { plural, who } from "../parts/format";
import { AssetLink, Card, Head, ReleaseLink } from "../parts/links";
import { envOf, RELEASE_COLUMNS } from "../parts/lists";
import { Empty, Shown } from "../parts/problem";
import { State } from "../parts/state";
import { DataTable } from "../parts/table";
import { Time } from "../parts/time";
import { PromoteAll } from "../parts/promote";
import { Needs, ReleaseActions } from "../parts/release";

const STATES = ["waiting", "rolling", "paused", "undoing", "stuck", "live", "rejected", "rolled_back", "superseded"];

export default function Releases() {
  const env = useEnv();
  const search = useSearch({ from: "/releases" });
  const navigate = useNavigate();
  const status = ask.useQuery("get", "/api/v1/status", { params: { query: { env } } }, { enabled: env !== "" });
  const releases = usePages<Release>("/api/v1/releases", { env, state: search.state ?? "" }, env !== "");
  const queue = (status.data?.waiting ?? []) as unknown as Release[];
  const set = (name: string, value: string) =>
    void navigate({ to: ".", search: (before) => ({ ...before, [name]: value || undefined }), replace: true });

  const tools = (
    <>
      <NativeSelect
        size="xs"
        aria-label="Only in state"
        data={[{ value: "", label: "Any state" }, ...STATES.map((one) => ({ value: one, label: one.replaceAll("_", " ") }))]}
        value={search.state ?? ""}
        onChange={(event) => set("state", event.currentTarget.value)}
      />
      {releases.hasNextPage && (
        <Button size="compact-sm" variant="default" loading={releases.isFetchingNextPage} onClick={() => void releases.fetchNextPage()}>
          Load older ones
        </Button>
      )}
    </>
  );

  return (
    <div className="sx-page sx-fill">
      <Head title="Releases" actions={env && <PromoteAll env={env} />} />
      <Card title="Waits for somebody" note={queue.length ? plural(queue.length, "release") : undefined}>
        <Shown query={status}>
          {() =>
            queue.length ? (
              <ul className="sx-queue">
                {queue.map((one) => (
                  <Waiting key={one.id} release={one} />
                ))}
              </ul>
            ) : (
              <p className="sx-dim">Nothing waits: no approval is asked for, no roll-out is paused or stuck.</p>
            )
          }
        </Shown>
      </Card>
      <Shown query={releases}>
        {(rows) => (
          <DataTable
            id="releases"
            label="releases"
            rows={rows}
            columns={RELEASE_COLUMNS}
            rowId={(one) => one.id}
            onOpen={(one) => void navigate({ to: "/releases/$release", params: { release: one.id } })}
            filter={search.q ?? ""}
            onFilter={(text) => set("q", text)}
            tools={tools}
            empty={
              search.state ? (
                <>
                  <div className="sx-tools">{tools}</div>
                  <Empty title={`No release is ${search.state.replaceAll("_", " ")}.`} />
                </>
              ) : (
                <Empty title={`Nothing was released to ${env} yet.`} lines={`sextant run --env ${env}`}>
                  A run releases what it has made, when its checks have passed.
                </Empty>
              )
            }
          />
        )}
      </Shown>
    </div>
  );
}

function Waiting({ release }: { release: Release }) {
  return (
    <li>
      <div className="sx-queue-what">
        <State state={release.state} />
        <ReleaseLink id={release.id} />
        <span>
          {release.intent === "undo" ? "undo of" : ""}{" "}
          {release.moves.slice(0, 3).map((move) => (
            <AssetLink key={move.asset} id={move.asset} />
          ))}
          {release.moves.length > 3 && <span className="sx-dim"> and {release.moves.length - 3} more</span>} in {envOf(release)}
        </span>
        <span className="sx-dim">
          by {who(release.by)}, <Time at={release.created_at} />
        </span>
        {release.reason && <q dir="auto" title={release.reason}>{release.reason}</q>}
        <Needs release={release} />
      </div>
      <ReleaseActions release={release} />
    </li>
  );
}
