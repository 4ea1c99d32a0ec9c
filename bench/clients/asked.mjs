// Questions by ClickHouse's own client, over one connection at a time; every other one is aborted
// in the middle of its answer. Prints how many answers were right, of how many.
import { ClickHouseLogLevel, createClient } from '@clickhouse/client';

const client = createClient({
  url: process.env.SQL_URL, username: 'me', password: process.env.SQL_TOKEN,
  max_open_connections: 1, compression: { response: true },
  log: { level: ClickHouseLogLevel.OFF },  // what is aborted on purpose is no error
});
let asked = 0, right = 0, aborted = 0;
const expect = (is) => { asked++; if (is) right++; };

for (let n = 0; n < 12; n++) {
  const abort = new AbortController();
  try {
    const rows = await client.query({
      query: `SELECT ${n} AS wrong, number FROM numbers(3000000)`, format: 'JSONEachRow',
      abort_signal: abort.signal,
    });
    for await (const part of rows.stream()) {
      if (part.length) abort.abort();
    }
  } catch {
    aborted++;
  }
  const answer = await client.query({
    query: 'SELECT {n:UInt32} AS n, toString(number) AS text FROM numbers(5)',
    query_params: { n }, format: 'JSON',
  });
  const { data } = await answer.json();
  expect(data.length === 5 && data.every((row, at) => row.n === n && row.text === String(at)));
}
for (let n = 0; n < 8; n++) {  // before an answer has begun
  const abort = new AbortController();
  const late = client.query({
    query: 'SELECT sum(cityHash64(number)) FROM numbers(3000000000)', abort_signal: abort.signal,
  });
  setTimeout(() => abort.abort(), 20 * n);
  await late.then(() => {}, () => { aborted++; });
  const answer = await client.query({ query: `SELECT ${n} AS n`, format: 'JSONEachRow' });
  const rows = await answer.json();
  expect(rows.length === 1 && rows[0].n === n);
}
try {
  await client.query({ query: 'SELECT nope FROM obs.logs' });
  expect(false);
} catch (error) {
  expect(error.code === '47' && error.type === 'UNKNOWN_IDENTIFIER');
}
try {
  await client.insert({ table: 'obs.logs', values: [{ body: 'x' }], format: 'JSONEachRow' });
  expect(false);
} catch (error) {
  expect(error.type === 'READONLY');
}
await client.close();
console.log(JSON.stringify({ asked, right, aborted }));
