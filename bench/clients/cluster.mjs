// Workers of one service, none of which says which one it is. The first one is killed in the middle
// and another one takes its place. Prints how much was counted.
import cluster from 'node:cluster';
import { metrics } from '@opentelemetry/api';
import { NodeSDK } from '@opentelemetry/sdk-node';

const WORKERS = 3, EACH = 40;

if (cluster.isPrimary) {
  let counted = 0, ended = 0, killed = false;
  cluster.on('message', (worker, message) => {
    counted += message.counted;
    if (!killed) {
      killed = true;
      worker.process.kill('SIGKILL');
    } else worker.send('go on');
  });
  cluster.on('exit', (worker, code, by) => {
    if (by === 'SIGKILL') cluster.fork();
    else if (++ended === WORKERS) console.log(JSON.stringify({ counted }));
  });
  for (let n = 0; n < WORKERS; n++) cluster.fork();
} else {
  const sdk = new NodeSDK();
  sdk.start();
  const meter = metrics.getMeter('app');
  const requests = meter.createCounter('app.requests');
  const took = meter.createHistogram('app.took');
  const round = async () => {
    for (let n = 0; n < EACH; n++) {
      requests.add(1);
      took.record(n);
      if (n % 10 === 9) await metrics.getMeterProvider().forceFlush();
    }
    process.send({ counted: EACH });
  };
  let rounds = 0;
  process.on('message', async () => {
    if (++rounds === 2) {
      await sdk.shutdown();
      process.exit(0);
    }
    await round();
  });
  await round();
}
