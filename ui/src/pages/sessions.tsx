// Browsers that are signed in: one's own, or for an administrator everybody's.
import { IconLogout } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useMemo } from "react";
import { api, ask, type Schemas } from "../api/client";
import { useSession } from "../frame/session";
import { Action } from "../parts/action";
import { command } from "../parts/command";
import { Head, short } from "../parts/links";
import { Empty, Shown } from "../parts/problem";
import { type Column, DataTable } from "../parts/table";
import { instant, Time } from "../parts/time";

type SessionRow = Schemas["SessionSeen"];

export default function Sessions() {
  const { role } = useSession();
  const queries = useQueryClient();
  const sessions = ask.useQuery("get", "/api/v1/sessions");
  const columns = useMemo<Column<SessionRow>[]>(
    () => [
      { id: "session", header: "Session", value: (one) => one.id, cell: (one) => <code title={one.id}>{short(one.id)}</code>, width: "8rem" },
      { id: "person", header: "Person", value: (one) => one.person, width: "minmax(7rem, 1fr)", phone: true },
      { id: "role", header: "Role", value: (one) => one.role, width: "6rem" },
      { id: "how", header: "Signed in by", value: (one) => one.how, width: "7rem", phone: true },
      { id: "since", header: "Since", value: (one) => instant(one.created_at), cell: (one) => <Time at={one.created_at} />, width: "minmax(11rem, 1fr)" },
      { id: "until", header: "Until", value: (one) => instant(one.expires_at), cell: (one) => <Time at={one.expires_at} />, width: "minmax(11rem, 1fr)" },
      {
        id: "act",
        header: "",
        value: () => "",
        cell: (one) => (
          <Action
            spec={{
              label: "Sign out",
              icon: <IconLogout size={15} />,
              role: "viewer",
              danger: true,
              title: `Sign out ${one.person}`,
              says: "This browser can do nothing more until somebody signs in again. If it is yours, you see the sign-in next.",
              command: () => command("session", "revoke", one.id),
              act: () => api.DELETE("/api/v1/sessions/{session}", { params: { path: { session: one.id } } }),
              done: () => void queries.invalidateQueries(),
            }}
          />
        ),
        width: "8rem",
        right: true,
        phone: true,
      },
    ],
    [queries],
  );
  return (
    <div className="sx-page sx-fill">
      <Head title="Sessions">
        <span>{role === "admin" ? "Browsers that are signed in, of everybody." : "Browsers in which you are signed in."} Tokens of programs are not among them.</span>
      </Head>
      <Shown query={sessions}>
        {(rows) => <DataTable id="sessions" label="sessions" rows={rows} columns={columns} rowId={(one) => one.id} empty={<Empty title="Nobody is signed in." />} />}
      </Shown>
    </div>
  );
}
