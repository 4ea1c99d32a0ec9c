// Numbers and names as people read them.

const counts = new Intl.NumberFormat(undefined);

export function count(n: number | undefined): string {
  return n === undefined ? "" : counts.format(n);
}

export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  let size = n;
  while (size >= 1024 && at < units.length - 1) {
    size /= 1024;
    at += 1;
  }
  return `${at && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[at]}`;
}

/** `person:ann` as `ann`; programs and agents keep their kind. */
export function who(by: string | undefined): string {
  return (by ?? "").replace(/^(person|system):/, "");
}

export function kindOf(asset: string): string {
  return asset.slice(0, Math.max(0, asset.indexOf(":")));
}

export function nameOf(asset: string): string {
  return asset.slice(asset.indexOf(":") + 1);
}

export function plural(n: number, one: string, more = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : more}`;
}
