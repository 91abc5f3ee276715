// How GraphiQL reaches Daybook: queries and mutations by POST, subscriptions over graphql-transport-ws.

import { getOperationAST, parse } from 'graphql';
import { createClient } from 'graphql-ws';

const NO_TOKEN = 'No token yet: paste one into the field at the top of the page.';

/** What `tell` is told about the token. */
export const Standing = { none: 'none', unknown: 'unknown', accepted: 'accepted', refused: 'refused' };

/**
 * A fetcher for one token; `close` ends its sockets.
 * @param {string} endpoint absolute URL of `/graphql`
 * @param {string} token
 * @param {(standing: string) => void} tell
 */
export function createFetcher(endpoint, token, tell) {
  // Asking without a token would only be refused, and fill the console.
  if (!token) return { fetcher: async () => ({ errors: [{ message: NO_TOKEN }] }), close() {} };

  const authorization = `Bearer ${token}`;
  const socket = createClient({
    url: endpoint.replace(/^http/, 'ws'),
    connectionParams: { Authorization: authorization },
    // A subscription that is quietly made anew would have a gap: only the person knows after which position to go on.
    retryAttempts: 0,
  });

  async function post(params, headers) {
    const response = await fetch(endpoint, {
      method: 'POST',
      credentials: 'omit',
      headers: {
        ...headers,
        accept: 'application/graphql-response+json, application/json;q=0.9',
        'content-type': 'application/json',
        authorization,
      },
      body: JSON.stringify(params),
    });
    tell(response.status === 401 ? Standing.refused : Standing.accepted);
    const text = await response.text();
    try {
      return JSON.parse(text);
    } catch {
      return { errors: [{ message: `HTTP ${response.status} instead of JSON: ${text.slice(0, 500)}` }] };
    }
  }

  const listen = (params) => ({
    subscribe(observer) {
      const unsubscribe = socket.subscribe(params, {
        next(result) {
          tell(Standing.accepted);
          observer.next(result);
        },
        error(error) {
          if (error?.code === 4403) tell(Standing.refused);
          observer.next(Array.isArray(error) ? { errors: error } : { errors: [{ message: ended(error) }] });
          observer.complete();
        },
        complete: () => observer.complete(),
      });
      return { unsubscribe };
    },
  });

  const fetcher = ({ query, variables, operationName }, { headers } = {}) => {
    const { kind, name } = operationOf(query, operationName);
    const params = { query, variables, operationName: name };
    return kind === 'subscription' ? listen(params) : post(params, headers);
  };
  return { fetcher, close: () => socket.dispose() };
}

/**
 * What to run. GraphiQL looks at the text a moment after it was changed: who pastes and runs at once is told the name
 * of the operation that stood there before.
 */
function operationOf(query, told) {
  try {
    const document = parse(query);
    const operation = getOperationAST(document, told) ?? getOperationAST(document);
    return { kind: operation?.operation, name: operation ? operation.name?.value : told };
  } catch {
    // The server says what is wrong with it.
    return { kind: undefined, name: told };
  }
}

function ended(error) {
  if (typeof error?.code !== 'number') return `The socket could not be opened: ${error?.message ?? 'no reason given'}`;
  const reason = error.reason ? ` (${error.reason})` : '';
  return `The socket was closed with ${error.code}${reason}. To go on without a gap, run it again with the last position as \`after\`.`;
}
