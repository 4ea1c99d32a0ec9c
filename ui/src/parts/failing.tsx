// The rows that a failed check kept as evidence, with personal columns masked by the server.
import { ask } from "../api/client";
import type { Check } from "../api/shapes";
import { count, nameOf, plural } from "./format";
import { Shown } from "./problem";

const CHECKS_MAX = 10;

/** The rows of failed checks, each below the name of its check. */
export function FailingRows({ checks }: { checks: Check[] }) {
  const failed = checks.filter((one) => !one.ok && one.samples);
  return (
    <>
      {failed.slice(0, CHECKS_MAX).map((one) => (
        <Rows key={`${one.asset} ${one.partition ?? ""} ${one.name}`} check={one} />
      ))}
      {failed.length > CHECKS_MAX && <p className="sx-dim">and the rows of {count(failed.length - CHECKS_MAX)} more checks</p>}
    </>
  );
}

function Rows({ check }: { check: Check }) {
  const found = ask.useQuery("get", "/api/v1/assets/{asset}/failing-rows", { params: { path: { asset: check.asset }, query: { sample: check.samples ?? "" } } }, { retry: false });
  return (
    <section aria-label={`failing rows of ${check.name}`}>
      <h3>
        <bdi>{check.name}</bdi> <span className="sx-dim">of {nameOf(check.asset)}{check.partition ? ` ${check.partition}` : ""}: {plural(check.failed ?? 0, "failing row")}</span>
      </h3>
      <Shown query={found}>
        {({ positions, ...found }) => {
          const rows = found.rows as Record<string, unknown>[];
          const columns = Object.keys(rows[0] ?? {});
          return (
            // a wide table scrolls, also by keyboard
            // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex
            <div className="sx-failing" tabIndex={0} role="group" aria-label={`rows of ${check.name}`}>
              <table>
                <thead>
                  <tr>
                    {positions.length > 0 && <th scope="col">row</th>}
                    {columns.map((one) => (
                      <th key={one} scope="col">
                        <bdi>{one}</bdi>
                      </th>
                    ))}
                  </tr>
                </thead>
                <tbody>
                  {rows.map((row, n) => (
                    // rows have no names of their own
                    // oxlint-disable-next-line react/no-array-index-key
                    <tr key={n}>
                      {positions.length > 0 && <td className="sx-dim">{count(positions[n])}</td>}
                      {columns.map((one) => (
                        <td key={one}>
                          <bdi>{row[one] === null ? "null" : typeof row[one] === "object" ? JSON.stringify(row[one]) : String(row[one])}</bdi>
                        </td>
                      ))}
                    </tr>
                  ))}
                </tbody>
              </table>
              {(check.failed ?? 0) > rows.length && <p className="sx-dim">the first {count(rows.length)} of {count(check.failed ?? 0)}</p>}
            </div>
          );
        }}
      </Shown>
    </section>
  );
}
