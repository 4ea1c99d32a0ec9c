// Sextant's page.
import { createTheme, MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { ApiError } from "./api/client";
import { SessionGate } from "./frame/session";
import { router } from "./routes";
import "./styles/mantine";
import "./styles/tokens.css";
import "./styles/frame.css";
import "./styles/parts.css";

// The policy allows no inline styles: the variables are files (`styles/`), and nothing responsive is made at run time.
const theme = createTheme({ defaultRadius: "sm", focusRing: "auto", respectReducedMotion: true });

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 60_000, // the live stream says what has changed
      refetchOnWindowFocus: false,
      networkMode: "always",
      retry: (failures, error) => !(error instanceof ApiError && error.status < 500) && failures < 2,
      retryDelay: 700,
    },
    mutations: { networkMode: "always" },
  },
});

const scheme = document.documentElement.getAttribute("data-mantine-color-scheme") === "dark" ? "dark" : "light";
const place = document.getElementById("root");
if (place)
  createRoot(place).render(
    <StrictMode>
      <MantineProvider
        theme={theme}
        withCssVariables={false}
        withGlobalClasses={false}
        defaultColorScheme={scheme}
        colorSchemeManager={{
          get: () => scheme,
          set: () => undefined,
          subscribe: () => undefined,
          unsubscribe: () => undefined,
          clear: () => undefined,
        }}
      >
        <QueryClientProvider client={queries}>
          <SessionGate>
            <RouterProvider router={router} />
          </SessionGate>
        </QueryClientProvider>
      </MantineProvider>
    </StrictMode>,
  );
