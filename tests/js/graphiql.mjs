// The query page as a person meets it, in headless Chromium: a token, a query by click, a subscription that a change by
// somebody else reaches. Nothing may leave the origin, nothing may break the page's own policy.
//   node graphiql.mjs URL TOKEN       (URL of /graphql; CHROMIUM names the browser if it is not on the PATH)
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { buildClientSchema, getIntrospectionQuery, parse, validate } from 'graphql';
import { chromium } from 'playwright-core';

const [url, token] = process.argv.slice(2);
if (!url || !token) {
  console.error('usage: node graphiql.mjs URL TOKEN');
  process.exit(2);
}
const pageUrl = new URL('graphiql', url).href;
const { origin, host } = new URL(url);
/** How long a condition may take to come true; longer is a failure. */
const PATIENCE_MS = 30_000;

function browserPath() {
  for (const name of [process.env.CHROMIUM, 'chromium', 'chromium-browser', 'google-chrome'].filter(Boolean)) {
    try {
      return execFileSync('sh', ['-c', 'command -v "$1"', 'sh', name], { encoding: 'utf8' }).trim();
    } catch {
      // Not this one.
    }
  }
  throw new Error('no Chromium: install it (Debian: apt-get install chromium) or name it in CHROMIUM');
}

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

const REGISTER = 'mutation($name: String!) { registerTenant(input: {name: $name}) { tenant { id } position } }';
const RENAME = 'mutation($id: UUID!, $name: String!) { renameTenant(input: {id: $id, name: $name}) { position userErrors { code } } }';

const browser = await chromium.launch({
  executablePath: browserPath(),
  // As root there is no sandbox to be had, and containers have a small /dev/shm.
  args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--disable-background-networking'],
});

/** A page of a browser that has never been here, and what it did. */
async function visit(address = pageUrl, prepare = async () => {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  await prepare(page);
  const told = { requests: [], sockets: [], complaints: [] };
  page.on('request', (request) => told.requests.push(request));
  page.on('websocket', (socket) => {
    const frames = [];
    socket.on('framesent', ({ payload }) => frames.push(JSON.parse(payload)));
    told.sockets.push({ url: socket.url(), frames });
  });
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) told.complaints.push(message.text());
  });
  page.on('pageerror', (error) => told.complaints.push(`${error}`));
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => {
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
    });
  });
  await page.goto(address);
  return { page, told, close: () => context.close() };
}

/** What holds for every visit: nobody else was asked, the token is in no URL, the console is silent. */
function assertClean({ requests, sockets, complaints }) {
  const urls = [...requests.map((request) => request.url()), ...sockets.map((socket) => socket.url)];
  const elsewhere = urls.filter((to) => !to.startsWith('data:') && new URL(to).host !== host);
  assert.deepEqual(elsewhere, [], 'requests left the origin');
  assert.deepEqual(urls.filter((to) => to.includes(token)), [], 'the token is in a URL');
  assert.deepEqual(complaints, [], 'the console is not silent');
}

const standing = (page, text) => page.locator('header output', { hasText: text }).waitFor();
const answer = (page) => page.getByRole('region', { name: 'Result Window' });
const execute = (page) => page.getByRole('button', { name: /^Execute query/ });
const seen = (page, text) => answer(page).locator('.CodeMirror-code', { hasText: text }).waitFor();

/** Types a text into one of GraphiQL's editors, as a paste would. */
async function fill(page, label, text) {
  await page.getByRole('region', { name: label }).locator('.CodeMirror').first().click();
  await page.keyboard.press('ControlOrMeta+A');
  await page.keyboard.insertText(text);
}

async function openExample(page, name) {
  await page.getByRole('button', { name: 'Examples' }).click();
  await page.getByRole('menuitem', { name, exact: true }).click();
}

