// All business numbers: their value, goal, newest points, change against the time before.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useQueries } from "@tanstack/react-query";
import { useMemo } from "react";
import { api, ask, type Schemas } from "../api/client";
import { useEnv } from "../frame/shell";
import { nameOf } from "../parts/format";
import { Head } from "../parts/links";
import { cell, isBetter, type Kpi, numeric, shownValue, SPARK_POINTS } from "../parts/number";
import { Empty, Shown } from "../parts/problem";
import { Delta, GoalSign, Spark } from "../parts/spark";
import { State } from "../parts/state";
import { type Column, DataTable } from "../parts/table";
import { instant, Time } from "../parts/time";
import { stateOf } from "./assets";
import { Link } from "@tanstack/react-router";
import "../styles/numbers.css";

interface Row {
  id: string;
  node: Schemas["GraphNode"];
  values: Schemas["AssetStatus"] | undefined;
  kpi: Kpi | undefined;
  state: string;
  why: string;
}

/** What of a number is compared for order: its relative change. */
function moved(kpi: Kpi | undefined): number {
  const [now, before] = [numeric(kpi?.total), numeric(kpi?.compared?.total)];
  return now === null || !before ? 0 : (now - before) / Math.abs(before);
}

const COLUMNS: Column<Row>[] = [
  {
    id: "kpi",
    header: "KPI",
    value: (row) => nameOf(row.id),
    cell: (row) => (
      <Link to="/kpis/$name" params={{ name: nameOf(row.id) }} className="sx-asset" title={row.node.description || row.id}>
        <bdi>{nameOf(row.id)}</bdi>
      </Link>
    ),
    width: "minmax(10rem, 1.6fr)",
    phone: true,
  },
  {
    id: "value",
    header: `Last ${SPARK_POINTS} points`,
    value: (row) => numeric(row.kpi?.total ?? cell(row.kpi?.rows[0], "value")) ?? 0,
    cell: (row) =>
      row.kpi ? (
        <strong className="sx-number" title={row.kpi.since ? `${row.kpi.since} to ${row.kpi.until}` : "over all time"}>
          {shownValue(row.kpi.since ? row.kpi.total : cell(row.kpi.rows[0], "value"), row.kpi.format)} <span className="sx-dim">{row.kpi.unit}</span>
        </strong>
      ) : (
        <span className="sx-dim">-</span>
      ),
    width: "minmax(7rem, 0.9fr)",
    right: true,
    phone: true,
  },
  {
    id: "goal",
    header: "Goal",
    value: (row) => (row.kpi?.goal_met === false ? 0 : row.kpi?.goal_met ? 2 : 1),
    cell: (row) => (
      <>
        {row.kpi ? <GoalSign kpi={row.kpi} /> : <span className="sx-dim">-</span>}
        {row.kpi?.goal && <span className="sx-dim sx-why">{row.kpi.goal}</span>}
      </>
    ),
    width: "minmax(13rem, 1.4fr)",
    phone: true,
  },
  { id: "spark", header: "Course", value: () => "", cell: (row) => (row.kpi ? <Spark kpi={row.kpi} /> : null), width: "minmax(9rem, 1.6fr)" },
  { id: "delta", header: "Change", value: (row) => moved(row.kpi), cell: (row) => (row.kpi?.compared ? <Delta kpi={row.kpi} better={isBetter(row.kpi, moved(row.kpi))} /> : <span className="sx-dim">-</span>), width: "minmax(10rem, 1.1fr)" },
  { id: "owner", header: "Owner", value: (row) => row.node.owner, width: "minmax(5rem, 0.7fr)" },
  {
    id: "state",
    header: "State",
    value: (row) => row.state,
    cell: (row) => <State state={row.state} title={row.why} />,
    width: "6.5rem",
  },
  { id: "fresh", header: "Last change", value: (row) => instant(row.values?.published_at) || 0, cell: (row) => <Time at={row.values?.published_at} />, width: "minmax(10.5rem, 0.9fr)" },
];

export default function Kpis() {
  const env = useEnv();
  const search = useSearch({ from: "/kpis" });
  const navigate = useNavigate();
  const graph = ask.useQuery("get", "/api/v1/graph");
  const status = ask.useQuery("get", "/api/v1/status", { params: { query: { env } } }, { enabled: env !== "" });
  const nodes = useMemo(() => graph.data?.assets.filter((one) => one.kind === "kpi" && one.mode === "managed") ?? [], [graph.data]);
  const numbers = useQueries({
    queries: nodes.map((node) => {
      const given = { params: { path: { name: nameOf(node.id) }, query: { env, last: SPARK_POINTS, compare: "previous", states: true } } };
      return {
        queryKey: ["get", "/api/v1/kpis/{name}", given],
        enabled: env !== "",
        retry: false,
        queryFn: async ({ signal }: { signal: AbortSignal }) => (await api.GET("/api/v1/kpis/{name}", { ...given, signal })).data as Kpi,
      };
    }),
  });
  const byId = new Map(status.data?.assets.map((one) => [one.asset, one]));
  const rows = nodes.map((node, n): Row => {
    const values = byId.get(`dataset:kpi_${nameOf(node.id)}`);
    const [state, why] = stateOf(node, values);
    return { id: node.id, node, values, kpi: numbers[n]?.data, state, why };
  });

  return (
    <div className="sx-page sx-fill sx-kpis">
      <Head title="KPIs" />
      <Shown query={graph}>
        {() => (
          <DataTable
            id="kpis"
            label="KPIs"
            rows={rows}
            columns={COLUMNS}
            rowId={(row) => row.id}
            onOpen={(row) => void navigate({ to: "/kpis/$name", params: { name: nameOf(row.id) } })}
            filter={search.q ?? ""}
            onFilter={(text) => void navigate({ to: ".", search: (before) => ({ ...before, q: text || undefined }), replace: true })}
            empty={
              <Empty title="The project declares no KPI yet." lines={'# in ops.py\nsx.kpi("revenue", of=orders, measure="sum(amount)", by=["country"], goal=sx.goal(">= 1000", over="7d"))\n\nsextant run'}>
                A KPI is one aggregate over the rows of a dataset, with dimensions and a goal.
              </Empty>
            }
          />
        )}
      </Shown>
    </div>
  );
}
