// The real schema through graphql-ws, the reference client: a subscription that is cut again and
// again sees every change once, in order.
//   node daybook.mjs URL TOKEN
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import assert from 'node:assert/strict';

const [url, token] = process.argv.slice(2);
if (!url || !token) {
  console.error('usage: node daybook.mjs URL TOKEN');
  process.exit(2);
}
const socketUrl = url.replace(/^http/, 'ws');

async function ask(query, variables) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify({ query, variables }),
  });
  const body = await response.json();
  assert.equal(body.errors, undefined, JSON.stringify(body.errors));
  return body.data;
}

const RENAME = 'mutation($id: UUID!, $name: String!) { renameTenant(input: {id: $id, name: $name}) { position userErrors { code } } }';
const WATCH = 'subscription($id: UUID!, $after: Position) { tenantChanged(id: $id, after: $after) { position change node { name version } changedFields } }';

const registered = (
  await ask('mutation { registerTenant(input: {name: "watched"}) { tenant { id } position } }')
).registerTenant;
const id = registered.tenant.id;

const CHANGES = 60;
const seen = [];
let after = registered.position;
let cuts = 0;

// Each client lives for a few changes, then its socket is torn without a goodbye.
async function watchSome(count) {
  let socket;
  class Torn extends WebSocket {
    constructor(...args) {
      super(...args);
      socket = this;
    }
  }
  const client = createClient({
    url: socketUrl,
    webSocketImpl: Torn,
    connectionParams: { Authorization: `Bearer ${token}` },
    retryAttempts: 0,
  });
  const subscription = client.iterate({ query: WATCH, variables: { id, after } });
  let got = 0;
  try {
    for await (const { data, errors } of subscription) {
      assert.equal(errors, undefined, JSON.stringify(errors));
      seen.push(data.tenantChanged);
      after = data.tenantChanged.position;
      got += 1;
      if (got === count) break;
    }
  } finally {
    socket.terminate();
    cuts += 1;
  }
}

const writing = (async () => {
  for (let n = 1; n <= CHANGES; n += 1) {
    const done = await ask(RENAME, { id, name: `name ${n}` });
    assert.deepEqual(done.renameTenant.userErrors, []);
  }
})();
while (seen.length < CHANGES) await watchSome(Math.min(1 + (cuts % 7), CHANGES - seen.length));
await writing;

assert.deepEqual(seen.map((c) => c.node.name), Array.from({ length: CHANGES }, (_, n) => `name ${n + 1}`));
assert.deepEqual(seen.map((c) => c.node.version), Array.from({ length: CHANGES }, (_, n) => String(n + 2)));
assert.ok(seen.every((c) => c.change === 'UPDATED' && c.changedFields.includes('name')));
assert.equal(new Set(seen.map((c) => c.position)).size, CHANGES);
console.log(`${CHANGES} changes over ${cuts} cut sockets: none missed, none doubled, in order`);