const checks = {
  async 'a query is run by a click, with a token typed into the page'() {
    const name = `clicked ${process.hrtime.bigint()}`;
    const { tenant } = (await ask(REGISTER, { name })).registerTenant;
    const { page, told, close } = await visit();
    await standing(page, 'No token yet');
    await execute(page).click();
    await seen(page, 'paste one into the field');
    await page.getByLabel('Token').fill(token);
    await page.getByRole('button', { name: 'Use', exact: true }).click();
    await standing(page, 'Token accepted');
    // The offered query, then one of the person's own; the editor shows only the lines in sight.
    await execute(page).click();
    await seen(page, 'nodes');
    await fill(page, 'Query Editor', `{ tenant(id: "${tenant.id}") { name } }`);
    await execute(page).click();
    await seen(page, name);

    // The tab remembers the token, and nothing else does.
    assert.deepEqual(await page.evaluate(() => Object.values(sessionStorage)), [token]);
    assert.equal(await page.evaluate((secret) => JSON.stringify(localStorage).includes(secret), token), false);
    assert.equal(await page.evaluate(() => document.cookie), '');
    await page.reload();
    await standing(page, 'Token accepted');
    const other = await page.context().newPage();
    await other.goto(pageUrl);
    await standing(other, 'No token yet');
    assertClean(told);
    await close();
  },

  async 'a link carries the token in its fragment, and the address bar forgets it'() {
    const { page, told, close } = await visit(`${pageUrl}#token=${token}`);
    await standing(page, 'Token accepted');
    assert.equal(page.url(), pageUrl);
    assertClean(told);
    await close();
  },

  async 'a subscription shows the change that another client makes'() {
    const { tenant, position } = (await ask(REGISTER, { name: 'watched' })).registerTenant;
    const { page, told, close } = await visit(`${pageUrl}#token=${token}`);
    await standing(page, 'Token accepted');
    await openExample(page, 'Watch a tenant');
    await fill(page, 'Variables', JSON.stringify({ id: tenant.id, after: position }));
    await execute(page).click();
    const stop = page.getByRole('button', { name: /^Stop query/ });
    await stop.waitFor();
    for (const name of ['first change', 'second change']) {
      await ask(RENAME, { id: tenant.id, name });
      await seen(page, name);
    }
    await stop.click();
    await execute(page).waitFor();

    const [{ url: socketUrl, frames }] = told.sockets;
    assert.equal(socketUrl, url.replace(/^http/, 'ws'));
    assert.deepEqual(frames[0], { type: 'connection_init', payload: { Authorization: `Bearer ${token}` } });
    assertClean(told);
    await close();
  },

  async 'a subscription that is cut says so and is not quietly made anew'() {
    const { tenant, position } = (await ask(REGISTER, { name: 'cut' })).registerTenant;
    const routes = [];
    const { page, told, close } = await visit(`${pageUrl}#token=${token}`, (page) =>
      page.routeWebSocket(url.replace(/^http/, 'ws'), (route) => {
        routes.push(route);
        route.connectToServer();
      }),
    );
    await standing(page, 'Token accepted');
    await openExample(page, 'Watch a tenant');
    await fill(page, 'Variables', JSON.stringify({ id: tenant.id, after: position }));
    await execute(page).click();
    await ask(RENAME, { id: tenant.id, name: 'before the cut' });
    await seen(page, 'before the cut');
    await routes[0].close({ code: 1001, reason: 'Going away' });
    await seen(page, 'closed with 1001 (Going away)');
    await execute(page).waitFor();
    assert.equal(routes.length, 1);
    assertClean(told);
    await close();
  },

  async 'the documentation, the completion and the dialogs work under the strict policy'() {
    const { page, told, close } = await visit(`${pageUrl}#token=${token}`);
    await standing(page, 'Token accepted');
    await page.getByRole('button', { name: 'Show Documentation Explorer' }).click();
    await page.locator('.graphiql-doc-explorer', { hasText: 'tenantChanged' }).or(page.getByText('Root Types')).first().waitFor();
    await fill(page, 'Query Editor', '{ tena');
    await page.keyboard.press('Control+Space');
    await page.locator('.CodeMirror-hints', { hasText: 'tenants' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Open settings dialog' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Dark' }).click();
    await page.locator('body.graphiql-dark').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
    await page.getByRole('button', { name: 'Open short keys dialog' }).click();
    await page.getByRole('dialog').waitFor();
    assertClean(told);
    await close();
  },

  async 'every example of the menu opens and is valid in the schema'() {
    const schema = buildClientSchema(await ask(getIntrospectionQuery()));
    const { page, told, close } = await visit(`${pageUrl}#token=${token}`);
    await standing(page, 'Token accepted');
    const { examples } = JSON.parse(await page.locator('#settings').textContent());
    assert.ok(examples.length >= 3);
    for (const { name, query } of examples) {
      assert.deepEqual(validate(schema, parse(query)).map((error) => error.message), [], name);
      await openExample(page, name);
      const [operation] = parse(query).definitions;
      await page.getByRole('region', { name: 'Query Editor' }).locator('.CodeMirror-code', { hasText: operation.name.value }).waitFor();
    }
    assert.equal(await page.getByRole('tab').count(), 2 * examples.length);
    assertClean(told);
    await close();
  },

  async 'a wrong token is called refused'() {
    const { page, told, close } = await visit(`${pageUrl}#token=wrong`);
    await standing(page, 'Token refused');
    // The browser itself notes the 401s.
    const others = told.complaints.filter((text) => !text.includes('401'));
    assertClean({ ...told, complaints: others });
    await close();
  },

  async 'the script comes compressed, is kept for ever and may not be framed'() {
    const { page, told, close } = await visit();
    await standing(page, 'No token yet');
    const script = told.requests.find((request) => request.resourceType() === 'script');
    const headers = await (await script.response()).allHeaders();
    assert.equal(headers['content-encoding'], 'gzip');
    assert.match(headers['cache-control'], /immutable/);
    const framed = await fetch(pageUrl);
    assert.match(framed.headers.get('content-security-policy'), /frame-ancestors 'none'/);
    assert.doesNotMatch(framed.headers.get('content-security-policy'), /unsafe/);
    assert.equal(new URL(script.url()).origin, origin);
    await close();
  },
};

let failed = 0;
try {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}\n${error?.stack ?? error}`);
    }
  }
} finally {
  await browser.close();
}
const total = Object.keys(checks).length;
console.log(`GraphiQL in Chromium: ${total - failed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
