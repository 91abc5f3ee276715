// GraphQL over HTTP, judged by the audits of the `graphql-http` package: node audits.mjs <url> <token>
// Exits with 0 when there is no warning and no error.
import { serverAudits } from 'graphql-http';

const [url, token] = process.argv.slice(2);
if (!url || !token) {
  console.error('usage: node audits.mjs <url> <token>');
  process.exit(2);
}

const fetchFn = (target, init = {}) =>
  fetch(target, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } });

const counts = { ok: 0, notice: 0, warn: 0, error: 0 };
for (const audit of serverAudits({ url, fetchFn })) {
  const result = await audit.fn();
  counts[result.status] += 1;
  if (result.status !== 'ok') {
    console.log(`${result.status} ${result.id} ${result.name}: ${result.reason}`);
  }
}
const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
console.log(`${total} audits: ${Object.entries(counts).map(([status, count]) => `${count} ${status}`).join(', ')}`);
process.exit(total > 0 && counts.warn === 0 && counts.error === 0 ? 0 : 1);
