/** An upstream that believes nobody but the gateway: it checks the signed identity that comes with each request. */
import { createServer } from 'node:http';
import { createRemoteJWKSet, jwtVerify } from 'jose';

/** `public_url` of the gateway, and what `identity_token.audience` says of this upstream. */
const GATEWAY = process.env.GATEWAY ?? 'https://gate.example.com';
const AUDIENCE = process.env.AUDIENCE ?? 'orders';

const keys = createRemoteJWKSet(new URL('/.well-known/jwks.json', GATEWAY));

/** Who calls; throws unless the gateway said so, to this upstream, a moment ago. */
async function callerOf(token: unknown) {
  const { payload } = await jwtVerify(String(token), keys, {
    issuer: GATEWAY,
    audience: AUDIENCE,
    typ: 'portcullis-identity+jwt',
    algorithms: ['EdDSA'],
    requiredClaims: ['sub', 'exp'],
  });
  return payload;
}

const server = createServer(async (request, response) => {
  try {
    const { sub, tenant, roles, act } = await callerOf(request.headers['x-portcullis-identity']);
    response.end(JSON.stringify({ sub, tenant, roles, act }));
  } catch {
    response.writeHead(401).end();
  }
});

server.listen(Number(process.env.PORT ?? 7010), '127.0.0.1', () => console.log('listening'));
