// The graph: assets and what stands on what, as a picture and as a table of the same nodes. The server says where each
// node stands; beyond some hundred assets it shows clusters, which are opened here. Only what is in sight is drawn.
import { ActionIcon, Button, NativeSelect } from "@mantine/core";
import { IconArrowsMaximize, IconColumns3, IconFocus2, IconListDetails, IconRoute, IconSitemap, IconX } from "@tabler/icons-react";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { Controls, type Edge, Handle, type Node, type NodeProps, Position, ReactFlow, ReactFlowProvider, useReactFlow, useStore } from "@xyflow/react";
import "@xyflow/react/dist/style.css";
import { type KeyboardEvent, memo, useEffect, useMemo, useRef, useState } from "react";
import { ApiError, ask, type Schemas } from "../api/client";
import { kept } from "../api/pages";
import { useEnv } from "../frame/shell";
import { command, Lines } from "../parts/command";
import { FindAsset } from "../parts/find";
import { count, kindOf, nameOf, plural } from "../parts/format";
import { AssetLink, Card, Facts, Head } from "../parts/links";
import { ColumnPath } from "../parts/path";
import { Empty, Shown } from "../parts/problem";
import { State, toneOf } from "../parts/state";
import { type Column, DataTable } from "../parts/table";
import "../styles/graph.css";

type Picture = Schemas["Picture"];
type PictureNode = Schemas["PictureNode"];
type FlowNode = Node<{ node: PictureNode; mark: string }, "asset">;

const STATES = ["failed", "waiting", "missing", "held", "stale", "due", "rolling", "live", "observed"];
const GROUPS = ["owner", "kind", "prefix"];
const FAR = ["0", "1", "2", "3", "5", "all"];
const VIEWS = ["picture", "table", "columns"] as const;
const ICONS = { picture: <IconSitemap size={15} />, table: <IconListDetails size={15} />, columns: <IconColumns3 size={15} /> };
const BY_SHOWN = 6; // kinds and owners that are named
const OPENED_MAX = 20; // of the server
const [WIDTH, HEIGHT, STEP_X, STEP_Y] = [214, 60, 290, 78]; // px of a node, and from one to the next
const [LONG, RATIO] = [4, 1.35]; // longer than so many times its height a picture is folded, to about the frame's form
const MANY = 3; // edges for each node: beyond that they are drawn faintly
const HANDLES = [
  { id: null, type: "target" as const, position: Position.Left, x: 0, y: HEIGHT / 2, width: 1, height: 1 },
  { id: null, type: "source" as const, position: Position.Right, x: WIDTH, y: HEIGHT / 2, width: 1, height: 1 },
];

/** A cluster as people read it: `owner:data/kind:dataset` as kind, dataset. */
function titleOf(node: PictureNode): [string, string] {
  if (node.count === 1 && node.kind) return [node.kind, node.name];
  return [kindOf(node.name), nameOf(node.name) || "none"];
}

function isCluster(node: PictureNode): boolean {
  return !node.kind;
}

/** Who stands before and behind each node, the nearest first. */
function neighbours(picture: Picture): Record<"in" | "out", Map<string, PictureNode[]>> {
  const byId = new Map(picture.nodes.map((node) => [node.id, node]));
  const found = { in: new Map<string, PictureNode[]>(), out: new Map<string, PictureNode[]>() };
  for (const edge of picture.edges) {
    const [source, target] = [byId.get(edge.source), byId.get(edge.target)];
    if (!source || !target) continue;
    found.out.set(source.id, [...(found.out.get(source.id) ?? []), target]);
    found.in.set(target.id, [...(found.in.get(target.id) ?? []), source]);
  }
  for (const way of [found.in, found.out])
    for (const [id, list] of way) {
      const row = byId.get(id)?.row ?? 0;
      list.sort((a, b) => Math.abs(a.row - row) - Math.abs(b.row - row));
    }
  return found;
}

