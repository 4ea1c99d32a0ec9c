// The way of a column through the assets: what it is made of on the left, what stands on it on the right. Only the assets on
// the way are drawn, with their columns on the way.
import { Controls, type Edge, Handle, type Node, type NodeProps, Position, ReactFlow, ReactFlowProvider, useReactFlow, useStore } from "@xyflow/react";
import "@xyflow/react/dist/style.css";
import { memo, useEffect, useMemo } from "react";
import { ask, type Schemas } from "../api/client";
import { kept } from "../api/pages";
import { command, Lines } from "./command";
import { nameOf, plural } from "./format";
import { AssetLink } from "./links";
import { Shown } from "./problem";
import "../styles/graph.css";

type Seen = Schemas["ColumnsSeen"];
type On = Schemas["ColumnAsset"];
type Choose = (asset: string, column: string) => void;
type FlowNode = Node<{ on: On; asset: string; column: string; choose: Choose }, "columns">;

const [WIDTH, HEAD, LINE, FAR, GAP] = [230, 44, 26, 330, 30]; // px of a node, its head and lines, and from one to the next

function height(on: On): number {
  return HEAD + Object.keys(on.columns).length * LINE + 8;
}

/** Where nodes stand: each further right than what it is made of. Assets come upstream first. */
function placed(data: Seen): Map<string, { x: number; y: number }> {
  const level = new Map<string, number>();
  for (const on of data.assets) {
    const above = data.edges.filter((edge) => edge.target === on.id && edge.source !== on.id).map((edge) => level.get(edge.source) ?? -1);
    level.set(on.id, Math.max(-1, ...above) + 1);
  }
  const filled = new Map<number, number>();
  return new Map(
    data.assets.map((on) => {
      const at = level.get(on.id) ?? 0;
      const y = filled.get(at) ?? 0;
      filled.set(at, y + height(on) + GAP);
      return [on.id, { x: at * FAR, y }];
    }),
  );
}

const Columned = memo(function Columned({ data: { on, asset, column, choose } }: NodeProps<FlowNode>) {
  return (
    <div className={`sx-way ${on.id === asset ? "sx-way-at" : ""}`} title={on.note || on.id}>
      <div className="sx-way-head">
        <Handle type="target" id="." position={Position.Left} isConnectable={false} />
        <AssetLink id={on.defined_by || on.id} />
        {on.how !== "query" && on.note && <span className="sx-dim">{on.note.split(":")[0]}</span>}
        <Handle type="source" id="." position={Position.Right} isConnectable={false} />
      </div>
      {Object.keys(on.columns).map((name) => (
        <div key={name} className="sx-way-line">
          <Handle type="target" id={`.${name}`} position={Position.Left} isConnectable={false} />
          <button type="button" aria-pressed={on.id === asset && name === column} onClick={() => choose(on.id, name)}>
            <bdi>{name}</bdi>
          </button>
          <Handle type="source" id={`.${name}`} position={Position.Right} isConnectable={false} />
        </div>
      ))}
    </div>
  );
});

const TYPES = { columns: Columned };

function Way({ data, choose }: { data: Seen; choose: Choose }) {
  const flow = useReactFlow();
  const places = useMemo(() => placed(data), [data]);
  const nodes = useMemo<FlowNode[]>(
    () =>
      data.assets.map((on) => ({
        id: on.id,
        type: "columns",
        position: places.get(on.id) ?? { x: 0, y: 0 },
        width: WIDTH,
        height: height(on),
        data: { on, asset: data.asset, column: data.column, choose },
      })),
    [data, places, choose],
  );
  const edges = useMemo<Edge[]>(
    () =>
      data.edges.map((edge) => ({
        id: `${edge.source}.${edge.source_column} ${edge.target}.${edge.target_column} ${edge.kind}`,
        source: edge.source,
        target: edge.target,
        sourceHandle: `.${edge.source_column}`,
        targetHandle: `.${edge.target_column}`,
        className: `sx-way-${edge.kind}`,
        label: edge.kind === "rows" ? "rows" : undefined,
        zIndex: edge.kind === "value" ? 1 : 0,
      })),
    [data],
  );
  const [width, tall] = [useStore((state) => state.width), useStore((state) => state.height)];
  useEffect(() => {
    if (width && tall) void flow.fitView({ padding: 0.06, maxZoom: 1, minZoom: 0.3 });
  }, [width, tall, flow]);
  return (
    <section className="sx-graph" aria-label="Picture of the columns">
      <ReactFlow
        nodes={nodes}
        edges={edges}
        nodeTypes={TYPES}
        nodesDraggable={false}
        nodesConnectable={false}
        nodesFocusable={false}
        edgesFocusable={false}
        elementsSelectable={false}
        disableKeyboardA11y
        minZoom={0.04}
        maxZoom={1.6}
        proOptions={{ hideAttribution: true }}
      >
        <Controls showInteractive={false} position="bottom-left" />
      </ReactFlow>
    </section>
  );
}

/** The columns of an asset, and the way of one of them. */
export function ColumnPath({ asset, column, env, choose }: { asset: string; column: string; env: string; choose: Choose }) {
  const found = ask.useQuery("get", "/api/v1/graph/columns", { params: { query: { asset, column, env } } }, { enabled: env !== "", placeholderData: kept({ asset, env }), retry: false });
  return (
    <Shown query={found}>
      {(data) => (
        <div className="sx-graph-body">
          <ReactFlowProvider key={`${data.asset} ${data.column}`}>
            <Way data={data} choose={choose} />
          </ReactFlowProvider>
          <aside className="sx-graph-side" aria-label="Columns">
            <section className="sx-card" aria-label="columns of the asset">
              <h2>
                Columns of <bdi>{nameOf(data.asset)}</bdi>
              </h2>
              <ul className="sx-way-list">
                {Object.entries(data.columns).map(([name, type]) => (
                  <li key={name}>
                    <button type="button" aria-pressed={name === data.column} onClick={() => choose(data.asset, name === data.column ? "" : name)}>
                      <bdi>{name}</bdi> <span className="sx-dim">{type}</span>
                    </button>
                  </li>
                ))}
              </ul>
              {!Object.keys(data.columns).length && <p className="sx-dim">They are known when it has been made.</p>}
            </section>
            <section className="sx-card" aria-label="what is drawn">
              <h2>{data.column ? `The way of ${data.column}` : "One step from each column"}</h2>
              <p role="status">
                {plural(data.assets.length, "asset")}, {plural(data.edges.filter((edge) => edge.kind === "value").length, "column made of another", "columns made of others")}. {data.cut}
              </p>
              <p className="sx-dim">Whole lines flow into a value. Dashed ones, marked rows, decide which rows there are. Dotted ones lead to code that is not looked into.</p>
            </section>
            <details className="sx-cli">
              <summary>The same on the command line</summary>
              <Lines text={command("graph", "--columns", data.column ? `${data.asset}.${data.column}` : data.asset, "--env", env)} />
            </details>
          </aside>
        </div>
      )}
    </Shown>
  );
}
