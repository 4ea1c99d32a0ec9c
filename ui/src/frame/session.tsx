// Who is signed in. Without a session the sign-in stands in place of everything, at the address where one was.
import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useRef, useState } from "react";
import { ApiError, api, type SignedIn, carrySession } from "../api/client";
import { Problem } from "../parts/problem";
import { Lines } from "../parts/command";

const ROLES = ["viewer", "operator", "admin"];

interface Session extends SignedIn {
  signOut: () => Promise<void>;
  may: (role: "viewer" | "operator" | "admin") => boolean;
}

const Current = createContext<Session | null>(null);

/** The session; only below `SessionGate`. */
export function useSession(): Session {
  const session = useContext(Current);
  if (!session) throw new Error("there is no session");
  return session;
}

/** Takes the secret of a sign-in link out of the address, so that neither history nor a copy of it has it. */
function linkOf(location: Location): string {
  const found = /^#signin=([\w-]+)$/.exec(location.hash);
  if (!found) return "";
  window.history.replaceState(window.history.state, "", location.pathname + location.search);
  return found[1] ?? "";
}

const link = linkOf(window.location);

type State = { at: "asking" } | { at: "out"; why: "" | "ended" | Error } | { at: "in"; session: SignedIn };

let first: Promise<State> | undefined;

/** Asks once who is signed in, or follows the link: also where React mounts twice. */
function begin(): Promise<State> {
  first ??= (async (): Promise<State> => {
    try {
      const answer = link
        ? await api.POST("/api/v1/session/link", { body: { link } })
        : await api.GET("/api/v1/session");
      return answer.data ? { at: "in", session: answer.data } : { at: "out", why: "" };
    } catch (error) {
      const nobody = error instanceof ApiError && error.status === 401 && !link;
      return { at: "out", why: nobody ? "" : (error as Error) };
    }
  })();
  return first;
}

export function SessionGate({ children }: { children: ReactNode }) {
  const [state, setState] = useState<State>({ at: "asking" });
  const queries = useQueryClient();
  const person = useRef(""); // who was signed in last, to tell whether what is kept is another's

  const enter = useCallback(
    (session: SignedIn) => {
      const name = `${session.name.replace(/^person:/, "")} ${session.role}`;
      if (person.current && person.current !== name) queries.clear(); // what one person may see is not another's
      else void queries.invalidateQueries();
      person.current = name;
      carrySession(session.csrf, () => setState({ at: "out", why: "ended" }));
      setState({ at: "in", session });
    },
    [queries],
  );

  useEffect(() => {
    let gone = false;
    void begin().then((found) => {
      if (gone) return;
      if (found.at === "in") enter(found.session);
      else setState(found);
    });
    return () => {
      gone = true;
    };
  }, [enter]);

  const signOut = useCallback(async () => {
    await api.DELETE("/api/v1/session");
    person.current = "";
    queries.clear();
    setState({ at: "out", why: "" });
  }, [queries]);

  const value = useMemo<Session | null>(() => {
    if (state.at !== "in") return null;
    const { session } = state;
    return {
      ...session,
      name: session.name.replace(/^person:/, ""),
      may: (role) => ROLES.indexOf(session.role) >= ROLES.indexOf(role),
      signOut,
    };
  }, [state, signOut]);

  if (state.at === "asking") return <div className="sx-blank" />;
  // `enter` reads it when somebody signs in, not now
  // oxlint-disable-next-line react/refs
  if (!value) return <SignIn why={state.at === "out" ? state.why : ""} onEnter={enter} />;
  return <Current value={value}>{children}</Current>;
}

function SignIn({ why, onEnter }: { why: "" | "ended" | Error; onEnter: (session: SignedIn) => void }) {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [error, setError] = useState<Error | null>(why instanceof Error ? why : null);
  const [busy, setBusy] = useState(false);

  const sent = useRef(false); // the button may be pressed twice before it is drawn anew

  const submit = async () => {
    if (sent.current) return;
    sent.current = true;
    setBusy(true);
    setError(null);
    try {
      const { data } = await api.POST("/api/v1/session", { body: { name, password } });
      if (data) onEnter(data);
    } catch (failed) {
      setError(failed as Error);
    } finally {
      sent.current = false;
      setBusy(false);
    }
  };

  return (
    <main className="sx-signin">
      <form
        className="sx-card"
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <h1>
          <Logo /> Sextant
        </h1>
        {why === "ended" && <p role="status">The session has ended. Sign in to go on where you were.</p>}
        {error && <Problem error={error} />}
        <TextInput
          label="Name"
          name="username"
          autoComplete="username"
          autoFocus
          required
          withAsterisk={false}
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <PasswordInput
          label="Password"
          name="password"
          autoComplete="current-password"
          required
          withAsterisk={false}
          value={password}
          onChange={(event) => setPassword(event.currentTarget.value)}
        />
        <Button type="submit" loading={busy} fullWidth>
          Sign in
        </Button>
        <details>
          <summary>No account yet?</summary>
          <p>An administrator makes one, in the project's folder:</p>
          <Lines text="sextant account create NAME --role operator" />
          <p>Who starts the server on a terminal gets a link that signs in once:</p>
          <Lines text="sextant up" />
        </details>
      </form>
    </main>
  );
}

export function Logo() {
  return (
    <svg className="sx-logo" viewBox="0 0 32 32" aria-hidden="true">
      <g fill="none" stroke="currentColor" strokeWidth="2.6" strokeLinecap="round" strokeLinejoin="round">
        <path d="M16 4 6 22h20z" />
        <path d="M16 4v21" />
        <path d="M7 26c5.500 2.300 12.500 2.300 18 0" />
      </g>
    </svg>
  );
}
