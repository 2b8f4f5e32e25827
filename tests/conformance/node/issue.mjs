// Issues one credential with Digital Bazaar's libraries, offline: what others sign, Laurel must verify.
//
// stdin:  {"credential": {...}, "contexts": {"<url>": {...}}, "key": {"id", "controller", "publicKeyMultibase", "secretKeyMultibase"},
//          "created": "2026-01-01T00:00:00Z"}
// stdout: the secured credential
import {DataIntegrityProof} from '@digitalbazaar/data-integrity';
import * as Ed25519Multikey from '@digitalbazaar/ed25519-multikey';
import {cryptosuite} from '@digitalbazaar/eddsa-rdfc-2022-cryptosuite';
import {issue} from '@digitalbazaar/vc';

const chunks = [];
for await (const chunk of process.stdin) {
  chunks.push(chunk);
}
const {credential, contexts, key, created} = JSON.parse(Buffer.concat(chunks).toString('utf8'));
const pair = await Ed25519Multikey.from({type: 'Multikey', ...key});
const secured = await issue({
  credential,
  suite: new DataIntegrityProof({signer: pair.signer(), date: created, cryptosuite}),
  documentLoader: async url => {
    if (contexts[url] === undefined) {
      throw new Error(`offline: no document was given for ${url}`);
    }
    return {contextUrl: null, documentUrl: url, document: contexts[url]};
  },
});
process.stdout.write(JSON.stringify(secured) + '\n');
