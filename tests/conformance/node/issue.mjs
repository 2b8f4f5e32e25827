// Issues one credential with Digital Bazaar's libraries, offline: what others sign, Laurel must verify.
//
// stdin:  {"credential": {...}, "contexts": {"<url>": {...}}, "key": {"id", "controller", "publicKeyMultibase", "secretKeyMultibase"},
//          "created": "2026-01-01T00:00:00Z", "cryptosuite": "eddsa-rdfc-2022" or another of suites.mjs}
// stdout: the secured credential
import {issue} from '@digitalbazaar/vc';
import {signingSuite} from './suites.mjs';

const chunks = [];
for await (const chunk of process.stdin) {
  chunks.push(chunk);
}
const {credential, contexts, key, created, cryptosuite} = JSON.parse(Buffer.concat(chunks).toString('utf8'));
const secured = await issue({
  credential,
  suite: await signingSuite(cryptosuite, key, created),
  documentLoader: async url => {
    if (contexts[url] === undefined) {
      throw new Error(`offline: no document was given for ${url}`);
    }
    return {contextUrl: null, documentUrl: url, document: contexts[url]};
  },
});
process.stdout.write(JSON.stringify(secured) + '\n');
