// graphql-transport-ws, judged by the client of the `graphql-ws` package: node ws.mjs <url> <token>
// Expects the toy schema (`cargo run -p daybook-api --example toy`). Exits with 0 when every check passes.
import assert from 'node:assert/strict';
import { getIntrospectionQuery, buildClientSchema } from 'graphql';
import { CloseCode, createClient } from 'graphql-ws';
import WebSocket from 'ws';

const [url, token] = process.argv.slice(2);
if (!url || !token) {
  console.error('usage: node ws.mjs <url> <token>');
  process.exit(2);
}
const socketUrl = url.replace(/^http/, 'ws');
const authorization = `Bearer ${token}`;

const client = (options = {}) =>
  createClient({
    url: socketUrl,
    webSocketImpl: WebSocket,
    connectionParams: { Authorization: authorization },
    retryAttempts: 0,
    ...options,
  });

/** All results of an operation; at most `max`, after which it is completed from this side. */
async function collect(on, query, max = Infinity, variables) {
  const results = [];
  for await (const result of on.iterate({ query, variables })) {
    results.push(result);
    if (results.length >= max) break;
  }
  return results;
}

/** The close event that a plain socket gets after it has sent these messages. */
function closeOf(messages, { protocol = 'graphql-transport-ws', origin } = {}) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(socketUrl, protocol, { origin });
    socket.on('open', () => messages.forEach((message) => socket.send(message)));
    socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    socket.on('unexpected-response', (_, response) => resolve({ status: response.statusCode }));
    socket.on('error', reject);
  });
}

const init = JSON.stringify({ type: 'connection_init', payload: { authorization } });
const subscribe = (id, query) => JSON.stringify({ type: 'subscribe', id, payload: { query } });

const checks = {
  async 'a subscription streams and completes'() {
    const results = await collect(client(), 'subscription { count(to: 3) }');
    assert.deepEqual(results.map((result) => result.data.count), [1, 2, 3]);
  },
  async 'queries, mutations and variables work over the socket'() {
    const on = client();
    assert.equal((await collect(on, '{ caller }'))[0].data.caller, 'toy');
    assert.equal(typeof (await collect(on, 'mutation { bump }'))[0].data.bump, 'number');
    const query = 'query($n: Int) { withDefault(n: $n) }';
    assert.equal((await collect(on, query, 1, { n: 3 }))[0].data.withDefault, 3);
    assert.equal((await collect(on, query, 1, {}))[0].data.withDefault, 7);
    await on.dispose();
  },
  async 'the full introspection fits into the limits'() {
    const [{ data }] = await collect(client(), getIntrospectionQuery());
    assert.ok(buildClientSchema(data).getQueryType());
  },
  async 'many operations share a socket'() {
    const on = client();
    const all = await Promise.all(
      Array.from({ length: 50 }, () => collect(on, 'subscription { ticks(everyMs: 1) }', 5)),
    );
    for (const results of all) assert.deepEqual(results.map((result) => result.data.ticks), [0, 1, 2, 3, 4]);
    await on.dispose();
  },
  async 'a refused document is an error'() {
    await assert.rejects(collect(client(), '{ nothing }'), (errors) => errors[0].extensions.code === 'BAD_USER_INPUT');
  },
  async 'pings are answered'() {
    let pongs = 0;
    const on = client({ lazy: false, keepAlive: 20, on: { pong: (received) => received && (pongs += 1) } });
    while (pongs < 3) await new Promise((resolve) => setTimeout(resolve, 5));
    await on.dispose();
  },
  async 'a client reconnects and subscribes again after its socket was cut'() {
    let socket;
    let connections = 0;
    const on = client({
      retryAttempts: 5,
      retryWait: async () => {},
      shouldRetry: () => true,
      on: {
        connected: (current) => {
          socket = current;
          connections += 1;
        },
      },
    });
    const seen = [];
    for await (const result of on.iterate({ query: 'subscription { ticks(everyMs: 1) }' })) {
      seen.push(result.data.ticks);
      if (seen.length === 3) socket.terminate();
      if (connections === 2 && seen.length >= 6) break;
    }
    assert.equal(connections, 2);
    assert.equal(seen.filter((tick) => tick === 0).length, 2);
    await on.dispose();
  },
  async 'a wrong token is 4403'() {
    await assert.rejects(
      collect(client({ connectionParams: { Authorization: 'Bearer wrong' } }), '{ caller }'),
      (event) => event.code === CloseCode.Forbidden,
    );
  },
  async 'close codes'() {
    const expected = [
      [CloseCode.BadRequest, ['{']],
      [CloseCode.BadRequest, [init, '{"type":"subscribe","id":"1"}']],
      [CloseCode.Unauthorized, [subscribe('1', '{ caller }')]],
      [CloseCode.Forbidden, ['{"type":"connection_init"}']],
      [CloseCode.ConnectionInitialisationTimeout, []],
      [CloseCode.SubscriberAlreadyExists, [init, subscribe('1', 'subscription { silence }'), subscribe('1', '{ caller }')]],
      [CloseCode.TooManyInitialisationRequests, [init, init]],
    ];
    for (const [code, messages] of expected) assert.equal((await closeOf(messages)).code, code);
    const { code, reason } = await closeOf([], { protocol: [] });
    assert.deepEqual({ code, reason }, { code: CloseCode.SubprotocolNotAcceptable, reason: 'Subprotocol not acceptable' });
  },
  async 'a foreign origin is 403'() {
    assert.deepEqual(await closeOf([init], { origin: 'https://evil.example' }), { status: 403 });
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('nothing happened for 15 s')), 15_000);
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
console.log(`${Object.keys(checks).length} checks, ${failed} failed`);
process.exit(failed ? 1 : 0);
