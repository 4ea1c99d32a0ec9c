// A target of Prometheus, with prom-client. GET /work?n=3 counts three pieces of work.
import http from 'node:http';
import prom from 'prom-client';

const done = new prom.Counter({ name: 'jobs_done_total', help: 'Jobs done' });
const took = new prom.Histogram({ name: 'job_took_seconds', help: 'Time', buckets: [0.1, 1, 10] });
prom.collectDefaultMetrics();

http.createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://target');
  if (pathname === '/work') {
    for (let n = 0; n < Number(searchParams.get('n')); n++) {
      done.inc();
      took.observe(n % 2 ? 0.5 : 5);
    }
    response.end();
  } else {
    response.setHeader('Content-Type', prom.register.contentType);
    response.end(await prom.register.metrics());
  }
}).listen(Number(process.env.PORT), '127.0.0.1');
