// The life of the graphql-ws client: operations, lazy sockets, pings; and a subscription that goes on after whatever cuts
// it, with the position of the last item as `after`, and misses and doubles nothing.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { buildClientSchema, getIntrospectionQuery } from 'graphql';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { Wire } from './middle.mjs';
import { sleep, until } from './server.mjs';

const QUERY = '{ me { actor } }';
const RENAME = `mutation($id: UUID!, $name: String!, $command: UUID) {
  renameTenant(input: {id: $id, name: $name, clientMutationId: $command}) { position userErrors { code } } }`;
const WATCH = `subscription($id: UUID!, $after: Position) {
  tenantChanged(id: $id, after: $after) { position node { name } } }`;
const EVENTS = `subscription($after: Position) {
  events(after: $after, filter: { eventType: { in: ["platform.tenant.renamed"] } }) {
    position node { eventType changes { path new } } } }`;

/** Of the server with access tokens of 10 s. Stops it and starts it again. */
export async function life(server, checks) {
  const connectionParams = { Authorization: `Bearer ${server.token}` };
  const client = (options) =>
    createClient({ url: server.socketUrl, webSocketImpl: WebSocket, connectionParams, retryAttempts: 0, ...options });

  /** All results of an operation. */
  async function collect(on, query, variables) {
    const results = [];
    for await (const result of on.iterate({ query, variables })) results.push(result);
    return results;
  }

  /** What a client sends and gets, by type. */
  function overheard(options) {
    const heard = [];
    class Overheard extends WebSocket {
      send(text, ...more) {
        heard.push({ out: JSON.parse(text) });
        super.send(text, ...more);
      }
    }
    const on = client({ webSocketImpl: Overheard, ...options });
    on.on('message', (message) => heard.push({ in: message }));
    return { on, heard, types: () => heard.map((one) => (one.out ? `> ${one.out.type}` : `< ${one.in.type}`)) };
  }

  await checks.group({
    async 'a query and a mutation: next, complete'() {
      const { on, types } = overheard();
      assert.ok((await collect(on, QUERY))[0].data.me.actor);
      const { id } = await server.tenant('asked');
      const [{ data }] = await collect(on, RENAME, { id, name: 'asked again' });
      assert.deepEqual(data.renameTenant.userErrors, []);
      assert.deepEqual(types().slice(0, 5), ['> connection_init', '< connection_ack', '> subscribe', '< next', '< complete']);
    },
    async 'the introspection of the whole schema, and a schema made of it'() {
      const [{ data }] = await collect(client(), getIntrospectionQuery());
      assert.ok(buildClientSchema(data).getSubscriptionType().getFields().events);
    },
    async 'a document that is refused: error, nothing after it, and the id is free'() {
      const { on, types } = overheard({ generateID: () => 'one', lazyCloseTimeout: 5_000 });
      await assert.rejects(collect(on, '{ nothing }'), (errors) => errors[0].extensions.code === 'BAD_USER_INPUT');
      assert.ok((await collect(on, QUERY))[0].data.me.actor);
      const expected = ['> connection_init', '< connection_ack', '> subscribe', '< error', '> subscribe', '< next', '< complete'];
      assert.deepEqual(types(), expected);
      await on.dispose();
    },
    async 'a field that fails: next with errors, complete'() {
      const query = 'query($id: UUID!) { me { actor } tenant(id: $id) { name } account(id: $id) { name } }';
      const { id } = await server.tenant('partly');
      const [{ data, errors }] = await collect(client(), query, { id });
      assert.equal(data.tenant.name, 'partly');
      assert.ok(data.account === null, JSON.stringify(errors));
    },
    async 'a client that completes hears nothing more, and others on its socket go on'() {
      const { id, position } = await server.tenant('two hear');
      const { on, heard } = overheard({ lazyCloseTimeout: 5_000 });
      const leaving = on.iterate({ query: WATCH, variables: { id, after: position } });
      const staying = on.iterate({ query: WATCH, variables: { id, after: position } });
      await server.ask(RENAME, { id, name: 'first' });
      const names = [(await leaving.next()).value, (await staying.next()).value].map((v) => v.data.tenantChanged.node.name);
      assert.deepEqual(names, ['first', 'first']);
      await leaving.return();
      // Its answer says that everything before it was read.
      await collect(on, QUERY);
      const length = heard.length;
      const left = heard.find((one) => one.out?.type === 'complete').out.id;
      await server.ask(RENAME, { id, name: 'second' });
      assert.equal((await staying.next()).value.data.tenantChanged.node.name, 'second');
      await collect(on, QUERY);
      assert.ok(heard.slice(length).every((one) => one.in?.id !== left));
      await staying.return();
      await on.dispose();
    },
    async 'a socket is opened when the first asks and closed when the last has left'() {
      const { id } = await server.tenant('lazy');
      let [opened, closed] = [0, 0];
      const on = client({ on: { opened: () => (opened += 1), closed: () => (closed += 1) } });
      await sleep(50);
      assert.equal(opened, 0);
      const one = on.iterate({ query: WATCH, variables: { id } });
      const other = on.iterate({ query: WATCH, variables: { id } });
      const first = [one.next(), other.next()];
      await until('it is opened', () => opened === 1);
      await until('both hear', async () => {
        await server.ask(RENAME, { id, name: randomUUID() });
        return Promise.race([Promise.all(first), sleep(50)]);
      });
      await one.return();
      assert.deepEqual([opened, closed], [1, 0]);
      await other.return();
      await until('it is closed', () => closed === 1);
    },
    async 'one that is not lazy is there before anybody asks'() {
      let connected = false;
      const on = client({ lazy: false, on: { connected: () => (connected = true) } });
      await until('it is connected', () => connected);
      await on.dispose();
    },
    async 'pings are answered, before the acknowledgement as well, and with what they carried'() {
      let pongs = 0;
      const on = client({ lazy: false, keepAlive: 20, on: { pong: (received) => received && (pongs += 1) } });
      await until('three pongs', () => pongs >= 3);
      await on.dispose();
      const socket = new WebSocket(server.socketUrl, 'graphql-transport-ws');
      const said = [];
      socket.on('message', (text) => said.push(JSON.parse(text)));
      socket.on('open', () => {
        socket.send(JSON.stringify({ type: 'ping' }));
        socket.send(JSON.stringify({ type: 'ping', payload: { a: [1] } }));
        socket.send(JSON.stringify({ type: 'pong', payload: { nobody: 'asked' } }));
        socket.ping('below');
      });
      socket.on('pong', (data) => said.push(data.toString()));
      await until('three answers', () => said.length === 3);
      assert.deepEqual(said, [{ type: 'pong' }, { type: 'pong', payload: { a: [1] } }, 'below']);
      socket.close();
    },
  });

  /** One client, however often it is cut: `cause(n)` is called after the n-th of so many changes. */
  async function unbroken({ changes, watch, options, cause, name }) {
    const { id, position } = await server.tenant(name);
    // Read anew by the client at each try: it goes on after what it has seen.
    const variables = { id, after: position };
    const seen = [];
    let failed;
    const on = client({ retryAttempts: 1_000, retryWait: () => sleep(20), shouldRetry: () => true, ...options(id) });
    const stop = on.subscribe(
      { query: watch(id).query, variables },
      {
        next({ data, errors }) {
          if (errors) return void (failed = errors);
          const item = Object.values(data)[0];
          variables.after = item.position;
          if (item.node) seen.push(watch(id).name(item));
        },
        error: (error) => (failed = error),
        complete() {},
      },
    );
    for (let n = 1; n <= changes; n += 1) {
      const command = randomUUID();
      // Whatever happens on the way: the same command, until it is answered.
      await until('the command is answered', async () => {
        try {
          const { data } = await server.try(RENAME, { id, name: `name ${n}`, command });
          return data?.renameTenant?.position;
        } catch {
          return null;
        }
      });
      await cause(n);
    }
    await until('everything is seen', () => {
      if (failed) throw new Error(JSON.stringify(failed));
      return seen.length >= changes;
    });
    // One more would be behind this.
    await sleep(200);
    stop();
    await on.dispose();
    assert.deepEqual(seen, Array.from({ length: changes }, (_, n) => `name ${n + 1}`));
  }

  const changed = () => ({ query: WATCH, name: (item) => item.node.name });
  const events = () => ({ query: EVENTS, name: (item) => item.node.changes.find((c) => c.path[0] === 'name').new });

  await checks.group(
    {
      async 'a wire that is cut again and again: no gap, no duplicate'() {
        const wire = await Wire.to(server.port);
        await unbroken({
          name: 'cut',
          changes: 100,
          watch: changed,
          options: () => ({ url: wire.url }),
          cause: async (n) => {
            if (n % 5 === 0) wire.cut();
            await sleep(n % 7);
          },
        });
        assert.ok(wire.cuts >= 10, `${wire.cuts} cuts`);
        wire.close();
      },
      async 'a token that runs out twice: the client takes a new one and goes on'() {
        const { id } = await server.tenant('renewed');
        const somebody = await server.person(id, 'renews');
        let [logins, closed] = [0, []];
        await unbroken({
          name: 'watched while tokens run out',
          changes: 24,
          watch: changed,
          options: (watched) => ({
            connectionParams: async () => {
              logins += 1;
              if (logins === 1) await server.ask(
                `mutation($t: UUID!, $a: UUID!) { addMember(input: {tenant: $t, account: $a, roles: [VIEWER]}) {
                  userErrors { message } } }`,
                { t: watched, a: somebody.account },
              );
              const { accessToken } = await server.login({ ...somebody, tenant: watched });
              return { Authorization: `Bearer ${accessToken}` };
            },
            on: { closed: ({ code }) => closed.push(code) },
          }),
          cause: () => sleep(1_000),
        });
        assert.ok(logins >= 3, `${logins} logins`);
        assert.deepEqual(closed.slice(0, 2), [4403, 4403]);
      },
    },
    60,
  );

  const codes = [];
  const told = { on: { closed: ({ code, reason }) => codes.push({ code, reason: String(reason) }) } };
  await checks.group(
    {
      async '1001: the server stops and starts; 1006: it is killed and starts: no gap, no duplicate'() {
        await unbroken({
          name: 'restarted',
          changes: 30,
          watch: changed,
          options: () => told,
          cause: async (n) => {
            if (n !== 10 && n !== 20) return;
            await server.stop(n === 10 ? 'SIGTERM' : 'SIGKILL');
            await server.run();
          },
        });
        assert.deepEqual(codes[0], { code: 1001, reason: 'The server is stopping: connect again' });
        assert.ok(codes.some(({ code }) => code === 1006));
      },
    },
    90,
  );
  await checks.group({
    async 'the events of the tenant, from a position of before the server was killed'() {
      const { id, position } = await server.tenant('heard');
      await server.ask(RENAME, { id, name: 'once' });
      const somebody = await server.person(id, 'hears');
      const { accessToken } = await server.login(somebody);
      const on = client({ connectionParams: { Authorization: `Bearer ${accessToken}` } });
      const items = on.iterate({ query: events().query, variables: { after: position } });
      assert.equal(events().name((await items.next()).value.data.events), 'once');
      await server.stop('SIGKILL');
      await server.run();
      await assert.rejects(items.next(), (event) => event.code === 1006);
      await server.ask(RENAME, { id, name: 'twice' });
      const again = client({ connectionParams: { Authorization: `Bearer ${accessToken}` } });
      const rest = again.iterate({ query: events().query, variables: { after: position } });
      for (const name of ['once', 'twice']) assert.equal(events().name((await rest.next()).value.data.events), name);
      await rest.return();
    },
  });
}
