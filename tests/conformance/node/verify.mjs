// Verifies one credential with Digital Bazaar's libraries, offline.
//
// stdin:  {"credential": {...}, "documents": {"<url>": {...}, ...}, "now": "2026-01-01T00:00:00Z" (optional)}
//         `documents` holds every context, DID document and status list that may be loaded; nothing else is.
// stdout: {"verified": true|false, "error": null | "what was wrong", "loaded": ["<url>", ...],
//          "proofs": [true|false, ...]}
import {checkStatus, statusTypeMatches} from '@digitalbazaar/vc-bitstring-status-list';
import {verifyCredential} from '@digitalbazaar/vc';
import {verifiers} from './suites.mjs';

async function readInput() {
  const chunks = [];
  for await (const chunk of process.stdin) {
    chunks.push(chunk);
  }
  return JSON.parse(Buffer.concat(chunks).toString('utf8'));
}

function offlineLoader(documents, loaded) {
  return async url => {
    const [base, fragment] = url.split('#');
    const document = documents[url] ?? documents[base];
    if (document === undefined) {
      throw new Error(`offline: no document was given for ${url}`);
    }
    loaded.add(url);
    if (fragment === undefined || documents[url] !== undefined) {
      return {contextUrl: null, documentUrl: url, document};
    }
    const method = [].concat(document.verificationMethod ?? []).find(({id}) => id === url);
    if (method === undefined) {
      throw new Error(`offline: ${base} has no verification method ${url}`);
    }
    return {contextUrl: null, documentUrl: url, document: {'@context': document['@context'], ...method}};
  };
}

function messages(error) {
  if (!error) {
    return [];
  }
  const inner = [].concat(error.errors ?? [], error.cause ?? []).flatMap(messages);
  return [error.message, ...inner].filter(Boolean);
}

const {credential, documents, now} = await readInput();
const loaded = new Set();
const result = await verifyCredential({
  credential,
  suite: verifiers(),
  documentLoader: offlineLoader(documents, loaded),
  ...(now === undefined ? {} : {now: new Date(now)}),
  checkStatus: async options => {
    if (!statusTypeMatches({credential: options.credential})) {
      throw new Error('credentialStatus is not a BitstringStatusListEntry');
    }
    const status = await checkStatus({...options, verifyMatchingIssuers: true});
    // The library reports what the bits say and leaves the decision to its caller.
    const set = (status.results ?? []).filter(entry => entry.status).map(entry => entry.credentialStatus.statusPurpose);
    return set.length === 0 ? status : {verified: false, error: new Error(`the bit is set for ${set.join(', ')}`)};
  },
});
let error = messages(result.error);
if (!result.verified && result.statusResult && !result.statusResult.verified) {
  error = [...error, 'status: ' + (messages(result.statusResult.error).join('; ') || 'the status bit is set')];
}
process.stdout.write(JSON.stringify({
  verified: result.verified,
  error: result.verified ? null : [...new Set(error)].join('; ') || 'not verified',
  loaded: [...loaded].sort(),
  proofs: (result.results ?? []).map(({verified}) => verified),
}) + '\n');
