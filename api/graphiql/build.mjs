// Bundles the page into `assets/`: one script, one style sheet, the licences of what is in them; each compressed by a
// pinned compressor, so that the same lock file gives the same bytes on every machine.

import { build } from 'esbuild';
import { gzip } from 'pako';
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const assets = join(here, 'assets');
/** Licences that may be in the bundle; another one is a decision, not an update. */
const WELCOME = new Set(['MIT', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', 'Apache-2.0', '0BSD', 'Python-2.0']);

/** The style sheet embeds 34 fonts, which are nine tenths of it; `page.css` names the machine's instead. */
const withoutFonts = {
  name: 'without-fonts',
  setup(plugins) {
    plugins.onLoad({ filter: /graphiql\/dist\/style\.css$/ }, async ({ path }) => {
      const contents = (await readFile(path, 'utf8')).replace(/@font-face\s*\{[^}]*\}/g, '');
      return { contents, loader: 'css' };
    });
  },
};

const result = await build({
  absWorkingDir: here,
  entryPoints: { graphiql: 'src/main.jsx' },
  outdir: 'out',
  write: false,
  bundle: true,
  minify: true,
  metafile: true,
  format: 'iife',
  target: 'es2022',
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"' },
  legalComments: 'none',
  alias: { 'react-style-singleton': './src/no_style.js' },
  plugins: [withoutFonts],
});

/** The licence of a package that names it and carries no text of it. */
async function unwritten({ name, version, license, author, repository }) {
  if (license !== 'MIT') throw new Error(`${name} ${version} carries no text of its licence (${license}): add one here`);
  const holder = author?.name ?? author ?? `the authors of ${repository?.url ?? name}`;
  return `Copyright (c) ${holder}\n\n${await readFile(join(here, 'mit.txt'), 'utf8')}`;
}

/** Texts of the licences of every package that gave the bundle at least a byte. */
async function licences() {
  const folders = new Set();
  for (const output of Object.values(result.metafile.outputs)) {
    for (const [input, { bytesInOutput }] of Object.entries(output.inputs)) {
      const folder = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0];
      if (folder && bytesInOutput > 0) folders.add(folder);
    }
  }
  const parts = [];
  for (const folder of [...folders].sort()) {
    const about = JSON.parse(await readFile(join(here, folder, 'package.json'), 'utf8'));
    const { name, version, license } = about;
    if (!WELCOME.has(license)) throw new Error(`${name} ${version} is under ${license}: allow it in build.mjs or do without`);
    const files = (await readdir(join(here, folder))).filter((file) => /^(licen[cs]e|notice|copying)/i.test(file)).sort();
    const texts = await Promise.all(files.map((file) => readFile(join(here, folder, file), 'utf8')));
    if (texts.length === 0) texts.push(await unwritten(about));
    parts.push([`${name} ${version} (${license})`, ...texts.map((text) => text.trim())].join('\n\n'));
  }
  return `This page contains the packages below.\n\n${parts.join(`\n\n${'-'.repeat(80)}\n\n`)}\n`;
}

const files = result.outputFiles.map(({ path, contents }) => [basename(path), contents]);
files.push(['licences.txt', new TextEncoder().encode(await licences())]);
await rm(assets, { recursive: true, force: true });
await mkdir(assets);
for (const [name, contents] of files.sort()) {
  const packed = gzip(contents, { level: 9, memLevel: 9 });
  await writeFile(join(assets, `${name}.gz`), packed);
  console.log(`${name}: ${contents.length} bytes, ${packed.length} compressed`);
}
