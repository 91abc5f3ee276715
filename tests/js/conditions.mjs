// The condition language, judged by Cedar: node conditions.mjs <file of cases>
// The file is written by `cargo test -p daybook-projections --test conditions` with DAYBOOK_CONDITION_FILE set: what a condition
// says in memory and in PostgreSQL. Here each condition becomes two Cedar policies, "it is true" and "it is false"; where
// neither permits, it is unknown. Cedar does not order texts: there, two texts are compared by Cedar as their ranks among all
// texts of the case, ranked here by code point.
// Exits with 0 when all three agree on every case.
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { isAuthorized } from '@cedar-policy/cedar-wasm/nodejs';

const [path] = process.argv.slice(2);
if (!path) {
  console.error('usage: node conditions.mjs <file>');
  process.exit(2);
}

// Nothing but letters and digits stands for itself, so that no text means anything to Cedar.
const escaped = (text) =>
  [...text].map((c) => (/[A-Za-z0-9]/.test(c) ? c : `\\u{${c.codePointAt(0).toString(16)}}`)).join('');
const quoted = (text) => `"${escaped(text)}"`;
// In a pattern, only the star needs another escape.
const pattern = (text) => `"${[...text].map((c) => (c === '*' ? '\\*' : escaped(c))).join('')}*"`;

const micros = (text) => {
  const [, whole, fraction] = /^(.*?)(?:\.(\d+))?Z$/.exec(text);
  return BigInt(Date.parse(`${whole}Z`)) * 1000n + BigInt((fraction ?? '').padEnd(6, '0') || '0');
};

const byCodePoint = (a, b) => {
  const [x, y] = [[...a], [...b]];
  for (let n = 0; n < Math.min(x.length, y.length); n += 1) {
    if (x[n] !== y[n]) return x[n].codePointAt(0) - y[n].codePointAt(0);
  }
  return x.length - y.length;
};

// A literal of a condition as a Cedar literal.
const ofCondition = (kind, json) => {
  switch (kind) {
    case 'Flag': return String(json);
    case 'Whole': return String(json);
    case 'At': return String(micros(json));
    default: return quoted(json);
  }
};
// A value of a record or a claim, as it was written by the generator.
const ofRecord = (kind, json) => (kind === 'Flag' || kind === 'Whole' || kind === 'At' ? String(json) : quoted(json));

const OPERATORS = { eq: '==', ne: '!=', lt: '<', lte: '<=', gt: '>', gte: '>=' };

// A comparison as a pair of Cedar expressions: when it is true, and when it is false.
const comparison = (head, texts, field, operator, operand) => {
  const kind = head.fields[field];
  const [has, value] = [`context.r has ${field}`, `context.r.${field}`];
  if (operator === 'isNull') {
    return operand ? [`!(${has})`, has] : [has, `!(${has})`];
  }
  const isClaim = typeof operand === 'object' && !Array.isArray(operand);
  if (operator === 'in' || operator === 'notIn') {
    const set = isClaim ? `context.c.${operand.claim}` : `[${operand.map((one) => ofCondition(kind, one)).join(', ')}]`;
    const known = isClaim ? `context.c has ${operand.claim}` : 'true';
    const among = `(${known} && ${has} && ${set}.contains(${value}))`;
    const not = `(${known} && (${set}.isEmpty() || (${has} && !(${set}.contains(${value})))))`;
    return operator === 'in' ? [among, not] : [not, among];
  }
  const known = isClaim ? `(${has} && context.c has ${operand.claim})` : `(${has})`;
  let said;
  if (operator === 'startsWith' && isClaim) {
    // Cedar's patterns are literals.
    const start = texts.claims[operand.claim];
    said = start === undefined ? 'false' : `(${value} like ${pattern(start)})`;
  } else if (operator === 'startsWith') {
    said = `(${value} like ${pattern(operand)})`;
  } else if (kind === 'Text' && operator.match(/^[lg]t/)) {
    const other = isClaim ? `context.claimRank.${operand.claim}` : texts.rank(operand);
    said = `(context.rank.${field} ${OPERATORS[operator]} ${other})`;
  } else {
    const other = isClaim ? `context.c.${operand.claim}` : ofCondition(kind, operand);
    said = `(${value} ${OPERATORS[operator]} ${other})`;
  }
  return [`(${known} && ${said})`, `(${known} && !${said})`];
};

