// Stands in for `react-style-singleton`, with which the dialogs and menus write a style element into the page to keep it
// from scrolling behind them: this page does not scroll, and its policy forbids inline styles.

const nothing = () => null;

export const styleSingleton = () => nothing;
export const styleHookSingleton = () => nothing;
export const stylesheetSingleton = () => ({ add() {}, remove() {} });
