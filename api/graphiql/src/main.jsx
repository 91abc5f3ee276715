// The page: a bar with the token, GraphiQL below it. What the server tells the page stands in `#settings`:
//   { endpoint, examples: [{ name, query, variables? }] }

import 'graphiql/style.css';
import './page.css';

import { ToolbarMenu, useEditorContext } from '@graphiql/react';
import { GraphiQL } from 'graphiql';
import { useEffect, useMemo, useState } from 'react';
import { flushSync } from 'react-dom';
import { createRoot } from 'react-dom/client';

import { createFetcher, Standing } from './fetcher.js';
import { initialToken, keepToken } from './token.js';

const settings = JSON.parse(document.getElementById('settings').textContent);
const endpoint = new URL(settings.endpoint, document.baseURI).href;
const examples = settings.examples.map(({ query, variables }) => ({ query, variables: pretty(variables) }));
const licences = new URL('licences.txt', document.currentScript.src).href;

function pretty(variables) {
  return variables == null ? null : JSON.stringify(variables, null, 2);
}

function Page() {
  const [token, setToken] = useState(initialToken);
  const [standing, setStanding] = useState(Standing.none);
  const { fetcher, close } = useMemo(() => createFetcher(endpoint, token, setStanding), [token]);

  useEffect(() => {
    setStanding(token ? Standing.unknown : Standing.none);
    return close;
  }, [token, close]);
  useEffect(() => {
    // Following a link with another token in this tab loads nothing: only the fragment differs.
    const follow = () => setToken(initialToken());
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);

  const use = (next) => {
    keepToken(next);
    setToken(next);
  };
  return (
    <>
      <Bar key={token} token={token} standing={standing} use={use} />
      <main>
        <GraphiQL fetcher={fetcher} defaultTabs={examples} shouldPersistHeaders={false} defaultEditorToolsVisibility>
          <GraphiQL.Logo>Daybook</GraphiQL.Logo>
          <GraphiQL.Toolbar>
            {({ prettify, merge, copy }) => (
              <>
                {prettify}
                {merge}
                {copy}
                {settings.examples.length > 0 && <Examples />}
              </>
            )}
          </GraphiQL.Toolbar>
        </GraphiQL>
      </main>
    </>
  );
}

const SAYING = {
  [Standing.none]: 'No token yet',
  [Standing.unknown]: 'Asking the server …',
  [Standing.accepted]: 'Token accepted',
  [Standing.refused]: 'Token refused',
};

function Bar({ token, standing, use }) {
  const [text, setText] = useState(token);
  const submit = (event) => {
    event.preventDefault();
    use(text.trim());
  };
  return (
    <header>
      <form onSubmit={submit}>
        <label htmlFor="token">Token</label>
        <input
          id="token"
          type="password"
          autoComplete="off"
          spellCheck={false}
          placeholder="Bearer token, kept in this tab only"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <button type="submit">Use</button>
        <output htmlFor="token" data-standing={standing}>
          {SAYING[standing]}
        </output>
      </form>
      <a href={licences}>Licences</a>
    </header>
  );
}

const icon = (
  <svg className="graphiql-toolbar-icon" viewBox="0 0 20 20" fill="none" stroke="currentColor" aria-hidden="true">
    <path d="M3 5h14M3 10h14M3 15h9" strokeWidth="1.5" strokeLinecap="round" />
  </svg>
);

/** Opens an example in a tab of its own: GraphiQL restores the last visit's tabs instead of the default ones. */
function Examples() {
  const { addTab, queryEditor, variableEditor } = useEditorContext({ nonNull: true });
  const open = (index) => {
    // The new tab must be the active one before the editors are filled, or the old one would get the text.
    flushSync(addTab);
    queryEditor?.setValue(examples[index].query);
    variableEditor?.setValue(examples[index].variables ?? '');
  };
  return (
    <ToolbarMenu label="Examples" button={icon}>
      {settings.examples.map(({ name }, index) => (
        <ToolbarMenu.Item key={name} onSelect={() => open(index)}>
          {name}
        </ToolbarMenu.Item>
      ))}
    </ToolbarMenu>
  );
}

createRoot(document.getElementById('daybook')).render(<Page />);
