// After `npm install PACKAGE`: takes out of the lock file the addresses at which people ask for money, so that it names no host.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const path = join(import.meta.dirname, "package-lock.json");
const lock = JSON.parse(readFileSync(path, "utf8"));
for (const one of Object.values(lock.packages)) {
  delete one.funding;
  delete one.resolved;
}
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
