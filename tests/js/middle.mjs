// What stands between a client and the server: a wire that can be cut, and a man who changes what is said.
import { createServer, connect } from 'node:net';
import { once } from 'node:events';
import WebSocket, { WebSocketServer } from 'ws';

/** Carries bytes to a port; `cut()` tears every connection without a goodbye. */
export class Wire {
  static async to(port) {
    const wire = new Wire();
    wire.ends = new Set();
    wire.cuts = 0;
    wire.server = createServer((near) => {
      const far = connect(port, '127.0.0.1');
      wire.ends.add(near);
      const gone = () => {
        near.destroy();
        far.destroy();
        wire.ends.delete(near);
      };
      for (const end of [near, far]) end.on('error', gone).on('close', gone);
      near.pipe(far).pipe(near);
    }).listen(0, '127.0.0.1');
    await once(wire.server, 'listening');
    wire.url = `ws://127.0.0.1:${wire.server.address().port}/graphql`;
    return wire;
  }

  cut() {
    this.cuts += this.ends.size;
    for (const end of this.ends) end.resetAndDestroy();
  }

  close() {
    this.cut();
    this.server.close();
  }
}

/** Hands messages and close codes on; `change(text)` says what the client gets instead of a message, null: nothing. */
export class Liar {
  static async before(url, change) {
    const liar = new Liar();
    liar.server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    await once(liar.server, 'listening');
    liar.url = `ws://127.0.0.1:${liar.server.address().port}/graphql`;
    // The code with which the server answered the close of the client.
    liar.answered = new Promise((resolve) => {
      liar.server.on('connection', (near) => {
        const far = new WebSocket(url, near.protocol);
        const waiting = [];
        far.on('open', () => waiting.forEach((text) => far.send(text)));
        near.on('message', (data) => {
          if (far.readyState === WebSocket.OPEN) far.send(data.toString());
          else waiting.push(data.toString());
        });
        far.on('message', (data) => {
          const text = change(data.toString());
          if (text !== null) near.send(text);
        });
        near.on('close', (code, reason) => {
          const close = () => far.close(code, reason.toString());
          if (far.readyState === WebSocket.CONNECTING) far.once('open', close);
          else close();
        });
        far.on('close', (code) => {
          resolve(code);
          near.close();
        });
        for (const end of [near, far]) end.on('error', () => {});
      });
    });
    return liar;
  }

  close() {
    this.server.close();
  }
}
