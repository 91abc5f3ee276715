// Every code with which a socket is closed, each brought about by the graphql-ws client: by what it does by itself, and
// where it would never do it, by what is slipped into its socket. And whether the client then gives up or comes again.
import assert from 'node:assert/strict';
import { CloseCode, createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { Liar } from './middle.mjs';
import { sleep, until } from './server.mjs';

const SILENCE = 'subscription($id: UUID!) { tenantChanged(id: $id) { position } }';
const QUERY = '{ me { actor } }';
/** How often a client tries again here. */
const RETRIES = 2;

/** Of the server with access tokens of 10 s, and a tenant in it. */
export async function closes(server, checks) {
  const { id: tenant } = await server.tenant('closed');
  const bearer = (token) => ({ Authorization: `Bearer ${token}` });
  const silence = { query: SILENCE, variables: { id: tenant } };

  function client(options) {
    const seen = { closes: [], tries: 0 };
    const on = createClient({
      url: server.socketUrl,
      webSocketImpl: WebSocket,
      connectionParams: bearer(server.token),
      retryAttempts: RETRIES,
      retryWait: async () => {},
      ...options,
    });
    on.on('connecting', () => (seen.tries += 1));
    on.on('closed', ({ code, reason }) => seen.closes.push({ code, reason: String(reason) }));
    on.on('connected', (socket) => (seen.socket = socket));
    return { on, seen };
  }

  /** The close that ends a subscription, and how often the client tried. */
  async function ends(options, request = silence) {
    const { on, seen } = client(options);
    let error;
    try {
      for await (const _ of on.iterate(request));
    } catch (thrown) {
      error = thrown;
    }
    return { ...seen, error };
  }

  /** The client tells its user at once: to come again would change nothing. */
  async function fatal(code, reason, options, request) {
    const { closes, tries, error } = await ends(options, request);
    assert.deepEqual(closes, [{ code, reason }]);
    assert.equal(error.code, code);
    assert.equal(tries, 1, 'the client gives up');
  }

  /** The client comes again. */
  async function tried(code, reason, options) {
    const { closes, tries } = await ends(options);
    assert.deepEqual(closes, Array(1 + RETRIES).fill({ code, reason }));
    assert.equal(tries, 1 + RETRIES, 'the client comes again');
  }

  /** What runs is closed when `cause` happens, and the client goes on with what `params` gives it then. */
  async function cut(reason, params, cause, within_ms = 1_000) {
    const { on, seen } = client({ connectionParams: params });
    let done;
    const ended = new Promise((resolve) => (done = resolve));
    const stop = on.subscribe(silence, { next() {}, error: done, complete: done });
    await until('the client is in', () => seen.socket);
    const since = Date.now();
    await cause();
    await until(`closed: ${reason}`, () => seen.closes.length > 0 || seen.tries > 1);
    const took_ms = Date.now() - since;
    assert.deepEqual(seen.closes[0], { code: CloseCode.Forbidden, reason });
    assert.ok(took_ms <= within_ms, `it took ${took_ms} ms`);
    // With a token that is over, it has given up by now; what it tried is told already.
    stop();
    await on.dispose().catch(() => {});
    await ended;
  }

  /** As the client speaks, with something else slipped into its socket once it is acknowledged. */
  const slipping = (slip) => ({ on: { connected: slip } });
  const json = (value) => JSON.stringify(value);
  const subscribe = (id) => json({ type: 'subscribe', id, payload: { query: QUERY } });
  const invalid = (why) => `Invalid message: ${why}`;

  const person = (name) => server.person(tenant, name);
  const OVER = 'The token is no longer good: connect again with a new one';
  const CHANGED = 'What you may do has changed: connect again';

  await checks.group(
    {
      async '1000: the client completes its last operation'() {
        const { on, seen } = client();
        for await (const { data } of on.iterate({ query: QUERY })) assert.ok(data.me.actor);
        await until('it closes', () => seen.closes.length === 1);
        assert.equal(seen.closes[0].code, 1000);
      },
      '1002: a frame without a mask': () =>
        fatal(1002, 'Protocol error', slipping((socket) => socket._socket.write(Buffer.from([0x81, 0x01, 0x61])))),
      '1002: a frame of a kind that there is none of': () =>
        fatal(1002, 'Protocol error', slipping((socket) => socket._socket.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0])))),
      '1007: text that is not UTF-8': () =>
        fatal(1007, 'Text is not UTF-8', slipping((socket) => socket.send(Buffer.from([0xff, 0xfe]), { binary: false }))),
      '1009: a message of more than 256 KiB': () =>
        fatal(1009, 'Message longer than 262144 bytes', {}, { query: `${QUERY}${' '.repeat(262_144)}` }),

      '4400: binary': () =>
        fatal(4400, invalid('binary instead of text'), slipping((socket) => socket.send(Buffer.from('{}')))),
      '4400: no JSON': () => fatal(4400, invalid('not a JSON object'), slipping((socket) => socket.send('x'))),
      '4400: an array': () => fatal(4400, invalid('not a JSON object'), slipping((socket) => socket.send('[]'))),
      '4400: a message of a protocol of before': () =>
        fatal(4400, invalid('the type `start` is not one that a client sends'), slipping((socket) => socket.send(json({ type: 'start', id: '1' })))),
      '4400: what only a server says': () =>
        fatal(4400, invalid('the type `connection_ack` is not one that a client sends'), slipping((socket) => socket.send(json({ type: 'connection_ack' })))),
      '4400: an operation without an id': () =>
        fatal(4400, invalid('`id` must have 1 to 128 bytes'), {
          jsonMessageReplacer: (key, value) => (key === 'id' ? '' : value),
        }),
      '4400: a query that is no text': () =>
        fatal(4400, invalid('The parameter `query` must be a string'), {
          jsonMessageReplacer: (key, value) => (key === 'query' ? 1 : value),
        }),
      '4400: variables that are no object': () =>
        fatal(4400, invalid('The parameter `variables` must be an object or null'), {
          jsonMessageReplacer: (key, value) => (key === 'variables' ? [] : value),
        }),
      '4400: a payload of connection_init that is no object': () =>
        fatal(4400, invalid('`payload` must be an object or null'), {
          jsonMessageReplacer: (key, value) => (key === 'payload' ? 'Bearer' : value),
        }),

      '4401: an operation before connection_init': () =>
        fatal(4401, 'Unauthorized', { on: { opened: (socket) => socket.send(subscribe('1')) } }),
      async '4401: an operation before the acknowledgement counts as after it'() {
        // Messages are taken in order: by the protocol, what comes behind connection_init may not be known to be early.
        const socket = new WebSocket(server.socketUrl, 'graphql-transport-ws');
        const said = [];
        socket.on('message', (text) => said.push(JSON.parse(text).type));
        socket.on('open', () => {
          socket.send(json({ type: 'connection_init', payload: bearer(server.token) }));
          socket.send(subscribe('1'));
        });
        await until('an answer', () => said.length === 3);
        assert.deepEqual(said, ['connection_ack', 'next', 'complete']);
        socket.close();
      },

      '4403: no token': () => tried(CloseCode.Forbidden, 'Forbidden', { connectionParams: undefined }),
      '4403: a token that nobody holds': () => tried(CloseCode.Forbidden, 'Forbidden', { connectionParams: bearer('no') }),
      '4403: a token that is no text': () =>
        tried(CloseCode.Forbidden, 'Forbidden', { connectionParams: { Authorization: 7 } }),
      '4403: two tokens': () =>
        tried(CloseCode.Forbidden, 'Forbidden', {
          connectionParams: { ...bearer(server.token), authorization: `Bearer ${server.token}` },
        }),
      async '4403: a tenant that is not the token\'s'() {
        const headers = { 'x-tenant-id': '00000000-0000-0000-0000-00000000000f' };
        class Elsewhere extends WebSocket {
          constructor(url, protocol) {
            super(url, protocol, { headers });
          }
        }
        await tried(CloseCode.Forbidden, 'Forbidden', { webSocketImpl: Elsewhere });
      },

      '4406: no subprotocol': () =>
        fatal(4406, 'Subprotocol not acceptable', {
          webSocketImpl: class extends WebSocket {
            constructor(url) {
              super(url);
            }
          },
        }),
      async '4406: the subprotocol of before'() {
        // The client of before would end a handshake in which none was chosen; so this one asks without looking.
        const headers = { 'sec-websocket-protocol': 'graphql-ws' };
        await fatal(4406, 'Subprotocol not acceptable', {
          webSocketImpl: class extends WebSocket {
            constructor(url) {
              super(url, { headers });
            }
          },
        });
      },

      async '4408: connection_init comes late; the next try comes in'() {
        let first = true;
        const { on, seen } = client({
          connectionParams: async () => {
            const late = first;
            first = false;
            if (late) await sleep(11_000);
            return bearer(server.token);
          },
        });
        const since = Date.now();
        for await (const { data } of on.iterate({ query: QUERY })) assert.ok(data.me.actor);
        assert.deepEqual(seen.closes[0], { code: 4408, reason: 'Connection initialisation timeout' });
        const took_s = Math.round((Date.now() - since) / 1000);
        assert.ok(took_s >= 10 && took_s <= 12, `${took_s} s`);
      },

      async '4409: two operations of one id'() {
        const { on, seen } = client({ generateID: () => 'the same' });
        const told = [];
        const sink = { next() {}, error: (error) => told.push(error.code), complete() {} };
        on.subscribe(silence, sink);
        on.subscribe(silence, sink);
        await until('both are told', () => told.length === 2);
        assert.deepEqual(told, [4409, 4409]);
        assert.deepEqual(seen.closes, [{ code: 4409, reason: 'Subscriber for the same already exists' }]);
        assert.equal(seen.tries, 1);
      },

      '4429: a second connection_init': () =>
        fatal(4429, 'Too many initialisation requests', {
          ...slipping((socket) => socket.send(json({ type: 'connection_init' }))),
        }),
      '4429: two at once': () =>
        fatal(4429, 'Too many initialisation requests', {
          on: { opened: (socket) => socket.send(json({ type: 'connection_init', payload: bearer(server.token) })) },
        }),

      async '4403: the access token has run out; the client goes on with a new one'() {
        const somebody = await person('runs-out');
        const token = async () => bearer((await server.login(somebody)).accessToken);
        await cut(OVER, token, () => {}, 11_000);
      },
      async '4403: a session is revoked'() {
        const somebody = await person('revoked');
        const { accessToken, session } = await server.login(somebody);
        const query = 'mutation($s: UUID!) { revokeSession(input: {id: $s, reason: "judged"}) { userErrors { message } } }';
        await cut(OVER, bearer(accessToken), () => server.ask(query, { s: session }, accessToken));
      },
      async '4403: somebody logs out'() {
        const { accessToken, refreshToken } = await server.login(await person('leaves'));
        const query = 'mutation($t: String) { logout(input: {refreshToken: $t}) { ended } }';
        await cut(OVER, bearer(accessToken), () => server.ask(query, { t: refreshToken }));
      },
      async '4403: all sessions are ended by an administrator'() {
        const somebody = await person('is-put-out');
        const { accessToken } = await server.login(somebody);
        const query =
          'mutation($a: UUID!) { revokeAllSessions(input: {account: $a, reason: "judged"}) { userErrors { message } } }';
        await cut(OVER, bearer(accessToken), () => server.ask(query, { a: somebody.account }));
      },
      async '4403: an account is deactivated'() {
        const somebody = await person('deactivated');
        const { accessToken } = await server.login(somebody);
        const query =
          'mutation($a: UUID!) { deactivateAccount(input: {id: $a, reason: "judged"}) { userErrors { message } } }';
        await cut(OVER, bearer(accessToken), () => server.ask(query, { a: somebody.account }));
      },
      async '4403: a membership ends'() {
        const somebody = await person('goes');
        const { accessToken } = await server.login(somebody);
        const query = `mutation($t: UUID!, $m: UUID!) {
          endMembership(input: {tenant: $t, id: $m, reason: "judged"}) { userErrors { message } } }`;
        await cut(OVER, bearer(accessToken), () => server.ask(query, { t: tenant, m: somebody.member }));
      },
      async '4403: roles change; the client goes on under the new ones'() {
        const somebody = await person('promoted');
        const { accessToken } = await server.login(somebody);
        const query = `mutation($t: UUID!, $m: UUID!) {
          changeMemberRoles(input: {tenant: $t, id: $m, roles: [VIEWER]}) { userErrors { message } } }`;
        await cut(CHANGED, bearer(accessToken), () => server.ask(query, { t: tenant, m: somebody.member }));
      },
      async '4403: an API key is revoked'() {
        const service = (
          await server.ask(
            `mutation($t: UUID!) { registerServiceAccount(input: {tenant: $t, name: "reader", roles: [VIEWER]}) {
              serviceAccount { id } userErrors { message } } }`,
            { t: tenant },
          )
        ).registerServiceAccount.serviceAccount.id;
        const { key, keyId } = (
          await server.ask(
            `mutation($t: UUID!, $s: UUID!) { issueApiKey(input: {tenant: $t, id: $s, scopes: ["tenant.read"]}) {
              key keyId userErrors { message } } }`,
            { t: tenant, s: service },
          )
        ).issueApiKey;
        const query = `mutation($t: UUID!, $s: UUID!, $k: UUID!) {
          revokeApiKey(input: {tenant: $t, id: $s, key: $k, reason: "judged"}) { userErrors { message } } }`;
        await cut(OVER, bearer(key), () => server.ask(query, { t: tenant, s: service, k: keyId }));
      },

      ...saidByClients(),
    },
    40,
  );

  /** The server takes leave with the code that the client gave. */
  function saidByClients() {
    const answered = async (code, options, change, act) => {
      const liar = await Liar.before(server.socketUrl, change);
      const { on, seen } = client({ url: liar.url, retryAttempts: 0, ...options });
      on.subscribe(silence, { next() {}, error() {}, complete() {} });
      if (act) {
        await until('the client is in', () => seen.socket);
        act(on);
      }
      assert.equal(await liar.answered, code);
      liar.close();
    };
    const truth = (text) => text;
    return {
      '4004, by the client: the first message is not the acknowledgement': () =>
        answered(CloseCode.BadResponse, {}, () => json({ type: 'next', id: '1', payload: {} })),
      '4005, by the client: it fails before it has said who it is': () => {
        const connectionParams = () => {
          throw new Error('no token at hand');
        };
        return answered(CloseCode.InternalClientError, { connectionParams }, truth);
      },
      '4499, by the client: it gives its socket up': () => answered(4499, {}, truth, (on) => on.terminate()),
      '4504, by the client: the acknowledgement does not come': () =>
        answered(CloseCode.ConnectionAcknowledgementTimeout, { connectionAckWaitTimeout: 200 }, () => null),
    };
  }

  await checks.group({
    async 'a page of another origin and a handshake of another version get no socket'() {
      const refused = (options) =>
        new Promise((resolve, reject) => {
          const socket = new WebSocket(server.socketUrl, 'graphql-transport-ws', options);
          socket.on('unexpected-response', (_, response) => resolve(response.statusCode));
          socket.on('open', () => reject(new Error('it is open')));
          socket.on('error', reject);
        });
      assert.equal(await refused({ origin: 'https://evil.example' }), 403);
      assert.equal(await refused({ protocolVersion: 8 }), 400);
    },
    async 'none of them has left anything open'() {
      await until('all sockets are closed', async () => (await server.open()) === 0);
    },
  });

  await checks.group(
    {
      async '1013: 5,000 sockets of one caller; the client comes in once one is closed'() {
        const { accessToken } = await server.login(await person('has-many'));
        const init = json({ type: 'connection_init', payload: bearer(accessToken) });
        const many = [];
        const one = () =>
          new Promise((resolve, reject) => {
            const socket = new WebSocket(server.socketUrl, 'graphql-transport-ws', { perMessageDeflate: false });
            socket.on('open', () => socket.send(init));
            socket.on('message', resolve);
            socket.on('close', (code) => reject(new Error(`closed with ${code}`)));
            socket.on('error', reject);
            many.push(socket);
          });
        try {
          while (many.length < 5_000) await Promise.all(Array.from({ length: 100 }, one));
          const { on, seen } = client({ connectionParams: bearer(accessToken), retryAttempts: 100, retryWait: () => sleep(20) });
          const result = on.iterate({ query: QUERY }).next();
          await until('it is turned away', () => seen.closes.length > 0);
          const reason = 'Too many sockets and event streams of this caller: close one';
          assert.deepEqual(seen.closes[0], { code: 1013, reason });
          many.pop().close();
          assert.ok((await result).value.data.me.actor);
        } finally {
          for (const socket of many) socket.terminate();
        }
        await until('all sockets are closed', async () => (await server.open()) === 0);
      },
    },
    60,
  );
}
