// Digital Bazaar's cryptosuites by name, and the key pairs that they sign with.
import * as EcdsaMultikey from '@digitalbazaar/ecdsa-multikey';
import * as Ed25519Multikey from '@digitalbazaar/ed25519-multikey';
import {DataIntegrityProof} from '@digitalbazaar/data-integrity';
import {createSignCryptosuite, createVerifyCryptosuite} from '@digitalbazaar/ecdsa-jcs-2019-cryptosuite';
import {cryptosuite as ecdsaRdfc} from '@digitalbazaar/ecdsa-rdfc-2019-cryptosuite';
import {cryptosuite as eddsaRdfc} from '@digitalbazaar/eddsa-rdfc-2022-cryptosuite';
import {Ed25519Signature2020} from '@digitalbazaar/ed25519-signature-2020';
import {Ed25519VerificationKey2020} from '@digitalbazaar/ed25519-verification-key-2020';

export function verifiers() {
  const cryptosuites = [eddsaRdfc, ecdsaRdfc, createVerifyCryptosuite()];
  return [new Ed25519Signature2020(), ...cryptosuites.map(cryptosuite => new DataIntegrityProof({cryptosuite}))];
}

const SIGNING = {
  'eddsa-rdfc-2022': [Ed25519Multikey, () => eddsaRdfc],
  'ecdsa-rdfc-2019': [EcdsaMultikey, () => ecdsaRdfc],
  'ecdsa-jcs-2019': [EcdsaMultikey, createSignCryptosuite],
};

export async function signingSuite(name, key, date) {
  if (name === 'Ed25519Signature2020') {
    const {id, controller, publicKeyMultibase, secretKeyMultibase} = key;
    const pair = await Ed25519VerificationKey2020.from({
      type: 'Ed25519VerificationKey2020', id, controller, publicKeyMultibase, privateKeyMultibase: secretKeyMultibase,
    });
    return new Ed25519Signature2020({key: pair, date});
  }
  const [multikey, cryptosuite] = SIGNING[name];
  const pair = await multikey.from({type: 'Multikey', '@context': 'https://w3id.org/security/multikey/v1', ...key});
  return new DataIntegrityProof({signer: pair.signer(), date, cryptosuite: cryptosuite()});
}
