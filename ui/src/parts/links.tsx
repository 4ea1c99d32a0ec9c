// Links to assets, runs and releases, and the columns of lists that several pages have.
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { kindOf, nameOf } from "./format";

export function AssetLink({ id, kind = true }: { id: string; kind?: boolean }) {
  return (
    <Link to="/assets/$asset" params={{ asset: id }} className="sx-asset" title={id}>
      {kind && <span className="sx-kind">{kindOf(id)}</span>}
      <bdi>{nameOf(id)}</bdi>
    </Link>
  );
}

export function RunLink({ id }: { id: string | undefined }) {
  if (!id) return <span className="sx-dim">-</span>;
  return (
    <Link to="/runs/$run" params={{ run: id }} className="sx-mono" title={id}>
      {short(id)}
    </Link>
  );
}

export function ReleaseLink({ id }: { id: string | undefined }) {
  if (!id) return <span className="sx-dim">-</span>;
  return (
    <Link to="/releases/$release" params={{ release: id }} className="sx-mono" title={id}>
      {short(id)}
    </Link>
  );
}

/** What an event is about: a run, a release or an asset as a link, anything else as text. */
export function Subject({ id }: { id: string }) {
  if (id.startsWith("run_")) return <RunLink id={id} />;
  if (id.startsWith("rel_")) return <ReleaseLink id={id} />;
  // of a version `orders@digest` the asset is the link
  if (/^[a-z][a-z0-9_]*:[^/]+$/.test(id)) return <AssetLink id={id.replace(/@[0-9a-f]{8,}$/, "")} />;
  return <bdi className="sx-dim">{id}</bdi>;
}

/** The end of an id: its beginning is the time, which neighbours share. */
export function short(id: string): string {
  return id.length > 16 ? `…${id.slice(-8)}` : id;
}

/** The head of a page: what it is, its facts in a line, and what can be done. */
export function Head({ title, kind, children, actions }: { title: ReactNode; kind?: string; children?: ReactNode; actions?: ReactNode }) {
  return (
    <header className="sx-head">
      <div>
        {kind && <span className="sx-kind">{kind}</span>}
        <h1>{title}</h1>
        {children && <div className="sx-facts-line">{children}</div>}
      </div>
      {actions && <div className="sx-actions">{actions}</div>}
    </header>
  );
}

/** Names and values, one below the other. */
export function Facts({ facts }: { facts: [string, ReactNode][] }) {
  return (
    <dl className="sx-facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value === "" || value === undefined || value === null ? <span className="sx-dim">-</span> : value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Card({ title, children, note }: { title: string; children: ReactNode; note?: ReactNode }) {
  return (
    <section className="sx-card" aria-label={title}>
      <h2>
        {title}
        {note && <span className="sx-note">{note}</span>}
      </h2>
      {children}
    </section>
  );
}
