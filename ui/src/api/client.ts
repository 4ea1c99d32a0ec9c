// The API's client: paths, parameters and answers are typed by the API's description.
import createFetch, { type Middleware } from "openapi-fetch";
import createQueries from "openapi-react-query";
import type { components, paths } from "./description";

export type Schemas = components["schemas"];
export type SignedIn = Schemas["SignedIn"];

/** An error of the API with its code and hint (RFC 9457), or a server that did not answer. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly hint: string;
  readonly detail: string;

  constructor(status: number, problem: Partial<Schemas["Problem"]>) {
    super(problem.title ?? `the server answered ${status}`);
    this.status = status;
    this.code = problem.code ?? "";
    this.hint = problem.hint ?? "";
    this.detail = problem.detail ?? "";
  }
}

let csrf = "";
let ended: () => void = () => undefined;

/** Sets what writes carry (the session's CSRF token), and what is called when a session has ended. */
export function carrySession(token: string, onEnd: () => void): void {
  csrf = token;
  ended = onEnd;
}

export function sessionEnded(): void {
  ended();
}

const OPEN = ["/api/v1/session", "/api/v1/session/link"];

const middleware: Middleware = {
  onRequest({ request }) {
    if (request.method !== "GET") request.headers.set("x-csrf-token", csrf);
    return request;
  },
  async onResponse({ request, response }) {
    if (response.ok) return response;
    const problem = await response
      .clone()
      .json()
      .catch(() => ({}));
    const path = new URL(request.url).pathname;
    if (response.status === 401 && !OPEN.includes(path)) ended();
    throw new ApiError(response.status, problem as Partial<Schemas["Problem"]>);
  },
};

// An array is given by repeating its name: `assets=a&assets=b`. The answers are never kept by the browser.
export const api = createFetch<paths>({ baseUrl: location.origin, cache: "no-store" });
api.use(middleware);

/** Queries and mutations: `ask.useQuery("get", "/api/v1/status", ...)`. Their keys are method, path, arguments. */
export const ask = createQueries(api);
