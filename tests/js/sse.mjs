// Subscriptions over Server-Sent Events, judged by the client of the `graphql-sse` package in its distinct connections
// mode: what a tenant's log tells while the connection is cut again and again is told once, in order.
//   node sse.mjs URL TOKEN
import assert from 'node:assert/strict';
import { createClient, NetworkError } from 'graphql-sse';

const [url, token] = process.argv.slice(2);
if (!url || !token) {
  console.error('usage: node sse.mjs URL TOKEN');
  process.exit(2);
}
const headers = { authorization: `Bearer ${token}` };

async function ask(query, variables) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ query, variables }),
  });
  const body = await response.json();
  assert.equal(body.errors, undefined, JSON.stringify(body.errors));
  return body.data;
}

/** Everything that an operation tells. */
function collect(client, request, onNext = () => {}) {
  return new Promise((resolve, reject) => {
    const results = [];
    client.subscribe(request, {
      next: (result) => {
        results.push(result);
        onNext(result);
      },
      error: reject,
      complete: () => resolve(results),
    });
  });
}

const RENAME = 'mutation($id: UUID!, $name: String!) { renameTenant(input: {id: $id, name: $name}) { position userErrors { code } } }';
const EVENTS = `subscription($id: UUID!, $after: Position) {
  events(tenant: $id, after: $after, filter: { eventType: { in: ["platform.tenant.renamed"] } }) {
    position node { eventType sequence subject { id } changes { path old new } }
  }
}`;

async function registered(name) {
  const { registerTenant } = await ask(
    'mutation($name: String!) { registerTenant(input: {name: $name}) { tenant { id } position } }',
    { name },
  );
  return { id: registerTenant.tenant.id, after: registerTenant.position };
}

const checks = {
  async 'queries and mutations are streams of one answer'() {
    const client = createClient({ url, headers });
    assert.deepEqual(await collect(client, { query: '{ __typename }' }), [{ data: { __typename: 'Query' } }]);
    const query = 'mutation { registerTenant(input: {name: "streamed"}) { tenant { name } } }';
    const [{ data }] = await collect(client, { query });
    assert.equal(data.registerTenant.tenant.name, 'streamed');
  },

  async 'what validation finds comes as a result, and the stream completes'() {
    const client = createClient({ url, headers });
    const results = await collect(client, { query: 'subscription { nothing }' });
    assert.equal(results.length, 1);
    assert.equal(results[0].errors[0].extensions.code, 'BAD_USER_INPUT');
  },

  async 'a wrong token is an ordinary answer'() {
    const client = createClient({ url, headers: { authorization: 'Bearer wrong' }, retryAttempts: 0 });
    await assert.rejects(
      collect(client, { query: EVENTS, variables: { id: '00000000-0000-0000-0000-000000000001' } }),
      (error) => error instanceof NetworkError && error.response.status === 401,
    );
  },

  async 'events over cut connections: none missed, none doubled, in order'() {
    const CHANGES = 60;
    const { id, after } = await registered('streamed and cut');
    const variables = { id, after };
    const seen = [];
    let connections = 0;
    let cut;
    let dispose;
    // The client asks again by itself; it sends what the variables are by then.
    const client = createClient({
      url,
      headers,
      retryAttempts: Infinity,
      retry: async () => {},
      fetchFn: async (target, init) => {
        connections += 1;
        const response = await fetch(target, init);
        const reader = response.body.getReader();
        const body = new ReadableStream({
          async pull(controller) {
            const { done, value } = await reader.read();
            if (done) controller.close();
            else controller.enqueue(value);
          },
          start(controller) {
            // As a network does it: in the middle, without a goodbye, while the client waits.
            cut = () =>
              setImmediate(() => {
                controller.error(new TypeError('terminated'));
                reader.cancel().catch(() => {});
              });
          },
        });
        return new Response(body, { status: response.status, headers: response.headers });
      },
    });
    const writing = (async () => {
      for (let n = 1; n <= CHANGES; n += 1) await ask(RENAME, { id, name: `name ${n}` });
    })();
    await new Promise((resolve, reject) => {
      let here = 0;
      dispose = client.subscribe(
        { query: EVENTS, variables },
        {
          next: ({ data, errors }) => {
            if (errors) return reject(new Error(JSON.stringify(errors)));
            const { position, node } = data.events;
            // What a cut connection had still to say was not heard.
            if (position === variables.after) return reject(new Error('doubled'));
            variables.after = position;
            if (!node) return undefined;
            seen.push(node);
            here += 1;
            if (seen.length === CHANGES) return resolve();
            if (here > connections % 7) {
              here = 0;
              cut();
            }
            return undefined;
          },
          error: reject,
          complete: () => reject(new Error('completed')),
        },
      );
    });
    dispose();
    await writing;
    assert.deepEqual(seen.map((node) => node.changes[0].new), Array.from({ length: CHANGES }, (_, n) => `name ${n + 1}`));
    assert.deepEqual(seen.map((node) => node.sequence), Array.from({ length: CHANGES }, (_, n) => String(n + 2)));
    assert.ok(seen.every((node) => node.subject.id === id && node.eventType === 'platform.tenant.renamed'));
    assert.ok(connections > 8, `${connections} connections`);
    console.log(`     ${CHANGES} events over ${connections} connections`);
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('nothing happened for 60 s')), 60_000);
  });
  try {
    await Promise.race([check(), late]);
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}:`, error);
  }
  clearTimeout(timer);
}
console.log(`${Object.keys(checks).length} checks of event streams, ${failed} failed`);
process.exit(failed ? 1 : 0);