const all = (pairs) => [
  `(${pairs.map(([yes]) => yes).join(' && ')})`,
  `(${pairs.map(([, no]) => no).join(' || ')})`,
];

const translated = (head, texts, condition) => {
  const parts = Object.entries(condition).map(([name, inner]) => {
    const each = () => inner.map((one) => translated(head, texts, one));
    if (name === 'and') return all(each());
    if (name === 'or') {
      const [no, yes] = all(each().map(([t, f]) => [f, t]));
      return [yes, no];
    }
    if (name === 'not') return translated(head, texts, inner).reverse();
    const tests = Object.entries(inner).map(([op, operand]) => comparison(head, texts, name, op, operand));
    return tests.length === 1 ? tests[0] : all(tests);
  });
  return parts.length === 1 ? parts[0] : all(parts);
};

const textsIn = (json, into) => {
  if (typeof json === 'string') into.add(json);
  else if (json && typeof json === 'object') Object.values(json).forEach((inner) => textsIn(inner, into));
  return into;
};

// Values for the context of a request; as Cedar sees them, 64-bit numbers and all.
const fields = (kinds, values) => {
  const members = Object.entries(values).map(([name, value]) => {
    const one = (json) => ofRecord(kinds[name], json);
    return `"${name}": ${Array.isArray(value) ? `[${value.map(one).join(', ')}]` : one(value)}`;
  });
  return `{${members.join(', ')}}`;
};

const judge = (head, { condition, record, claims }) => {
  const ranked = [...textsIn([condition, record, claims], new Set())].sort(byCodePoint);
  const texts = { claims, rank: (text) => ranked.indexOf(text) };
  const ranks = (kinds, values) =>
    Object.entries(values)
      .filter(([name, value]) => kinds[name] === 'Text' && typeof value === 'string')
      .map(([name, value]) => `"${name}": ${texts.rank(value)}`)
      .join(', ');
  const [yes, no] = translated(head, texts, condition);
  // The values are written into the policies in place of a context: JavaScript's numbers end at 53 bits.
  const values = {
    'context.rank': `{${ranks(head.fields, record)}}`,
    'context.claimRank': `{${ranks(head.claims, claims)}}`,
    'context.r': fields(head.fields, record),
    'context.c': fields(head.claims, claims),
  };
  const filled = (expression) =>
    expression.replace(/context\.(rank|claimRank|r|c)(?![A-Za-z])/g, (name) => values[name]);
  const policy = (expression) => `permit(principal, action, resource) when { ${filled(expression)} };`;
  const entity = (id) => ({ type: 'T', id });
  const answer = isAuthorized({
    principal: entity('p'),
    action: { type: 'Action', id: 'a' },
    resource: entity('r'),
    context: {},
    policies: { staticPolicies: { yes: policy(yes), no: policy(no) } },
    entities: [],
  });
  if (answer.type !== 'success' || answer.response.diagnostics.errors.length > 0) {
    throw new Error(`Cedar: ${JSON.stringify(answer)}\n${policy(yes)}\n${policy(no)}`);
  }
  const permitted = answer.response.diagnostics.reason;
  if (permitted.length > 1) throw new Error(`both true and false: ${JSON.stringify(condition)}`);
  return { yes: 'true', no: 'false' }[permitted[0]] ?? 'unknown';
};

const started = Date.now();
let head;
let judged = 0;
const differing = [];
for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
  const json = JSON.parse(line);
  if (!head) {
    head = json;
    continue;
  }
  const cedar = judge(head, json);
  judged += 1;
  if (cedar !== json.memory || cedar !== json.sql) differing.push({ ...json, cedar });
}
differing.slice(0, 5).forEach((one) => console.log(JSON.stringify(one)));
const seconds = ((Date.now() - started) / 1000).toFixed(1);
console.log(`${judged} cases of seed ${head?.seed}: ${differing.length} differ among memory, PostgreSQL and Cedar (${seconds} s)`);
process.exit(judged > 0 && judged === head.cases && differing.length === 0 ? 0 : 1);
