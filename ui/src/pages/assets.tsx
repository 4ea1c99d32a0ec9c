// All assets: what is live of each, how it stands, what changed last.
import { NativeSelect } from "@mantine/core";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import { ask, type Schemas } from "../api/client";
import { kept } from "../api/pages";
import { useEnv } from "../frame/shell";
import { Id } from "../parts/command";
import { count, nameOf, plural } from "../parts/format";
import { AssetLink, Head } from "../parts/links";
import { Empty, Shown } from "../parts/problem";
import { State } from "../parts/state";
import { type Column, DataTable } from "../parts/table";
import { instant, Time } from "../parts/time";

type Node = Schemas["GraphNode"];
type Status = Schemas["AssetStatus"];

interface Row {
  id: string;
  node: Node;
  status: Status | undefined;
  state: string;
  why: string;
}

/** How an asset stands, in a word: the first thing that needs somebody. */
export function stateOf(node: Node, status: Status | undefined): [string, string] {
  if (node.mode === "observed") return ["observed", "another tool makes it"];
  if (!status) return ["missing", "it is not in this environment"];
  if (status.held || status.held_by_incident)
    return ["held", status.held_by_incident ? `by incident ${status.held_by_incident}` : plural(status.held, "partition")];
  if (status.rolling) return ["rolling", `release ${status.rolling}`];
  if (status.stale) return ["stale", plural(status.stale, "partition")];
  const due = Object.entries(status.to_run);
  if (due.length && status.version) return ["due", due.map(([why, n]) => `${n} ${why}`).join(", ")];
  if (status.version) return ["live", ""];
  if (status.waiting) return ["waiting", `${plural(status.waiting, "partition")} for inputs`];
  return ["missing", "it was never made"];
}

const COLUMNS: Column<Row>[] = [
  { id: "asset", header: "Asset", value: (row) => nameOf(row.id), cell: (row) => <AssetLink id={row.id} kind={false} />, width: "minmax(11rem, 2.2fr)", phone: true },
  { id: "kind", header: "Kind", value: (row) => row.node.kind, width: "minmax(5rem, 0.8fr)" },
  {
    id: "state",
    header: "State",
    value: (row) => row.state,
    cell: (row) => (
      <>
        <State state={row.state} title={row.why} />
        {row.why && <span className="sx-dim sx-why">{row.why}</span>}
      </>
    ),
    width: "minmax(7rem, 1.4fr)",
    phone: true,
  },
  { id: "owner", header: "Owner", value: (row) => row.node.owner, width: "minmax(5rem, 0.9fr)" },
  { id: "tier", header: "Tier", value: (row) => row.node.tier, width: "4rem", right: true },
  { id: "rows", header: "Rows", value: (row) => row.status?.rows ?? 0, cell: (row) => (row.status?.rows ? count(row.status.rows) : <span className="sx-dim">-</span>), width: "minmax(5.5rem, 0.8fr)", right: true },
  { id: "partitions", header: "Partitions", value: (row) => row.status?.partitions ?? 0, cell: (row) => (row.status?.partitions ? count(row.status.partitions) : <span className="sx-dim">-</span>), width: "6rem", right: true, hidden: true },
  { id: "version", header: "Version", value: (row) => row.status?.version ?? "", cell: (row) => <Id id={row.status?.version ?? ""} />, width: "minmax(8.5rem, 0.8fr)" },
  {
    id: "changed",
    header: "Last change",
    value: (row) => instant(row.status?.published_at) || 0,
    cell: (row) => <Time at={row.status?.published_at} />,
    width: "minmax(10.5rem, 1fr)",
  },
  { id: "tags", header: "Tags", value: (row) => row.node.tags.join(" "), width: "minmax(6rem, 1fr)", hidden: true },
  { id: "description", header: "Description", value: (row) => row.node.description, width: "minmax(12rem, 3fr)", hidden: true },
];

function choices(rows: Row[], of: (row: Row) => string[]): string[] {
  return [...new Set(rows.flatMap(of))].filter(Boolean).toSorted();
}

export default function Assets() {
  const env = useEnv();
  const search = useSearch({ from: "/assets" });
  const navigate = useNavigate();
  const graph = ask.useQuery("get", "/api/v1/graph");
  const status = ask.useQuery(
    "get",
    "/api/v1/status",
    { params: { query: { env } } },
    { enabled: env !== "", placeholderData: kept({ env }) },
  );

  const rows = useMemo<Row[]>(() => {
    const byId = new Map(status.data?.assets.map((one) => [one.asset, one]));
    return (graph.data?.assets ?? []).map((node) => {
      const found = byId.get(node.id);
      const [state, why] = stateOf(node, found);
      return { id: node.id, node, status: found, state, why };
    });
  }, [graph.data, status.data]);

  const shown = useMemo(
    () =>
      rows.filter(
        (row) =>
          (!search.kind || row.node.kind === search.kind) &&
          (!search.owner || row.node.owner === search.owner) &&
          (!search.tag || row.node.tags.includes(search.tag)) &&
          (!search.state || row.state === search.state),
      ),
    [rows, search.kind, search.owner, search.tag, search.state],
  );

  const set = (name: string, value: string) =>
    void navigate({ to: ".", search: (before) => ({ ...before, [name]: value || undefined }), replace: true });

  const filters: [("kind" | "owner" | "tag" | "state"), string[]][] = [
    ["kind", choices(rows, (row) => [row.node.kind])],
    ["owner", choices(rows, (row) => [row.node.owner])],
    ["tag", choices(rows, (row) => row.node.tags)],
    ["state", choices(rows, (row) => [row.state])],
  ];
  const tools = filters.map(([name, values]) =>
    values.length > 1 || search[name] ? (
      <NativeSelect
        key={name}
        size="xs"
        aria-label={`Only of ${name}`}
        data={[{ value: "", label: `Any ${name}` }, ...(search[name] && !values.includes(search[name]) ? [search[name], ...values] : values)]}
        value={search[name] ?? ""}
        onChange={(event) => set(name, event.currentTarget.value)}
      />
    ) : null,
  );
  const isFiltered = Boolean(search.kind || search.owner || search.tag || search.state);

  return (
    <div className="sx-page sx-fill">
      <Head title="Assets" />
      <Shown query={graph}>
        {() => (
          <Shown query={status}>
            {() => (
              <DataTable
                id="assets"
                label="assets"
                rows={shown}
                columns={COLUMNS}
                rowId={(row) => row.id}
                onOpen={(row) => void navigate({ to: "/assets/$asset", params: { asset: row.id } })}
                filter={search.q ?? ""}
                onFilter={(text) => set("q", text)}
                tools={tools}
                empty={
                  isFiltered && rows.length ? (
                    <>
                      <div className="sx-tools">{tools}</div>
                      <Empty title="No asset passes these filters.">Choose others above.</Empty>
                    </>
                  ) : (
                    <Empty title="The project declares no assets yet." lines={"# in ops.py\n@sx.dataset\ndef orders() -> pl.DataFrame: ...\n\nsextant plan\nsextant run"}>
                      Declare one in Python or SQL, and run it.
                    </Empty>
                  )
                }
              />
            )}
          </Shown>
        )}
      </Shown>
    </div>
  );
}
