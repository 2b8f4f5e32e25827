// Verifies and signs JSON Web Tokens with the library "jose", which shares no code with Laurel.
//
// stdin:  {"verify": [{"token": "…", "jwk": {…}, "algorithms": ["ES256"]}, …],
//          "sign": [{"header": {…}, "payload": {…}, "jwk": {secret JWK}}, …]}
// stdout: {"verified": [null | {"header": {…}, "payload": {…}}, …], "signed": ["…", …]}
import {CompactSign, compactVerify, importJWK} from 'jose';

async function readInput() {
  const chunks = [];
  for await (const chunk of process.stdin) {
    chunks.push(chunk);
  }
  return JSON.parse(Buffer.concat(chunks).toString('utf8'));
}

async function verify({token, jwk, algorithms}) {
  try {
    const key = await importJWK(jwk, algorithms[0]);
    const {payload, protectedHeader} = await compactVerify(token, key, {algorithms});
    return {header: protectedHeader, payload: JSON.parse(new TextDecoder('utf-8', {fatal: true}).decode(payload))};
  } catch {
    return null;
  }
}

async function sign({header, payload, jwk}) {
  const key = await importJWK(jwk, header.alg);
  return new CompactSign(new TextEncoder().encode(JSON.stringify(payload))).setProtectedHeader(header).sign(key);
}

const request = await readInput();
const verified = [];
for (const one of request.verify ?? []) {
  verified.push(await verify(one));
}
const signed = [];
for (const one of request.sign ?? []) {
  signed.push(await sign(one));
}
process.stdout.write(JSON.stringify({verified, signed}));
