// What a column is made of and what reads it, one step away, as links to its way through the graph.
import { Link } from "@tanstack/react-router";
import type { Schemas } from "../api/client";
import { nameOf } from "./format";

type Seen = Schemas["ColumnsSeen"];

const LINKS_SHOWN = 3;

function Ends({ edges, end }: { edges: Schemas["ColumnEdge"][]; end: "source" | "target" }) {
  return (
    <>
      {edges.slice(0, LINKS_SHOWN).map((edge) => (
        <Link
          key={`${edge[end]}.${edge[`${end}_column`]}`}
          to="/graph"
          search={{ asset: edge[end], ...(edge[`${end}_column`] ? { column: edge[`${end}_column`] } : {}), view: "columns" }}
          title={edge[end]}
        >
          <bdi>{nameOf(edge[end]) + (edge[`${end}_column`] && `.${edge[`${end}_column`]}`)}</bdi>
        </Link>
      ))}
      {edges.length > LINKS_SHOWN && <span>and {edges.length - LINKS_SHOWN} more</span>}
    </>
  );
}

/** What one column is made of, one step away, and the way to all of it. */
export function MadeOf({ data, column }: { data: Seen | undefined; column: string }) {
  if (!data) return null;
  const made = data.edges.filter((edge) => edge.target === data.asset && (edge.target_column === column || edge.kind === "whole"));
  return (
    <span className="sx-ends">
      <Link to="/graph" search={{ asset: data.asset, column, view: "columns" }} aria-label={`The way of ${column}`}>
        way
      </Link>
      <Ends edges={made} end="source" />
    </span>
  );
}

/** What stands on one column, one step away. */
export function ReadBy({ data, column }: { data: Seen | undefined; column: string }) {
  if (!data) return null;
  return (
    <span className="sx-ends">
      <Ends edges={data.edges.filter((edge) => edge.source === data.asset && edge.source_column === column)} end="target" />
    </span>
  );
}
