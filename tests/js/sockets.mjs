// graphql-transport-ws, judged by the client of the `graphql-ws` package against the server itself: every close code, and
// normal life.
//   node sockets.mjs PROGRAM DIRECTORY
// PROGRAM is `daybook`; it is started and stopped here, with its data below DIRECTORY. Exits with 0 when every check passes.
import { closes } from './closes.mjs';
import { life } from './life.mjs';
import { Checks, Server } from './server.mjs';

const [program, directory] = process.argv.slice(2);
if (!program || !directory) {
  console.error('usage: node sockets.mjs PROGRAM DIRECTORY');
  process.exit(2);
}
const checks = new Checks();
// As short as it may be, so that a token can run out here.
const server = await Server.start(program, directory, '[identity]\naccess_token_s = 10\n');
process.on('exit', () => server.process.kill('SIGTERM'));
try {
  await closes(server, checks);
  await life(server, checks);
} finally {
  await server.stop();
}
process.exit(checks.end('graphql-ws'));
