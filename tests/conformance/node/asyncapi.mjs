// Reads an AsyncAPI document on standard input; prints JSON: the diagnostics of severity error (0) and warning (1).
import {Parser} from '@asyncapi/parser';

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const {document, diagnostics} = await new Parser().parse(Buffer.concat(chunks).toString('utf8'));
const found = diagnostics.filter(({severity}) => severity <= 1)
  .map(({severity, code, message, path}) => ({severity, code, message, path: path.join('.')}));
console.log(JSON.stringify({parsed: document !== undefined, found}));