/** Where nodes are drawn, in px. A long chain, as clusters that read each other make one, goes on below in further bands:
 * in one line nobody could read it. */
function drawn(picture: Picture): Map<string, { x: number; y: number }> {
  const [long, tall] = [picture.columns * STEP_X, (picture.rows + 0.5) * STEP_Y];
  const bands = long > LONG * tall ? Math.max(1, Math.round(Math.sqrt(long / (tall * RATIO)))) : 1;
  const columns = Math.max(1, Math.ceil(picture.columns / bands));
  return new Map(
    picture.nodes.map((node) => [
      node.id,
      { x: (node.column % columns) * STEP_X, y: node.row * STEP_Y + Math.floor(node.column / columns) * tall },
    ]),
  );
}

function reached(from: string, next: Map<string, PictureNode[]>): Set<string> {
  const found = new Set<string>();
  const queue = [from];
  for (let at = queue.pop(); at !== undefined; at = queue.pop())
    for (const one of next.get(at) ?? [])
      if (!found.has(one.id)) {
        found.add(one.id);
        queue.push(one.id);
      }
  return found;
}

export default function GraphPage() {
  const env = useEnv();
  const search = useSearch({ from: "/graph" });
  const navigate = useNavigate();
  const { asset = "", up, down, to = "", view = "picture" } = search;
  const opened = search.opened ?? [];
  const near = asset !== "" && (up !== undefined || down !== undefined);
  const set = (changes: Partial<typeof search>) => {
    const filled = Object.entries({ ...search, ...changes }).filter(([, value]) => value !== undefined && value !== "" && !(Array.isArray(value) && !value.length));
    void navigate({ to: "/graph", search: Object.fromEntries(filled) as never, replace: true });
  };

  // as on the command line: `2+orders+1,kind:dataset`
  const selected = useMemo(() => {
    if (asset && to) return [asset];
    const far = (text: string) => (text === "all" ? "" : text);
    const parts = [search.kind && `kind:${search.kind}`, search.owner && `owner:${search.owner}`, search.tag && `tag:${search.tag}`];
    if (near) parts.unshift(`${(up ?? "0") === "0" ? "" : `${far(up ?? "")}+`}${asset}${(down ?? "0") === "0" ? "" : `+${far(down ?? "")}`}`);
    const text = parts.filter(Boolean).join(",");
    return text ? [text] : [];
  }, [asset, to, near, up, down, search.kind, search.owner, search.tag]);
  const query = {
    env,
    assets: selected,
    to: asset ? to : "",
    state: search.state ? [search.state] : [],
    group: search.group ?? "owner",
    opened,
  };
  const picture = ask.useQuery("get", "/api/v1/graph/picture", { params: { query } }, { enabled: env !== "", placeholderData: kept({ env }) });
  // what filters offer; of a large project it is long, so the picture comes first
  const graph = ask.useQuery("get", "/api/v1/graph", {}, { enabled: picture.data !== undefined || picture.error !== null });
  const around = useMemo(() => neighbours(picture.data ?? { nodes: [], edges: [], assets: 0, columns: 0, rows: 0 }), [picture.data]);
  const [chosen, setChosen] = useState({ asset, at: asset }); // the chosen node, an asset or a cluster, until the address names another
  const at = chosen.asset === asset ? chosen.at : asset;
  const node = picture.data?.nodes.find((one) => one.id === at);

  const open = (one: PictureNode) => {
    if (!isCluster(one)) void navigate({ to: "/assets/$asset", params: { asset: one.id } });
    else if (opened.length < OPENED_MAX) set({ opened: [...opened, one.id] });
  };
  const jump = (id: string) => {
    if (picture.data?.nodes.some((one) => one.id === id)) set({ asset: id, to: undefined });
    else set({ asset: id, to: undefined, up: up ?? "1", down: down ?? "1", kind: undefined, owner: undefined, tag: undefined, state: undefined, opened: undefined });
  };
  const choose = (id: string) => {
    setChosen({ asset, at: id });
    // the address names it, but where it says around what the picture is
    if (!near && !to && (id === "" || picture.data?.nodes.some((one) => one.id === id && one.kind))) set({ asset: id });
  };

  const nodes = graph.data?.assets ?? [];
  const filters: ["kind" | "owner" | "tag" | "state", string[]][] = [
    ["kind", choices(nodes.map((one) => one.kind))],
    ["owner", choices(nodes.map((one) => one.owner))],
    ["tag", choices(nodes.flatMap((one) => one.tags))],
    ["state", STATES],
  ];
  const none = picture.error instanceof ApiError && ["SX-PLAN-008", "SX-PLAN-011"].includes(picture.error.code);
  const line = command("graph", ...selected, asset && to && "--to", asset && to);

  return (
    <div className="sx-page sx-fill sx-graph-page">
      <Head
        title="Graph"
        actions={
          <div className="sx-switch" role="group" aria-label="Show as">
            {(asset ? VIEWS : VIEWS.slice(0, 2)).map((one) => (
              <Button
                key={one}
                size="compact-sm"
                variant={view === one ? "filled" : "default"}
                aria-pressed={view === one}
                leftSection={ICONS[one]}
                onClick={() => set({ view: one === "picture" ? undefined : one, column: undefined })}
              >
                {one.charAt(0).toUpperCase() + one.slice(1)}
              </Button>
            ))}
          </div>
        }
      >
        {picture.data && <span>{plural(picture.data.assets, "asset")}, causes on the left</span>}
        {near && <span>around {nameOf(asset)}</span>}
        {to && <span>from {nameOf(asset)} to {nameOf(to)}</span>}
      </Head>
      <div className="sx-graph-tools">
        <FindAsset label="Find an asset" onFound={jump} />
        {filters.map(([name, values]) =>
          values.length > 1 || search[name] ? (
            <NativeSelect
              key={name}
              size="xs"
              aria-label={`Only of ${name}`}
              disabled={Boolean(asset && to) && name !== "state"}
              data={[{ value: "", label: `Any ${name}` }, ...(search[name] && !values.includes(search[name]) ? [search[name], ...values] : values)]}
              value={search[name] ?? ""}
              onChange={(event) => set({ [name]: event.currentTarget.value })}
            />
          ) : null,
        )}
        {picture.data?.nodes.some(isCluster) && (
          <NativeSelect
            size="xs"
            aria-label="Clusters by"
            data={GROUPS.map((one) => ({ value: one, label: `Clusters by ${one}` }))}
            value={search.group ?? "owner"}
            onChange={(event) => set({ group: event.currentTarget.value, opened: undefined })}
          />
        )}
        {(search.kind || search.owner || search.tag || search.state || near || to) && (
          <Button size="compact-sm" variant="default" leftSection={<IconX size={14} />} onClick={() => set({ kind: undefined, owner: undefined, tag: undefined, state: undefined, up: undefined, down: undefined, to: undefined })}>
            Show all
          </Button>
        )}
        {opened.length > 0 && (
          <span className="sx-opened">
            {opened.map((one) => (
              <Button key={one} size="compact-xs" variant="default" rightSection={<IconX size={12} />} aria-label={`Close the cluster ${one}`} onClick={() => set({ opened: opened.filter((id) => id !== one && !id.startsWith(`${one}/`)) })}>
                <bdi>{one}</bdi>
              </Button>
            ))}
          </span>
        )}
      </div>
      {view === "columns" && asset ? (
        <ColumnPath asset={asset} column={search.column ?? ""} env={env} choose={(id, column) => set({ asset: id, column })} />
      ) : none ? (
        <Empty title={picture.error instanceof ApiError ? picture.error.message : ""} lines={line}>
          Other filters above show more.
        </Empty>
      ) : (
        <Shown query={picture}>
          {(data) =>
            !data.nodes.length ? (
              <Empty title={graph.data?.assets.length === 0 ? "The project declares no assets yet." : "No asset passes these filters."} lines={graph.data?.assets.length === 0 ? "sextant plan\nsextant run" : undefined} />
            ) : view === "table" ? (
              <NodeTable data={data} around={around} onOpen={open} />
            ) : (
              <div className="sx-graph-body">
                <ReactFlowProvider>
                  <Canvas data={data} around={around} at={at} onChoose={choose} onOpen={open} />
                </ReactFlowProvider>
                <aside className="sx-graph-side" aria-label="What is chosen">
                  {node ? (
                    <Chosen node={node} around={around} onOpen={() => open(node)} near={near} up={up ?? "1"} down={down ?? "1"} to={to} set={(changes) => set({ asset: node.id, ...changes })} />
                  ) : (
                    <Legend data={data} />
                  )}
                  <details className="sx-cli">
                    <summary>The same on the command line</summary>
                    <Lines text={line} />
                  </details>
                </aside>
              </div>
            )
          }
        </Shown>
      )}
    </div>
  );
}

