// A program with counters, histograms, spans and log lines: nothing in it knows Sextant. Where to
// send, and how, it reads from its environment, as OpenTelemetry's specification says. Prints as
// JSON what it measured.
import { metrics, trace } from '@opentelemetry/api';
import { logs, SeverityNumber } from '@opentelemetry/api-logs';
import { AggregationType } from '@opentelemetry/sdk-metrics';
import { NodeSDK } from '@opentelemetry/sdk-node';

const EXPORTS = 4;
const exponential = process.env.APP_HISTOGRAM === 'exponential';
const sdk = new NodeSDK({
  views: exponential
    ? [{ instrumentName: 'app.*', instrumentType: 'HISTOGRAM',
         aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } }]
    : [],
});
sdk.start();

const meter = metrics.getMeter('app');
const tracer = trace.getTracer('app');
const orders = meter.createCounter('app.orders');
const waiting = meter.createUpDownCounter('app.waiting');
const duration = meter.createHistogram('app.duration', { unit: 'ms' });
const values = Array.from({ length: 100 }, (_, n) => 0.9 * 1.07 ** n);
const traces = [];
const late = meter.createCounter('app.late');
for (let part = 0; part < EXPORTS; part++) {
  // large and small mixed, so that the range of the histogram grows from export to export
  values.filter((_, n) => n % EXPORTS === part).forEach((value) => {
    const span = tracer.startSpan('work');
    traces.push(span.spanContext().traceId);
    orders.add(2, { shop: part % 2 ? 'north' : 'south' });
    duration.record(value);
    waiting.add(1);
    span.end();
    waiting.add(-1);
  });
  logs.getLogger('app').emit({
    severityNumber: SeverityNumber.WARN, severityText: 'WARN', body: `part ${part + 1} is done`,
  });
  // in the millisecond in which it is exported, as a program does that ends
  late.add(5, { part: String(part) });
  await metrics.getMeterProvider().forceFlush();
}
await sdk.shutdown();
console.log(JSON.stringify({ orders: 2 * values.length, late: 5 * EXPORTS, values, traces }));
