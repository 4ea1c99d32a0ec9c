// The frame around every page: navigation, environment, search, who is signed in, and whether the server is there.
import { ActionIcon, Button, Kbd, Menu, NativeSelect } from "@mantine/core";
import {
  IconBox,
  IconBroadcast,
  IconBroadcastOff,
  IconChartLine,
  IconDeviceDesktop,
  IconDevices,
  IconKeyboard,
  IconLayoutDashboard,
  IconListCheck,
  IconLogout,
  IconMap,
  IconMoon,
  IconPlayerPlay,
  IconRocket,
  IconSearch,
  IconSitemap,
  IconSun,
  IconUser,
  IconWorld,
} from "@tabler/icons-react";
import { useIsFetching, useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useRouterState, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo, useRef, useState } from "react";
import { ask } from "../api/client";
import { follow, type Link as StreamLink } from "../api/stream";
import { ActionHost } from "../parts/action";
import { Dialog } from "../parts/dialog";
import { Time, useUtc, zoneName } from "../parts/time";
import { type Shortcut, useShortcuts } from "./keys";
import { Palette } from "./palette";
import { type Scheme, useScheme } from "./scheme";
import { Logo, useSession } from "./session";
import { Tour, useTour } from "./tour";

/** The pages of the navigation. A later page is a row here, a route in `routes.tsx`, and a line in `pages.json`. */
export const PAGES = [
  { to: "/", label: "Bridge", icon: IconLayoutDashboard, keys: "g b" },
  { to: "/kpis", label: "KPIs", icon: IconChartLine, keys: "g k" },
  { to: "/assets", label: "Assets", icon: IconBox, keys: "g a" },
  { to: "/graph", label: "Graph", icon: IconSitemap, keys: "g g" },
  { to: "/plan", label: "Plan", icon: IconListCheck, keys: "g p" },
  { to: "/runs", label: "Runs", icon: IconPlayerPlay, keys: "g r" },
  { to: "/releases", label: "Releases", icon: IconRocket, keys: "g l" },
  { to: "/sessions", label: "Sessions", icon: IconDevices, keys: "g s" },
] as const;

const SCHEMES = [
  ["system", "As the system", IconDeviceDesktop],
  ["light", "Light", IconSun],
  ["dark", "Dark", IconMoon],
] as const;

/** Returns the chosen environment: that of the address, else the project's. */
export function useEnv(): string {
  const { env } = useSearch({ from: "__root__" });
  const project = ask.useQuery("get", "/api/v1/project").data;
  return env ?? project?.environment ?? "";
}

export function Shell() {
  const session = useSession();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const [palette, setPalette] = useState(false);
  const [help, setHelp] = useState(false);
  const [link, setLink] = useState<StreamLink>("connecting");
  const [scheme, setScheme] = useScheme();
  const [utc, setUtc] = useUtc();
  const [, setTour] = useTour();
  const path = useRouterState({ select: (state) => state.location.pathname });

  useEffect(() => follow(queries, setLink), [queries]);

  const shortcuts = useMemo<Shortcut[]>(
    () => [
      { keys: "mod+k", does: "Search assets, pages and actions", run: () => setPalette(true) },
      { keys: "/", does: "Filter the table", run: () => document.querySelector<HTMLElement>("[data-filter]")?.focus() },
      ...PAGES.map(({ to, label, keys }) => ({ keys, does: `Go to ${label}`, run: () => void navigate({ to }) })),
      { keys: "g t", does: "Take the tour of five stops", run: () => setTour(1) },
      { keys: "t", does: "Focus the table", run: () => document.querySelector<HTMLElement>("[role=grid]")?.focus() },
      { keys: "u", does: "Times in UTC, or in my zone", run: () => setUtc(!utc) },
      { keys: "d", does: "Dark or light", run: () => setScheme(scheme === "dark" ? "light" : "dark") },
      { keys: "?", does: "Show these shortcuts", run: () => setHelp(true) },
    ],
    [navigate, scheme, setScheme, utc, setUtc, setTour],
  );
  useShortcuts(shortcuts);

  return (
    <ActionHost>
    <div className="sx-shell">
      <a className="sx-skip" href="#content">
        Skip to the content
      </a>
      <header className="sx-top">
        <Link to="/" className="sx-brand" aria-label="Sextant, to the start">
          <Logo />
          <span>Sextant</span>
        </Link>
        <Environment />
        <Button
          className="sx-search"
          size="compact-sm"
          variant="default"
          leftSection={<IconSearch size={15} />}
          rightSection={<Kbd size="xs">Ctrl K</Kbd>}
          aria-label="Search assets, pages and actions"
          onClick={() => setPalette(true)}
        >
          <span>Search</span>
        </Button>
        <span className="sx-grow" />
        <span
          className={`sx-live sx-${link}`}
          title={link === "live" ? "Changes appear by themselves" : "Changes do not appear until the server is back"}
        >
          {link === "live" ? <IconBroadcast size={15} aria-hidden="true" /> : <IconBroadcastOff size={15} aria-hidden="true" />}
          <span>{link === "live" ? "live" : link === "away" ? "away" : "connecting"}</span>
        </span>
        <Menu position="bottom-end" width={250}>
          <Menu.Target>
            <ActionIcon variant="subtle" color="gray" size="lg" aria-label={`${session.name}, ${session.role}: menu`}>
              <IconUser size={18} />
            </ActionIcon>
          </Menu.Target>
          <Menu.Dropdown>
            <div className="sx-me">
              <strong dir="auto">{session.name}</strong>
              <span>{session.role}</span>
            </div>
            <Menu.Divider />
            <Menu.RadioGroup value={scheme} onChange={(value) => setScheme(value as Scheme)}>
              {SCHEMES.map(([value, label, Icon]) => (
                <Menu.RadioItem key={value} value={value} rightSection={<Icon size={15} />}>
                  {label}
                </Menu.RadioItem>
              ))}
            </Menu.RadioGroup>
            <Menu.Divider />
            <Menu.Item leftSection={<IconWorld size={15} />} onClick={() => setUtc(!utc)}>
              Times in {utc ? `my zone, ${zoneName(false)}` : "UTC"}
            </Menu.Item>
            <Menu.Item leftSection={<IconKeyboard size={15} />} onClick={() => setHelp(true)}>
              Keyboard shortcuts
            </Menu.Item>
            <Menu.Item leftSection={<IconMap size={15} />} onClick={() => setTour(1)}>
              Tour
            </Menu.Item>
            <Menu.Divider />
            <Menu.Item leftSection={<IconLogout size={15} />} onClick={() => void session.signOut()}>
              Sign out
            </Menu.Item>
          </Menu.Dropdown>
        </Menu>
      </header>
      <nav className="sx-nav" aria-label="Pages">
        {PAGES.map(({ to, label, icon: Icon }) => (
          <Link
            key={to}
            to={to}
            className={path === to || (to !== "/" && path.startsWith(`${to}/`)) ? "sx-here" : ""}
            aria-current={path === to ? "page" : undefined}
          >
            <Icon size={17} aria-hidden="true" />
            {label}
          </Link>
        ))}
        <span className="sx-grow" />
        <button type="button" className="sx-zone" onClick={() => setUtc(!utc)} title="Times in UTC, or in my zone">
          {zoneName(utc)}
        </button>
      </nav>
      <Banner link={link} />
      <main id="content" className="sx-main" tabIndex={-1}>
        <Outlet />
      </main>
      <Tour />
      {palette && <Palette shortcuts={shortcuts} onClose={() => setPalette(false)} />}
      {help && <Help shortcuts={shortcuts} onClose={() => setHelp(false)} />}
    </div>
    </ActionHost>
  );
}

