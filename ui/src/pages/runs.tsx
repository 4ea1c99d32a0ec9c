// Runs, the newest first.
import { Button, NativeSelect } from "@mantine/core";
import { useNavigate, useSearch } from "@tanstack/react-router";
import type { Run } from "../api/shapes";
import { usePages } from "../api/pages";
import { useEnv } from "../frame/shell";
import { Head } from "../parts/links";
import { RUN_COLUMNS } from "../parts/lists";
import { Empty, Shown } from "../parts/problem";
import { DataTable } from "../parts/table";

const STATES = ["running", "finished", "refused", "failed", "cancelled"];

export default function Runs() {
  const env = useEnv();
  const search = useSearch({ from: "/runs" });
  const navigate = useNavigate();
  const runs = usePages<Run>("/api/v1/runs", { env, state: search.state ?? "" }, env !== "");
  const set = (name: string, value: string) =>
    void navigate({ to: ".", search: (before) => ({ ...before, [name]: value || undefined }), replace: true });

  const tools = (
    <>
      <NativeSelect
        size="xs"
        aria-label="Only in state"
        data={[{ value: "", label: "Any state" }, ...STATES]}
        value={search.state ?? ""}
        onChange={(event) => set("state", event.currentTarget.value)}
      />
      {runs.hasNextPage && (
        <Button size="compact-sm" variant="default" loading={runs.isFetchingNextPage} onClick={() => void runs.fetchNextPage()}>
          Load older ones
        </Button>
      )}
    </>
  );

  return (
    <div className="sx-page sx-fill">
      <Head title="Runs" />
      <Shown query={runs}>
        {(rows) => (
          <DataTable
            id="runs"
            label="runs"
            rows={rows}
            columns={RUN_COLUMNS}
            rowId={(run) => run.id}
            onOpen={(run) => void navigate({ to: "/runs/$run", params: { run: run.id } })}
            filter={search.q ?? ""}
            onFilter={(text) => set("q", text)}
            tools={tools}
            empty={
              search.state ? (
                <>
                  <div className="sx-tools">{tools}</div>
                  <Empty title={`No run is ${search.state}.`} />
                </>
              ) : (
                <Empty title={`Nothing has run in ${env} yet.`} lines={"sextant plan\nsextant run"}>
                  A plan says what would run; a run makes it. A server runs by itself what is due.
                </Empty>
              )
            }
          />
        )}
      </Shown>
    </div>
  );
}
