// Errors with the API's code, message and hint; what to do where there is nothing yet.
import { Button } from "@mantine/core";
import { IconAlertTriangle, IconRefresh } from "@tabler/icons-react";
import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { ApiError } from "../api/client";
import { Lines } from "./command";

/** `asked`: of an action, which the page does not repeat by itself. */
export function Problem({ error, retry, asked = false }: { error: Error; retry?: () => void; asked?: boolean }) {
  const known = error instanceof ApiError ? error : null;
  return (
    <div className="sx-problem" role="alert">
      <IconAlertTriangle size={18} aria-hidden="true" />
      <div>
        <strong dir="auto">{known ? known.message : "The server does not answer."}</strong>
        {known?.detail && <p dir="auto">{known.detail}</p>}
        <p dir="auto">
          {known ? known.hint : asked ? "Whether it was done is not known: look before you send it again." : "The page asks again by itself as soon as it does."}
          {known?.code && <span className="sx-dim"> ({known.code})</span>}
        </p>
        {retry && (
          <Button size="compact-sm" variant="default" leftSection={<IconRefresh size={14} />} onClick={retry}>
            Try again
          </Button>
        )}
      </div>
    </div>
  );
}

/** What stands where nothing is yet: a sentence, and the lines to paste that change that. */
export function Empty({ title, children, lines }: { title: string; children?: ReactNode; lines?: string }) {
  return (
    <div className="sx-empty">
      <strong>{title}</strong>
      {children && <p>{children}</p>}
      {lines && <Lines text={lines} />}
    </div>
  );
}

/** Shows a query's answer; while there is none, that it is on its way, or why there is none. */
export function Shown<T>({ query, children }: { query: UseQueryResult<T, unknown>; children: (data: T) => ReactNode }) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.error) return <Problem error={query.error as Error} retry={() => void query.refetch()} />;
  return (
    <div className="sx-loading" role="status" aria-label="loading">
      <i />
      <i />
      <i />
    </div>
  );
}
