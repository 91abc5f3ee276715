// The bearer token of this tab: kept in sessionStorage, which ends with the tab, and in no cookie, so that no other
// page can make the browser send it.

const KEY = 'daybook:token';

/**
 * The token of `#token=…`, taken out of the address bar and the history, else the one this tab has used before. A
 * fragment is never sent to a server.
 */
export function initialToken() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const told = parameters.get('token');
  if (told === null) return sessionStorage.getItem(KEY) ?? '';
  parameters.delete('token');
  const rest = parameters.toString();
  history.replaceState(null, '', location.pathname + location.search + (rest && `#${rest}`));
  keepToken(told.trim());
  return told.trim();
}

export function keepToken(token) {
  if (token) sessionStorage.setItem(KEY, token);
  else sessionStorage.removeItem(KEY);
}
