// Takes the picture of the running demo that the README shows.
//   node picture.mjs URL TOKEN FILE       (URL of /graphql; CHROMIUM names the browser if it is not on the PATH)
import { execFileSync } from 'node:child_process';
import { chromium } from 'playwright-core';

const [url, token, file] = process.argv.slice(2);
if (!url || !token || !file) {
  console.error('usage: node picture.mjs URL TOKEN FILE');
  process.exit(2);
}
const executablePath =
  process.env.CHROMIUM ?? execFileSync('sh', ['-c', 'command -v chromium'], { encoding: 'utf8' }).trim();
const QUERY = `{
  grants(first: 3, filter: { allowedNow: { eq: true } }) {
    nodes { role until member { roles } module { name } }
  }
  devices(first: 3) { nodes { name kind serial } }
  auditTrail(first: 2) { nodes { recordedAt eventType command } }
}`;
const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--disable-background-networking'],
});
const page = await browser.newPage({ viewport: { width: 1200, height: 720 } });
await page.goto(`${new URL('graphiql', url).href}#token=${token}`);
await page.locator('header output', { hasText: 'Token accepted' }).waitFor();
await page.getByRole('region', { name: 'Query Editor' }).locator('.CodeMirror').first().click();
await page.keyboard.press('ControlOrMeta+A');
await page.keyboard.insertText(QUERY);
await page.getByRole('button', { name: /^Execute query/ }).click();
await page.getByRole('region', { name: 'Result Window' }).locator('.CodeMirror-code', { hasText: 'grants' }).waitFor();
await page.screenshot({ path: file });
await browser.close();
