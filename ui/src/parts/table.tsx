// The one table: filtered, sorted, columns chosen, copied as CSV, and only what is in sight is drawn. What was chosen
// is remembered for each view. By keyboard: arrows move, Enter opens, Home and End jump.
import { ActionIcon, Button, Menu, TextInput } from "@mantine/core";
import { useMediaQuery } from "@mantine/hooks";
import { IconArrowDown, IconArrowUp, IconColumns3, IconCopy, IconSearch, IconX } from "@tabler/icons-react";
import {
  columnFilteringFeature,
  columnVisibilityFeature,
  createFilteredRowModel,
  createSortedRowModel,
  globalFilteringFeature,
  rowSortingFeature,
  tableFeatures,
  useTable,
} from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useId, useMemo, useRef, useState } from "react";
import { useKept } from "../frame/kept";
import { copy } from "./command";
import { count } from "./format";

type Value = string | number;

export interface Column<T> {
  id: string;
  header: string;
  value: (row: T) => Value; // sorts, is filtered by, and goes into the CSV
  cell?: (row: T) => ReactNode;
  width: string; // of the grid: `12rem`, `minmax(10rem, 2fr)`
  right?: boolean;
  hidden?: boolean; // unless chosen
  phone?: boolean; // also on a narrow screen
}

interface Kept {
  columns: Record<string, boolean>;
  sort: { id: string; desc: boolean }[];
}

const ROW_PX = 34;
const features = tableFeatures({
  columnFilteringFeature,
  globalFilteringFeature,
  columnVisibilityFeature,
  rowSortingFeature,
  filteredRowModel: createFilteredRowModel(),
  sortedRowModel: createSortedRowModel(),
});