function Environment() {
  const project = ask.useQuery("get", "/api/v1/project").data;
  const navigate = useNavigate();
  const env = useEnv();
  if (!project) return null;
  const choices = project.environments.includes(env) ? project.environments : [env, ...project.environments];
  return (
    <span className="sx-env">
      <span className="sx-project" dir="auto" title={project.project}>
        {project.project}
      </span>
      <NativeSelect
        size="xs"
        aria-label="Environment"
        data={choices}
        value={env}
        onChange={(event) => {
          const next = event.currentTarget.value;
          void navigate({
            to: ".",
            search: (before) => ({ ...before, env: next === project.environment ? undefined : next }),
          });
        }}
      />
    </span>
  );
}

const SLOW_MS = 2000; // so long an answer may take before the page says that it waits

/** Says that the server is away and of when is what is shown, that it is slow, and for a moment that it is back. */
function Banner({ link }: { link: StreamLink }) {
  const [back, setBack] = useState(false);
  const [since, setSince] = useState(0); // when the server was there last (ms since the epoch)
  const [slow, setSlow] = useState(false);
  const asks = useIsFetching() > 0;
  const before = useRef(link);
  useEffect(() => {
    const was = before.current;
    before.current = link;
    if (link === "away" && was !== "away") setSince(Date.now());
    if (link !== "live" || was !== "away") return undefined;
    setBack(true);
    const timer = window.setTimeout(() => setBack(false), 5000);
    return () => window.clearTimeout(timer);
  }, [link]);
  useEffect(() => {
    if (!asks) return undefined;
    const timer = window.setTimeout(() => setSlow(true), SLOW_MS);
    return () => {
      window.clearTimeout(timer);
      setSlow(false);
    };
  }, [asks]);
  const isSlow = slow && asks && link !== "away";
  return (
    <div className="sx-banner" role="status" data-link={link} data-back={back && link === "live"} data-slow={isSlow}>
      {link === "away" && (
        <>
          The server does not answer. What is shown is of <Time at={since} date={false} /> and may be old; the page goes on asking.
        </>
      )}
      {isSlow && "The server is slow: the page waits for an answer. What is shown stays usable meanwhile."}
      {link === "live" && back && !isSlow && "The server is back, and what changed meanwhile is shown."}
    </div>
  );
}

function Help({ shortcuts, onClose }: { shortcuts: Shortcut[]; onClose: () => void }) {
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <dl className="sx-keys">
        {[
          ...shortcuts,
          { keys: "↑ ↓", does: "In a table: move; Enter opens, Home and End jump" },
          { keys: "Esc", does: "Close what is open" },
        ].map(({ keys, does }) => (
          <div key={keys}>
            <dt>
              {keys.split(" ").map((key) => (
                <Kbd key={key} size="xs">
                  {key.replace("mod+k", "Ctrl K")}
                </Kbd>
              ))}
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
