// Takes what Vite has built into the package: compressed files, and the manifest that lists them (src/sextant/server/api/page.py).
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { gzipSync } from "node:zlib";

const HERE = import.meta.dirname;
const DIST = join(HERE, "dist");
const OUT = join(HERE, "..", "src", "sextant", "server", "ui");
const TYPES = {
  css: "text/css; charset=utf-8",
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml",
};

const sha = (bytes) => createHash("sha256").update(bytes).digest("hex");

function walk(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((one) => {
    const path = join(folder, one.name);
    return one.isDirectory() ? walk(path) : [path];
  });
}

// Every file that decides what is built; tests/page/test_build.py computes the same without Node. The types of the API
// (src/api/description.ts) are generated and leave nothing in what is built.
function sources() {
  const files = ["index.html", "package-lock.json", "package.json", "pack.mjs", "tsconfig.json", "vite.config.ts"]
    .map((name) => join(HERE, name))
    .concat(walk(join(HERE, "src")), walk(join(HERE, "public")))
    .map((path) => relative(HERE, path).split("\\").join("/"))
    .filter((name) => name !== "src/api/description.ts")
    .toSorted();
  return sha(files.map((name) => `${name} ${sha(readFileSync(join(HERE, name)))}\n`).join(""));
}

const built = JSON.parse(readFileSync(join(DIST, "vite.json"), "utf8"));

/** The files that a chunk needs at once: its own, and those of what it imports statically. */
function needs(key, seen = new Set()) {
  const chunk = built[key];
  if (!chunk || seen.has(key)) return [];
  seen.add(key);
  return [chunk.file, ...(chunk.css ?? []), ...(chunk.imports ?? []).flatMap((one) => needs(one, seen))];
}

const name = (file) => file.replace(/^page\//, "");
const places = JSON.parse(readFileSync(join(HERE, "src", "pages.json"), "utf8"));
const entry = Object.keys(built).find((key) => built[key].isEntry);
const first = [...new Set(["index.html", "page/scheme.js", ...needs(entry)])].map(name);
const later = Object.fromEntries(
  Object.keys(built)
    .filter((key) => built[key].isDynamicEntry)
    .toSorted()
    .map((key) => [key.replace(/^src\/pages\//, "").replace(/\.tsx$/, ""), [...new Set(needs(key))].map(name).filter((file) => !first.includes(file))]),
);

// The one file that Vite does not name after what is in it.
const scheme = `scheme-${sha(readFileSync(join(DIST, "page", "scheme.js"))).slice(0, 8)}.js`;
renameSync(join(DIST, "page", "scheme.js"), join(DIST, "page", scheme));
const index = readFileSync(join(DIST, "index.html"), "utf8");
writeFileSync(join(DIST, "index.html"), index.replace("/page/scheme.js", `/page/${scheme}`));
first[first.indexOf("scheme.js")] = scheme;

if (existsSync(OUT)) for (const old of readdirSync(OUT)) rmSync(join(OUT, old));
mkdirSync(OUT, { recursive: true });
const files = {};
for (const path of walk(DIST).toSorted()) {
  const file = relative(DIST, path).split("\\").join("/");
  const type = TYPES[file.split(".").pop()];
  if (file === "vite.json") continue;
  if (!type) throw new Error(`no content type is known for ${file}`);
  const content = readFileSync(path);
  const compressed = gzipSync(content, { level: 9 }); // without a time: the same content is the same file
  compressed[9] = 255; // nor the system on which it was built
  writeFileSync(join(OUT, `${name(file)}.gz`), compressed);
  files[name(file)] = { type, digest: sha(content), size: content.length, compressed: compressed.length };
}
writeFileSync(join(OUT, "manifest.json"), `${JSON.stringify({ sources: sources(), places, files, first, later }, null, 1)}\n`);

const sum = (names) => names.reduce((all, one) => all + files[one].compressed, 0);
console.log(`first load ${(sum(first) / 1000).toFixed(1)} kB`);
for (const [page, own] of Object.entries(later)) console.log(`  ${page} ${(sum(own) / 1000).toFixed(1)} kB`);
console.log(`in all ${(statSync(OUT).isDirectory() ? sum(Object.keys(files)) / 1000 : 0).toFixed(1)} kB in ${Object.keys(files).length} files`);
