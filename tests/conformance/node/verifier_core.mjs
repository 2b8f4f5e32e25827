// Verifies credentials with the verifier of the Digital Credentials Consortium, offline.
//
// stdin:  [{"credential": {...}, "documents": {"<url>": {...}, ...}, "registries": [...]}, ...]
//         `documents` is all of the web that the verifier sees: DID documents, status lists, schemas and registries.
//         The contexts are those that it brings along.
// stdout: [{"result": {...}, "fetched": ["<url>", ...], "missed": ["<url>", ...]}, ...]
// `result` is what it answers, without the credential that was asked about and the stack traces. It keeps DID documents in
// memory: in one run a DID has one document.
const web = {documents: {}, fetched: new Set(), missed: new Set()};

globalThis.fetch = async input => {
  const url = typeof input === 'string' ? input : input.url ?? String(input);
  const document = web.documents[url];
  (document === undefined ? web.missed : web.fetched).add(url);
  const response = document === undefined
    ? new Response('', {status: 404})
    : new Response(JSON.stringify(document), {headers: {'content-type': 'application/json'}});
  return Object.defineProperty(response, 'url', {value: url});
};
// What it has to tell while it works goes to standard error.
console.log = console.error;

const {verifyCredential} = await import('@digitalcredentials/verifier-core');

const plain = ({name, message}) => ({name, message: String(message)});

async function verify({credential, documents, registries}) {
  Object.assign(web, {documents, fetched: new Set(), missed: new Set()});
  const answer = await verifyCredential({credential, knownDIDRegistries: registries});
  const {log, additionalInformation} = answer;
  const result = {log, additionalInformation, errors: answer.errors?.map(plain)};
  if (answer.error !== undefined) {
    const inner = [].concat(answer.error.errors ?? []).map(({message}) => message);
    result.error = {name: answer.error.name, message: [answer.error.message, ...inner].join('; ')};
  }
  return {result, fetched: [...web.fetched].sort(), missed: [...web.missed].sort()};
}

const chunks = [];
for await (const chunk of process.stdin) {
  chunks.push(chunk);
}
const answers = [];
for (const request of JSON.parse(Buffer.concat(chunks).toString('utf8'))) {
  answers.push(await verify(request));
}
process.stdout.write(JSON.stringify(answers) + '\n');