function choices(values: string[]): string[] {
  return [...new Set(values)].filter(Boolean).toSorted();
}

const AssetNode = memo(function AssetNode({ data: { node, mark } }: NodeProps<FlowNode>) {
  const [kind, name] = titleOf(node);
  return (
    <div className={`sx-node sx-node-${toneOf(node.state)} ${isCluster(node) ? "sx-node-many" : ""} ${mark}`} title={node.id}>
      <Handle type="target" position={Position.Left} isConnectable={false} />
      <div>
        <span className="sx-node-kind">
          {kind}
          {isCluster(node) ? ` · ${plural(node.count, "asset")}` : node.owner && ` · ${node.owner}`}
        </span>
        <State state={node.state || "missing"} />
      </div>
      <bdi>{name}</bdi>
      <Handle type="source" position={Position.Right} isConnectable={false} />
    </div>
  );
});

const TYPES = { asset: AssetNode };

function Canvas({
  data,
  around,
  at,
  onChoose,
  onOpen,
}: {
  data: Picture;
  around: ReturnType<typeof neighbours>;
  at: string;
  onChoose: (id: string) => void;
  onOpen: (node: PictureNode) => void;
}) {
  const flow = useReactFlow<FlowNode>();
  const frame = useRef<HTMLDivElement>(null);
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const chosen = data.nodes.find((one) => one.id === at);
  const places = useMemo(() => drawn(data), [data]);
  const many = data.edges.length > MANY * data.nodes.length;
  const [above, below] = useMemo(() => {
    // where nearly everything reaches everything, as clusters do, only who stands next is brought out
    const of = (next: Map<string, PictureNode[]>) => (many ? new Set((next.get(at) ?? []).map((one) => one.id)) : reached(at, next));
    return [of(around.in), of(around.out)];
  }, [at, around, many]);

  const nodes = useMemo<FlowNode[]>(
    () =>
      data.nodes.map((node) => ({
        id: node.id,
        type: "asset",
        position: places.get(node.id) ?? { x: 0, y: 0 },
        width: WIDTH,
        height: HEIGHT,
        measured: { width: WIDTH, height: HEIGHT }, // also of what is out of sight and so never drawn
        handles: HANDLES,
        zIndex: 2, // above the edges, also those that are brought out
        data: {
          node,
          mark: !chosen ? "" : node.id === at ? "sx-node-at" : below.has(node.id) ? "sx-node-below" : above.has(node.id) ? "sx-node-above" : "sx-node-apart",
        },
      })),
    [data.nodes, places, chosen, at, above, below],
  );
  const edges = useMemo<Edge[]>(
    () =>
      data.edges.map((edge) => {
        const isBelow = below.has(edge.target) && (edge.source === at || (!many && below.has(edge.source)));
        const isAbove = above.has(edge.source) && (edge.target === at || (!many && above.has(edge.target)));
        return {
          id: `${edge.source} ${edge.target}`,
          source: edge.source,
          target: edge.target,
          className: !chosen ? (many ? "sx-edge-faint" : "") : isBelow ? "sx-edge-below" : isAbove ? "sx-edge-above" : "sx-edge-apart",
          label: edge.count > 1 && !many ? count(edge.count) : undefined,
          zIndex: isBelow || isAbove ? 1 : 0,
        };
      }),
    [data.edges, many, chosen, at, above, below],
  );

  const centre = (node: PictureNode) => {
    const { x, y } = places.get(node.id) ?? { x: 0, y: 0 };
    void flow.setCenter(x + WIDTH / 2, y + HEIGHT / 2, { zoom: Math.max(0.7, Math.min(1, flow.getZoom())), duration: calm ? 0 : 180 });
  };
  const shape = useMemo(() => data.nodes.map((one) => `${one.id} ${one.column} ${one.row}`).join("\n"), [data.nodes]);
  const fitted = useRef("");
  const moved = useRef(false); // by hand: then it stays so when the frame gets another size
  const [width, height] = [useStore((state) => state.width), useStore((state) => state.height)];
  useEffect(() => {
    if (!width || !height || (fitted.current === shape && moved.current)) return;
    const isFirst = fitted.current === "";
    moved.current = moved.current && fitted.current === shape;
    fitted.current = shape;
    // another picture: all of it, or what is chosen where all of it is too small to read
    void flow.fitView({ padding: 0.06, maxZoom: 1, duration: isFirst || calm ? 0 : 180 }).then(() => {
      const node = data.nodes.find((one) => one.id === at);
      if (node && flow.getZoom() < 0.5) centre(node);
    });
    // only where the shape or the frame is another
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [shape, width, height]);

  const go = (node: PictureNode | undefined) => {
    if (!node) return;
    onChoose(node.id);
    centre(node);
  };
  const press = (event: KeyboardEvent) => {
    if (event.target !== frame.current || event.altKey || event.ctrlKey || event.metaKey) return;
    const column = data.nodes.filter((one) => one.column === chosen?.column).toSorted((a, b) => a.row - b.row);
    const here = column.findIndex((one) => one.id === at);
    const moves: Record<string, () => void> = {
      ArrowRight: () => go(around.out.get(at)?.[0]),
      ArrowLeft: () => go(around.in.get(at)?.[0]),
      ArrowDown: () => go(column[here + 1]),
      ArrowUp: () => go(column[here - 1]),
      Enter: () => chosen && onOpen(chosen),
      Escape: () => onChoose(""),
      "+": () => void flow.zoomIn(),
      "-": () => void flow.zoomOut(),
      "0": () => void flow.fitView({ padding: 0.08, maxZoom: 1 }),
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    if (!chosen && event.key.startsWith("Arrow")) go(data.nodes.toSorted((a, b) => a.column - b.column || a.row - b.row)[0]);
    else move();
  };

  return (
    // a picture that is walked through by keyboard; what is chosen is said in the status below
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-element-interactions, jsx-a11y/no-noninteractive-tabindex
    <div ref={frame} className="sx-graph" role="application" aria-label="Picture of the graph: arrows walk along the edges, Enter opens, + and - zoom, 0 shows all" tabIndex={0} onKeyDown={press}>
      <ReactFlow
        nodes={nodes}
        edges={edges}
        nodeTypes={TYPES}
        onlyRenderVisibleElements
        nodesDraggable={false}
        nodesConnectable={false}
        nodesFocusable={false}
        edgesFocusable={false}
        elementsSelectable={false}
        disableKeyboardA11y
        minZoom={0.04}
        maxZoom={1.6}
        zoomOnDoubleClick={false}
        proOptions={{ hideAttribution: true }}
        onMoveStart={(event) => {
          if (event) moved.current = true;
        }}
        onNodeClick={(_, one) => onChoose(one.id)}
        onNodeDoubleClick={(_, one) => onOpen(one.data.node)}
        onPaneClick={() => onChoose("")}
      >
        <Controls showInteractive={false} position="bottom-left" />
      </ReactFlow>
      <p className="sx-hidden" role="status">
        {chosen &&
          `${nameOf(chosen.id) || chosen.name}, ${titleOf(chosen)[0]}, ${chosen.state}; made from ${around.in.get(at)?.length ?? 0}, read by ${around.out.get(at)?.length ?? 0}`}
      </p>
    </div>
  );
}

function Legend({ data }: { data: Picture }) {
  const states = new Map<string, number>();
  for (const node of data.nodes)
    for (const [state, n] of Object.entries(isCluster(node) ? node.states : { [node.state]: 1 })) states.set(state, (states.get(state) ?? 0) + n);
  return (
    <Card title="How they stand">
      <ul className="sx-legend">
        {STATES.filter((one) => states.get(one)).map((one) => (
          <li key={one}>
            <State state={one} /> <span>{count(states.get(one))}</span>
          </li>
        ))}
      </ul>
      <p className="sx-dim">Choose a node to see what it reaches. Arrows walk along the edges, Enter opens.</p>
    </Card>
  );
}

function Chosen({
  node,
  around,
  onOpen,
  near,
  up,
  down,
  to,
  set,
}: {
  node: PictureNode;
  around: ReturnType<typeof neighbours>;
  onOpen: () => void;
  near: boolean;
  up: string;
  down: string;
  to: string;
  set: (changes: { up?: string; down?: string; to?: string }) => void;
}) {
  const [kind, name] = titleOf(node);
  const cluster = isCluster(node);
  const far = (way: "up" | "down", value: string) => (
    <NativeSelect
      size="xs"
      aria-label={way === "up" ? "How far up" : "How far down"}
      data={FAR.map((one) => ({ value: one, label: one === "0" ? `nothing ${way}` : one === "all" ? `all ${way}` : `${one} ${way}` }))}
      value={value}
      onChange={(event) => set({ up, down, to: undefined, [way]: event.currentTarget.value })}
    />
  );
  return (
    <>
      <section className="sx-card" aria-label="chosen">
        <h2>
          <span className="sx-kind">{kind}</span>
          <bdi>{name}</bdi>
        </h2>
        <Facts
          facts={[
            ["State", <State key="state" state={node.state} />],
            ...(cluster
              ? ([["Assets", count(node.count)], ...Object.entries(node.states).map(([state, n]) => [state, count(n)])] as [string, string][])
              : ([
                  ["Owner", node.owner],
                  ["Tier", node.tier],
                ] as [string, string | number][])),
            ["Made from", count(around.in.get(node.id)?.length ?? 0)],
            ["Read by", count(around.out.get(node.id)?.length ?? 0)],
          ]}
        />
        <div className="sx-actions">
          <Button size="compact-sm" variant="filled" leftSection={<IconArrowsMaximize size={14} />} onClick={onOpen}>
            {cluster ? "Open the cluster" : "Open the asset"}
          </Button>
        </div>
      </section>
      {!cluster && (
        <>
          <section className="sx-card" aria-label="neighbourhood">
            <h2>Neighbourhood</h2>
            <div className="sx-near">
              {far("up", near ? up : "1")}
              {far("down", near ? down : "1")}
              {near && !to ? (
                <ActionIcon variant="default" aria-label="Show the whole graph" title="Show the whole graph" onClick={() => set({ up: undefined, down: undefined, to: undefined })}>
                  <IconX size={14} />
                </ActionIcon>
              ) : (
                <ActionIcon variant="default" aria-label="Show only its neighbourhood" title="Show only its neighbourhood" onClick={() => set({ up, down, to: undefined })}>
                  <IconFocus2 size={15} />
                </ActionIcon>
              )}
            </div>
            <FindAsset label={to ? `Path to ${nameOf(to)}` : "Path to another asset"} icon={<IconRoute size={14} />} onFound={(other) => set({ to: other, up: undefined, down: undefined })} />
          </section>
          <Blast id={node.id} />
        </>
      )}
    </>
  );
}

/** What a change of an asset reaches. */
function Blast({ id }: { id: string }) {
  const below = ask.useQuery("get", "/api/v1/graph", { params: { query: { assets: [`${id}+`] } } });
  return (
    <section className="sx-card" aria-label="blast radius">
      <h2>What a change of it reaches</h2>
      <Shown query={below}>
        {(found) => {
          const others = found.assets.filter((one) => one.id !== id);
          const by = (of: (one: (typeof others)[number]) => string) => {
            const counted = new Map<string, number>();
            for (const one of others) counted.set(of(one), (counted.get(of(one)) ?? 0) + 1);
            const most = [...counted].toSorted((a, b) => b[1] - a[1]);
            const rest = most.length - BY_SHOWN;
            return most.slice(0, BY_SHOWN).map(([name, n]) => `${name} ${count(n)}`).join(", ") + (rest > 0 ? ` and ${plural(rest, "more", "more")}` : "");
          };
          const first = others.filter((one) => one.tier === 1);
          if (!others.length) return <p className="sx-dim">Nothing reads it.</p>;
          return (
            <>
              <p>
                <strong>{plural(others.length, "asset")}</strong>
                {first.length > 0 && `, ${count(first.length)} of tier 1`}
              </p>
              <Facts
                facts={[
                  ["By kind", by((one) => one.kind)],
                  ["By owner", by((one) => one.owner || "nobody")],
                ]}
              />
              {first.length > 0 && (
                <ul className="sx-lineage">
                  {first.slice(0, 8).map((one) => (
                    <li key={one.id}>
                      <AssetLink id={one.id} />
                    </li>
                  ))}
                </ul>
              )}
            </>
          );
        }}
      </Shown>
    </section>
  );
}

function NodeTable({ data, around, onOpen }: { data: Picture; around: ReturnType<typeof neighbours>; onOpen: (node: PictureNode) => void }) {
  const columns = useMemo<Column<PictureNode>[]>(
    () => [
      {
        id: "name",
        header: "Asset",
        value: (one) => titleOf(one)[1],
        cell: (one) => (isCluster(one) ? <bdi title={one.id}>{titleOf(one)[1]}</bdi> : <AssetLink id={one.id} kind={false} />),
        width: "minmax(11rem, 2fr)",
        phone: true,
      },
      { id: "kind", header: "Kind", value: (one) => (isCluster(one) ? `cluster by ${titleOf(one)[0]}` : one.kind), width: "minmax(7rem, 1fr)" },
      { id: "state", header: "State", value: (one) => one.state, cell: (one) => <State state={one.state} />, width: "7rem", phone: true },
      { id: "owner", header: "Owner", value: (one) => one.owner, width: "minmax(6rem, 1fr)" },
      { id: "tier", header: "Tier", value: (one) => one.tier, width: "4rem", right: true },
      { id: "assets", header: "Assets", value: (one) => one.count, cell: (one) => count(one.count), width: "5rem", right: true, hidden: !data.nodes.some(isCluster) },
      { id: "from", header: "Made from", value: (one) => around.in.get(one.id)?.length ?? 0, width: "6rem", right: true },
      { id: "by", header: "Read by", value: (one) => around.out.get(one.id)?.length ?? 0, width: "6rem", right: true },
      {
        id: "graph",
        header: "Around it",
        value: () => "",
        cell: (one) =>
          isCluster(one) ? null : (
            <Link to="/graph" search={{ asset: one.id, up: "2", down: "2" }}>
              in the graph
            </Link>
          ),
        width: "7rem",
      },
    ],
    [around, data.nodes],
  );
  return <DataTable id="graph" label="graph" rows={data.nodes} columns={columns} rowId={(one) => one.id} onOpen={onOpen} empty={null} />;
}
