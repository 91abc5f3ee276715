// A `daybook serve` of one's own, and the people in it.
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { join } from 'node:path';

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `condition` holds; `what` is told when it does not within 20 s. */
export async function until(what, condition) {
  const end = Date.now() + 20_000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited 20 s in vain: ${what}`);
    await sleep(20);
  }
}

export class Server {
  /** `settings`: the text of daybook.toml. */
  static async start(program, directory, settings) {
    const server = new Server();
    server.program = program;
    server.data = join(directory, 'data');
    mkdirSync(directory, { recursive: true });
    chmodSync(directory, 0o755);
    server.config = join(directory, 'daybook.toml');
    writeFileSync(server.config, settings);
    server.port = 0;
    await server.run();
    server.token = readFileSync(join(server.data, 'admin.token'), 'utf8').trim();
    return server;
  }

  /** Starts it, on the same port if it ran before. */
  async run() {
    const { DATABASE_URL: _, ...env } = process.env;
    const args = ['serve', '--data-dir', this.data, '--config', this.config, '--listen', `127.0.0.1:${this.port}`];
    this.process = spawn(this.program, args, { env: { ...env, DAYBOOK_LOG: 'warn' }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.ended = new Promise((resolve) => this.process.once('exit', resolve));
    let [said, log] = ['', ''];
    this.process.stdout.on('data', (text) => (said += text));
    this.process.stderr.on('data', (text) => (log += text));
    const url = await until('the server listens', () => {
      if (this.process.exitCode !== null) throw new Error(`the server ended:\n${log}`);
      return said.match(/listens on (\S+)/)?.[1];
    });
    this.port = Number(new URL(url).port);
    this.url = url;
    this.socketUrl = url.replace(/^http/, 'ws');
    await until('the server is ready', async () => (await this.get('/health/ready')).ok);
  }

  get(path, headers = {}) {
    return fetch(new URL(path, this.url), { headers });
  }

  /** Ends it as an operator does, or without a goodbye. */
  async stop(signal = 'SIGTERM') {
    this.process.kill(signal);
    await this.ended;
  }

  /** The data of an operation that must succeed. */
  async ask(query, variables, token = this.token) {
    const body = await this.try(query, variables, token);
    assert.equal(body.errors, undefined, JSON.stringify(body.errors));
    for (const field of Object.values(body.data)) assert.deepEqual(field?.userErrors ?? [], [], query);
    return body.data;
  }

  async try(query, variables, token = this.token) {
    const response = await fetch(this.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: JSON.stringify({ query, variables }),
    });
    return response.json();
  }

  async tenant(name) {
    const query =
      'mutation($n: String!) { registerTenant(input: {name: $n}) { position tenant { id } userErrors { message } } }';
    const { tenant, position } = (await this.ask(query, { n: name })).registerTenant;
    return { id: tenant.id, position };
  }

  /** Somebody who works in the tenant and can log in. */
  async person(tenant, name) {
    const email = `${name}@example.com`;
    const [password, e] = [`the password of ${name}`, 'userErrors { message }'];
    const { registerAccount } = await this.ask(
      `mutation($n: String!, $m: String!) { registerAccount(input: {name: $n, email: $m}) { account { id } ${e} } }`,
      { n: name, m: email },
    );
    const account = registerAccount.account.id;
    await this.ask(`mutation($a: UUID!, $p: String!) { setPassword(input: {account: $a, password: $p}) { ${e} } }`, {
      a: account,
      p: password,
    });
    const { addMember } = await this.ask(
      `mutation($t: UUID!, $a: UUID!) { addMember(input: {tenant: $t, account: $a, roles: [TENANT_ADMIN]}) {
        member { id } ${e} } }`,
      { t: tenant, a: account },
    );
    return { account, member: addMember.member.id, email, password };
  }

  /** The tokens of a login. */
  async login({ email, password, tenant }) {
    const response = await fetch(new URL('/auth/login', this.url), {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ email, password, tenant }),
    });
    const tokens = await response.json();
    assert.equal(response.status, 200, JSON.stringify(tokens));
    return tokens;
  }

  /** Sockets and event streams that are open, as the server counts them. */
  async open() {
    const text = await (await this.get('/metrics')).text();
    return Number(text.match(/^\S*sockets_open(?:\{\})? (\S+)$/m)[1]);
  }
}

/** Carries out named checks, those of a group at once; exits with 1 when one fails. */
export class Checks {
  count = 0;
  failed = 0;

  async group(checks, seconds = 30) {
    await Promise.all(
      Object.entries(checks).map(async ([name, check]) => {
        let timer;
        const late = new Promise((_, reject) => {
          timer = setTimeout(() => reject(new Error(`it does not end within ${seconds} s`)), seconds * 1000);
        });
        this.count += 1;
        const since = Date.now();
        try {
          await Promise.race([check(), late]);
          console.log(`ok   ${name} (${Date.now() - since} ms)`);
        } catch (error) {
          this.failed += 1;
          console.log(`FAIL ${name}:`, error instanceof Error ? error : { code: error?.code, reason: error?.reason });
        }
        clearTimeout(timer);
      }),
    );
  }

  /** Tells how it went; the exit code. */
  end(what) {
    console.log(`${what}: ${this.count} checks, ${this.failed} failed`);
    return this.failed || this.count === 0 ? 1 : 0;
  }
}