/** A field of CSV. Text that a spreadsheet would take for a formula is marked as text. */
function field(value: Value): string {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function DataTable<T>({
  id,
  label,
  rows,
  columns,
  rowId,
  onOpen,
  empty,
  filter: given,
  onFilter,
  tools,
  compact = false,
}: {
  id: string;
  label: string;
  rows: readonly T[];
  columns: readonly Column<T>[];
  rowId: (row: T) => string;
  onOpen?: (row: T) => void;
  empty: ReactNode;
  filter?: string;
  onFilter?: (text: string) => void;
  tools?: ReactNode;
  compact?: boolean; // without a filter: a short table
}) {
  const [kept, keep] = useKept<Kept>(`table.${id}`, { columns: {}, sort: [] });
  const [own, setOwn] = useState("");
  const filter = given ?? own;
  const setFilter = onFilter ?? setOwn;
  const narrow = useMediaQuery("(max-width: 48em)") ?? false;
  const scroller = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState(-1);
  const [copied, setCopied] = useState(false);
  const base = useId();

  const visibility = useMemo(
    () =>
      Object.fromEntries(
        columns.map((one) => [one.id, kept.columns[one.id] ?? (narrow ? Boolean(one.phone) : !one.hidden)]),
      ),
    [columns, kept.columns, narrow],
  );
  const defined = useMemo(
    () =>
      columns.map((one) => ({
        id: one.id,
        header: one.header,
        accessorFn: (row: T) => one.value(row),
        sortDescFirst: false,
        sortFn: (a: { original: T }, b: { original: T }) => {
          const [left, right] = [one.value(a.original), one.value(b.original)];
          return typeof left === "number" && typeof right === "number"
            ? left - right
            : String(left).localeCompare(String(right), undefined, { numeric: true });
        },
      })),
    [columns],
  );
  const byId = useMemo(() => new Map(columns.map((one) => [one.id, one])), [columns]);
  const words = useMemo(() => filter.toLowerCase().split(/\s+/).filter(Boolean), [filter]);
  const wordsFilter = useMemo(() => {
    const shown = columns.filter((one) => visibility[one.id]);
    return (row: { original: T }) => {
      const text = shown.map((one) => String(one.value(row.original)).toLowerCase()).join("\n");
      return words.every((word) => text.includes(word));
    };
  }, [columns, visibility, words]);
  const data = useMemo(() => [...rows], [rows]);
  const table = useTable({
    features,
    data: data as never[],
    columns: defined as never[],
    getRowId: (row: T) => rowId(row),
    state: { columnVisibility: visibility, sorting: kept.sort, globalFilter: words.length ? words.join(" ") : "" },
    globalFilterFn: wordsFilter as never,
    getColumnCanGlobalFilter: (column: { id: string }) => column.id === columns[0]?.id,
  } as never) as unknown as {
    getRowModel: () => { rows: { id: string; original: T }[] };
  };
  const found = table.getRowModel().rows;
  const shown = columns.filter((one) => visibility[one.id]);
  const template = shown.map((one) => one.width).join(" ");
  // rows are as wide as their narrowest columns need, head and body alike; beyond that the table scrolls
  const minWidth = `${shown.reduce((all, one) => all + Number.parseFloat(/[\d.]+(?=rem)/.exec(one.width)?.[0] ?? "6"), 1)}rem`;

  const virtual = useVirtualizer({
    count: found.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_PX,
    overscan: 12,
    initialRect: { width: 800, height: 600 },
  });

  const sort = (column: string) => {
    const before = kept.sort[0];
    const next =
      before?.id !== column ? [{ id: column, desc: false }] : before.desc ? [] : [{ id: column, desc: true }];
    keep({ ...kept, sort: next });
  };

  const move = (to: number) => {
    const next = Math.max(0, Math.min(found.length - 1, to));
    setActive(next);
    virtual.scrollToIndex(next);
  };

  const press = (event: React.KeyboardEvent) => {
    if (event.target !== scroller.current) return;
    const page = Math.max(1, Math.floor((scroller.current?.clientHeight ?? 340) / ROW_PX) - 2);
    const to: Record<string, number> = {
      ArrowDown: active + 1,
      j: active + 1,
      ArrowUp: active - 1,
      k: active - 1,
      PageDown: active + page,
      PageUp: active - page,
      Home: 0,
      End: found.length - 1,
    };
    const target = to[event.key];
    if (target !== undefined && found.length) {
      event.preventDefault();
      move(target);
    } else if (event.key === "Enter") {
      const row = found[active];
      if (row && onOpen) onOpen(row.original);
    }
  };

  const csv = async () => {
    const lines = [shown.map((one) => field(one.header)).join(",")];
    for (const { original } of found) lines.push(shown.map((one) => field(one.value(original))).join(","));
    await copy(`${lines.join("\r\n")}\r\n`);
    setCopied(true);
    window.setTimeout(() => setCopied(false), 1500);
  };

  if (!rows.length) return <>{empty}</>;
  return (
    <section className={`sx-table ${compact ? "sx-compact" : ""}`} aria-label={label}>
      {!compact && (
        <div className="sx-tools">
          <TextInput
            size="xs"
            className="sx-filter"
            aria-label={`Filter ${label}`}
            placeholder="Filter"
            leftSection={<IconSearch size={14} />}
            rightSection={
              filter && (
                <ActionIcon variant="subtle" color="gray" size="sm" aria-label="Clear the filter" onClick={() => setFilter("")}>
                  <IconX size={14} />
                </ActionIcon>
              )
            }
            value={filter}
            onChange={(event) => setFilter(event.currentTarget.value)}
            data-filter
          />
          {tools}
          <span className="sx-count" role="status">
            {found.length === rows.length ? count(rows.length) : `${count(found.length)} of ${count(rows.length)}`}
          </span>
          <Menu position="bottom-end" closeOnItemClick={false}>
            <Menu.Target>
              <Button size="compact-sm" variant="default" leftSection={<IconColumns3 size={14} />}>
                Columns
              </Button>
            </Menu.Target>
            <Menu.Dropdown>
              {columns.map((one) => (
                <Menu.CheckboxItem
                  key={one.id}
                  checked={Boolean(visibility[one.id])}
                  onChange={(checked) => keep({ ...kept, columns: { ...kept.columns, [one.id]: checked } })}
                >
                  {one.header || "Actions"}
                </Menu.CheckboxItem>
              ))}
              <Menu.Divider />
              <Menu.Item onClick={() => keep({ columns: {}, sort: [] })}>Reset</Menu.Item>
            </Menu.Dropdown>
          </Menu>
          <Button size="compact-sm" variant="default" leftSection={<IconCopy size={14} />} onClick={() => void csv()}>
            {copied ? "Copied" : "CSV"}
          </Button>
        </div>
      )}
      {/* oxlint-disable-next-line jsx-a11y/interactive-supports-focus */}
      <div
        ref={scroller}
        className="sx-scroll"
        role="grid"
        aria-label={label}
        aria-rowcount={found.length + 1}
        aria-activedescendant={active >= 0 ? `${base}-${active}` : undefined}
        tabIndex={0}
        onKeyDown={press}
      >
        <div role="rowgroup" className="sx-thead" style={{ minWidth }}>
          <div role="row" aria-rowindex={1} className="sx-tr" style={{ gridTemplateColumns: template }}>
            {shown.map((one) => {
              const by = kept.sort[0]?.id === one.id ? kept.sort[0] : undefined;
              return (
                <div
                  key={one.id}
                  role="columnheader"
                  aria-sort={by ? (by.desc ? "descending" : "ascending") : "none"}
                  className={one.right ? "sx-right" : ""}
                >
                  <button type="button" tabIndex={-1} onClick={() => sort(one.id)} title={`Sort by ${one.header.toLowerCase()}`}>
                    {one.header}
                    {by && (by.desc ? <IconArrowDown size={12} /> : <IconArrowUp size={12} />)}
                  </button>
                </div>
              );
            })}
          </div>
        </div>
        <div role="rowgroup" className="sx-tbody" style={{ height: virtual.getTotalSize(), minWidth }}>
          {virtual.getVirtualItems().map((item) => {
            const row = found[item.index];
            if (!row) return null;
            return (
              // the grid itself takes the keys
              // oxlint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/interactive-supports-focus
              <div
                key={row.id}
                role="row"
                id={`${base}-${item.index}`}
                aria-rowindex={item.index + 2}
                aria-selected={item.index === active}
                className={`sx-tr ${onOpen ? "sx-opens" : ""}`}
                style={{ gridTemplateColumns: template, transform: `translateY(${item.start}px)` }}
                onClick={(event) => {
                  if (!onOpen || (event.target as HTMLElement).closest("a, button") || getSelection()?.toString()) return;
                  onOpen(row.original);
                }}
              >
                {shown.map((one) => (
                  <div key={one.id} role="gridcell" className={one.right ? "sx-right" : ""}>
                    {one.cell ? one.cell(row.original) : <span dir="auto">{String(byId.get(one.id)?.value(row.original) ?? "")}</span>}
                  </div>
                ))}
              </div>
            );
          })}
        </div>
        {!found.length && <div className="sx-none">Nothing passes the filter.</div>}
      </div>
    </section>
  );
}
