/**
 * Every acceptance line by its id. Tests cite the lines they prove with `verifies('S-55')`; the test run prints which
 * lines are covered (docs/acceptance.md explains the prefixes). Stale or unknown ids fail the run.
 */
export const REQUIREMENTS = {
  'D-01':
    'Pluggable auth and storage through interfaces; existing infrastructure (LDAP, SSO, DB, S3) plugs in without changing the server',
  'D-02': '`AuthProvider.authenticate(headers) -> AuthContext | AuthError`, async',
  'D-03': 'Credential from `Authorization: Bearer <token>`',
  'D-04': 'No credential → `MissingCredentials`',
  'D-05': 'Bad credential → `InvalidCredentials`',
  'D-06': '`validate_token` by LDAP bind',
  'D-07': '… by OAuth token introspection',
  'D-08': '… by JWT verification',
  'D-09': '… by database lookup',
  'D-10': '`UserInfo {user_id, organization_id, role}` → context',
  'D-11': '`AuthContext.tenant_id`',
  'D-12': '`AuthContext.user_id`',
  'D-13':
    '`AuthContext.role`: `Admin` / `User` / `ServiceAccount`; mapping `"admin"`→Admin, `"service"`→ServiceAccount, other→User',
  'D-14': '`AuthContext.permissions: []`, optional mapping',
  'D-15': '`AuthContext.metadata` map',
  'D-16': '`AuthProvider.authorize(context, resource, action) -> bool`; example: may this user delete this response',
  'D-17': 'Config from environment `MyAuthConfig::from_env()`; fields `ldap_server`, `oauth_client_id`',
  'D-18': 'Builder registration `State::builder().auth_provider(p).build()`; `run(state)`',
  'D-19': '`store_response(response, auth, ttl?) -> id`',
  'D-20': '`get_response(id, auth) -> StoredResponse`',
  'D-21': '`delete_response(id, auth)`',
  'D-22': '`list_responses(query, auth) -> StoredResponse[]`',
  'D-23': '`touch_response(id, auth)` updates `accessed_at`',
  'D-24':
    '`StoredResponse` fields: `response_id, tenant_id, user_id, response, created_at, updated_at, accessed_at, expires_at?, permissions?`',
  'D-25': '`expires_at = now + ttl` when ttl given, else none/default',
  'D-26': 'Errors `NotFound(id)`, `AccessDenied(msg)`, `BackendError(msg)`',
  'D-27':
    'Large (> 1 000 000 bytes serialized) → blob store; key `{tenant}/responses/{id}.json`, bucket `dynamo-responses`',
  'D-28':
    'Metadata always in the database: `response_id, tenant_id, user_id, s3_key, size_bytes, created_at, expires_at`',
  'D-29': 'Read is scoped `response_id AND tenant_id`',
  'D-30': 'Defence in depth: row tenant ≠ caller tenant → `AccessDenied("Tenant mismatch")`',
  'D-31': 'Expired → `NotFound("Response expired")`',
  'D-32': 'Delete only by owner or `Role::Admin`, else `AccessDenied("Not owner")`',
  'D-33': 'Delete removes blob and row',
  'D-34': 'List filters `user_id`, `created_after`, `limit`; order `created_at DESC`; tenant-scoped',
  'D-35': 'List may return ids only "for efficiency"',
  'D-36': '`ResponseMetadata` row: `response_id, tenant_id, user_id, s3_key, created_at, accessed_at, expires_at?`',
  'D-37': 'Builder `.response_storage(s)`',
  'D-38': '`.conversation_storage(same backend)` – one backend may serve both',
  'D-39': 'Complete example LDAP auth + PostgreSQL storage: server, bind DN, bind password, `database_url`',
  'D-40': '`POST /v1/responses` with `model`, `input` (string), `store:true` → 200, body has `id`',
  'D-41': '`POST /v1/responses` with `previous_response_id` + new `input` → 200',
  'D-42': 'Test: valid token → context with `tenant_id == "test-tenant"`',
  'D-43': 'Test: invalid token → `InvalidCredentials`',
  'D-44': 'Test: store then retrieve, same `response.id`',
  'D-45': "Test: tenant B reading tenant A's id → `NotFound`",
  'D-46': 'Test: end-to-end two-turn stateful request',
  'D-47': '`DYN_AUTH_PROVIDER=custom`',
  'D-48': '`DYN_STORAGE_PROVIDER=custom`',
  'D-49': '`MY_LDAP_SERVER`, `MY_LDAP_BIND_DN`, `MY_LDAP_BIND_PASSWORD`',
  'D-50': '`MY_DB_URL`, `MY_S3_BUCKET`, `MY_S3_REGION`',
  'D-51':
    'SQL schema `responses(response_id PK, tenant_id, user_id, response_data JSONB, s3_key, size_bytes, created_at, updated_at, accessed_at, expires_at)`',
  'D-52': 'Indexes `(tenant_id,user_id,created_at DESC)` and partial on `expires_at`',
  'D-53': 'Cleanup job for expired rows',
  'D-54': 'Hybrid rule: small in DB, large in blob, metadata always in DB',
  'D-55': 'Multi-region: write primary, replicate to N replicas',
  'D-56': 'Migration Redis → database: scan `*:responses:*`, parse, store raw, return the count',
  'D-57': 'Pool `max_connections(100)`, `min_connections(10)`',
  'D-58': 'Read-through cache in front of a backend',
  'D-59': 'Batch get by ids, parallel',
  'D-60':
    'Doc promises: "Access Denied" ↔ tenant mismatch; "Not Found" on valid ids ↔ isolation; slow queries ↔ index; memory ↔ streaming for large responses',
  'D-61': 'Per-component debug logging (`dynamo_llm::http::auth=debug,…storage=debug`)',
  'D-62':
    'Metrics: auth failures / success rate; storage latency p50/p95/p99; storage errors; tenant isolation violations "should be 0!"',
  'D-63': 'Docs to ship: main plan, examples/custom_providers, interface file',
  'DF-01': '`validate_token` is `todo!()`',
  'DF-02': '`authorize` returns `Ok(true)` always',
  'DF-03': 'Every backend failure becomes `InvalidCredentials`',
  'DF-04': 'Unknown role string silently becomes `User`',
  'DF-05':
    '`s3_key` used outside the `if` where it is defined → sample does not compile; small responses are stored nowhere (no `response_data` in the INSERT)',
  'DF-06': '`get_response` always reads S3, so small ones are unreadable',
  'DF-07':
    '`list_responses` appends `$2`/`$3` but binds only `$1` → runtime error; ignores `created_before`, `offset`, `conversation_id`',
  'DF-08': 'List is N+1 and drops failing items silently',
  'DF-09': 'Delete: blob then row, not atomic; final `DELETE … WHERE response_id = $1` has no tenant',
  'DF-10': "Primary key is `response_id` alone: a tenant can overwrite or probe another's id",
  'DF-11': 'Any user of the tenant may read any response; `permissions: None` never used',
  'DF-12': '`AccessDenied` vs `NotFound` gives an existence oracle across tenants',
  'DF-13':
    'DDL invalid: inline `INDEX` is not PostgreSQL; partial index `WHERE expires_at < EXTRACT(EPOCH FROM NOW())` is refused (NOW() not immutable)',
  'DF-14': 'Cache keyed by id only, returns before any auth/expiry check, never invalidated on delete',
  'DF-15': 'Batch get: unbounded parallelism, errors swallowed',
  'DF-16':
    'Fire-and-forget replication (`spawn` + `.ok()`): lost on error/crash; deletes and TTL not replicated; no read fail-over',
  'DF-17':
    'Migration: pattern also matches index keys (`…:responses:user:…:list`, other type); TTL not carried; one bad record aborts; not resumable',
  'DF-18': 'Secrets plain in env (`MY_LDAP_BIND_PASSWORD=secret`)',
  'DF-19': 'i64/u64 mixing, seconds granularity, `expires_at < now`',
  'DF-20': '`"Bearer "` prefix case-sensitive; non-ASCII header treated as missing',
  'DF-21': `Response stored *after* it is returned? The plan swallows store errors ("don't fail the request")`,
  'DW-01': '`Permission` enum: Read/Write/Delete × Responses/Conversations',
  'DW-02':
    '`AuthError`: MissingCredentials, InvalidCredentials, Forbidden(msg), ProviderError(msg); HTTP 401/401/403/500',
  'DW-03': '`StorageError` also `QuotaExceeded`, `SessionMismatch`, `TenantMismatch`, `SerializationError`',
  'DW-04': '`StoredPermission`: Owner, SharedReadOnly{users}, SharedReadWrite{users}',
  'DW-05':
    '`ResponseQuery`: tenant_id, user_id?, conversation_id?, created_after?, created_before?, limit?, offset? ; later cursor `after`',
  'DW-06':
    'Built-in auth: API key (key store in_memory/redis), JWT (public key path, RS256/ES256, issuer; claims tenant_id, role, permissions); `none` for trusted dev …',
  'DW-07':
    'Env: `DYN_AUTH_PROVIDER`, `DYN_AUTH_API_KEY_STORE`, `DYN_AUTH_REDIS_URL/PASSWORD`, `DYN_AUTH_JWT_PUBLIC_KEY_PATH/ALGORITHM/ISSUER`, `DYN_STORAGE_PROVIDER`, …',
  'DW-08':
    'Env of the built code: `DYNAMO_ENABLE_STATEFUL_RESPONSES`, `DYNAMO_RESPONSES_DEFAULT_TTL_SECS=86400`, `…_MAX_TTL_SECS=604800`, `…_STORE_BY_DEFAULT=false`, …',
  'DW-09': '`GET /v1/responses/{id}` (touches), `DELETE /v1/responses/{id}` → 204',
  'DW-10':
    'Conversations: `POST /v1/conversations`, `GET/DELETE /v1/conversations/{id}`, `POST/GET /v1/conversations/{id}/items`',
  'DW-11':
    'Trusted headers to the backend: `x-tenant-id` (required for stateful calls), `x-session-id` (default `"default"`), each `^[A-Za-z0-9._-]{1,256}$`, else 400. …',
  'DW-12':
    'Flag off: `store:true` → 400, GET/DELETE not routed; newest code: `store` defaults true, text input becomes one user message item, previous items are …',
  'DW-13':
    'Streaming responses are captured and stored after completion; session lock (in-process and Redis); fork session up to a response id; cursor pagination …',
  'DW-14': 'EncryptionProvider: AES-256-GCM with per-tenant data keys under a master key; KMS variant',
  'DW-15':
    'AuditEvent: timestamp, tenant_id, user_id, action, resource_type, resource_id, success, ip_address, user_agent',
  'DW-16': 'Limits per tenant: responses/hour, stored count, stored bytes',
  'DW-17':
    'Success metrics: zero cross-tenant violations; storage uptime > 99.9 %; latency impact of lookups; cost per 1 M',
  'DW-18':
    'Tests: cross-tenant attempts, invalid tokens, quota, rate limits, load (pooling, encryption overhead, cache hit rate)',
  'DW-19': 'Rollout: opt-in (warn if auth off) → opt-out (error if auth missing) → always on',
  'T-01':
    'Purpose: a flexible, abstract service to store and retrieve user-specific authorization credentials for tools',
  'T-02': 'Extensible to future auth mechanisms and persistent backends',
  'T-03': '`BaseAuthData.auth_type: str`',
  'T-04':
    '`OAuth2AuthData`: `auth_type="oauth2"` literal, `access_token`, `refresh_token?`, `expires_at: datetime`, `scopes: list`',
  'T-05': 'Discriminated union `AuthData`',
  'T-06':
    'Abstract `SecureAuthStorageManager` with `store(user_id,key,data)`, `retrieve(user_id,key)`, `delete(user_id,key)`',
  'T-07': '`retrieve` of a missing key → `None`/`null`',
  'T-08':
    'Composite key from auth server URL + sorted required scopes `f"{auth_server}|{sorted(scopes)}"`; reuse only for the *exact* scope set',
  'T-09': 'In-memory implementation, nested `user → key → data`',
  'T-10': 'Thread-safe: lock around all operations',
  'T-11': '`store` overwrites; creates the user bucket when absent',
  'T-12': '`delete` of a missing user/key is a silent no-op',
  'T-13': 'Factory: dynamic import of the configured class from env',
  'T-14': 'Factory is a singleton: one shared instance',
  'T-15': 'Test: `OAuth2AuthData` validation : valid; missing `access_token`; invalid `expires_at` type',
  'T-16': 'Test: store / retrieve / delete',
  'T-17': 'Test: concurrent read/write, no races or corruption ; real test = 50 threads × 100 ops',
  'T-18': 'Factory tests: default class from default env; same instance; errors for invalid module / class names',
  'T-19': '`TA_SECURE_AUTH_STORAGE_MANAGER_MODULE` (default in-memory module)',
  'T-20': '`TA_SECURE_AUTH_STORAGE_MANAGER_CLASS` (default `InMemorySecureAuthStorageManager`)',
  'TF-01': '"Secure" storage keeps tokens in plain text',
  'TF-02': '`expires_at` is stored but never enforced',
  'TF-03': '`refresh_token` is stored but no refresh exists',
  'TF-04': 'Union of one member is no discriminated union (Pydantic: no `discriminator`)',
  'TF-05': 'Key = language-specific list repr, `|` unescaped',
  'TF-06': 'No tenant in the address `(user_id, key)`',
  'TF-07': '`user_id` is taken on trust',
  'TF-08': 'Synchronous interface (blocks the loop)',
  'TF-09': 'Env-named module import = code execution if env/config is writable by others',
  'TF-10': 'Returned object is the stored object (mutable alias)',
  'TF-11': 'Empty user buckets stay after delete (slow leak)',
  'TF-12':
    'Real code: factory is a singleton but `get_auth_storage_manager()` builds a new in-memory manager on every call → tokens vanish',
  'TF-13':
    'Real Redis example: `ssl = (TA_REDIS_SSL == "false")` – inverted; `KEYS` pattern delete; fixed TTL 3600 independent of token life; user id in the key …',
  'TF-14':
    'Real HITL: unknown tool or missing catalog → no intervention (fail open) though the doc says "Default Deny"',
  'TF-15': 'Default authorizer is a `DummyAuthorizer` returning `"dummyuser"` for anything',
  'TW-01':
    'Flow: tool needs OAuth → look up token for (server, scopes, user) → use it; else return a challenge (`AuthChallengeResponse`: task/session/request id, …',
  'TW-02': 'OAuth flow state: state + PKCE verifier + user + server + resource + scopes, TTL 5 min, single use.',
  'TW-03':
    'Token fields `audience`, `resource`, `token_type`, `issued_at`; `is_valid_for_resource(uri)` = not expired ∧ resource match ∧ audience match (RFC 8707).',
  'TW-04':
    'Switches: PKCE, resource parameter, audience validation, token refresh, strict HTTPS (default on); server discovery, dynamic registration (default off). Env …',
  'TW-05':
    'Tool catalog: `tool_id = "{plugin}-{function}"`, `governance{requires_hitl, cost low/medium/high, data_sensitivity …',
  'TW-06':
    'HITL response: `task_id, session_id, request_id, message "Human intervention required.", approval_url "/approve/{id}", rejection_url "/reject/{id}", …',
  'TW-07':
    'HITL wish-list: risk-level policies, batch approval, timeout → auto-reject, user context, enterprise workflow/notification hooks, analytics.',
  'TW-08':
    'Redis backend: env `TA_REDIS_HOST/PORT/DB/TTL/PWD/SSL`; `clear_user_data(user)`; `health_check()`; corrupt entry → deleted + error.',
  'TW-09':
    'Env names in the built code differ: `TA_AUTH_STORAGE_MANAGER_MODULE/CLASS`; module set without class → error; custom class may or may not take the config …',
  'TW-10':
    'Client-side scoping: MCP tokens separated from platform auth (tests `test_auth_separation`, `oauth_https_enforcement`, `protocol_version`, …',
  'H-01': 'Gateway/middleware delegates API-key validation to an external auth service',
  'H-02': 'Service URL: constructor arg → env `HOKUSAI_AUTH_SERVICE_URL` → default `https://auth.hokus.ai`',
  'H-03': '`POST {url}/api/v1/keys/validate` with `{"api_key": …}`',
  'H-04': '200 → body parsed to `ValidationResult`',
  'H-05': 'Redis cache first, key `key:validation:{api_key}`',
  'H-06': 'Cache TTL 300 s via SETEX',
  'H-07': 'SDK client: `api_key` arg → env `HOKUSAI_API_KEY`; `auth_url` arg → env → default',
  'H-08': 'SDK `validate() -> bool`, true iff 200',
  'H-09': 'Local rate limiting kept',
  'H-10': 'CLI `create-key --name` (required)',
  'H-11': 'CLI needs `HOKUSAI_ADMIN_TOKEN`; absent → message "Error: HOKUSAI_ADMIN_TOKEN required" and stop',
  'H-12':
    '`POST {url}/api/v1/keys`, `Authorization: Bearer <admin>`, body `{name, service_id:"ml-platform", environment:"production", …',
  'H-13': 'Removed: local key tables/operations/SQL/migrate script, local auth service + endpoints, DB tests',
  'H-14': '`.env`: `HOKUSAI_AUTH_SERVICE_URL`, `HOKUSAI_ADMIN_TOKEN`',
  'H-15': 'Middleware: call service, keep cache, retry logic',
  'H-16': 'SDK: external service, transparent auth in `ModelRegistry`, config handling',
  'H-17': 'CLI: all commands via the service API; admin token for key management; friendly interface',
  'H-18': 'Tests: mock service responses; no DB tests; integration tests with the service',
  'H-19':
    'Benefits promised: single source of truth; good UX; caching prevents auth-service overload; less code; auth scales independently',
  'H-20': 'Migration path: deploy service → switch with backward compatibility → migrate keys → remove local → docs',
  'H-21':
    'Environments: dev `http://localhost:8000` + `hok_dev_…`; staging `https://auth-staging.hokus.ai` + `hok_test_…`; prod `https://auth.hokus.ai` + `hok_live_…`',
  'H-22':
    'Header used by clients is not stated; real one accepts `Authorization: Bearer`, `Authorization: ApiKey`, `X-API-Key`, `?api_key=`',
  'HF-01': 'Raw API key inside the Redis key  – visible in MONITOR, RDB, logs (the built code kept this)',
  'HF-02': 'Revoked key stays valid up to 5 min',
  'HF-03': 'Any non-200 → function returns `None` → attribute error → 500',
  'HF-04': 'No negative caching → brute force hits the auth service',
  'HF-05': 'New HTTP client per request',
  'HF-06': 'Synchronous Redis in an async handler',
  'HF-07': 'Silent default to a production URL: a mis-set dev machine sends keys to the Internet',
  'HF-08': 'Thundering herd on expiry',
  'HF-09': 'Key in query string (real code) leaks to logs/history',
  'HF-10': '`validate()` without timeout',
  'HF-11': '`create_key` ignores the response (prints nothing)',
  'HF-12': 'Cached blob is trusted as is (`ValidationResult(json)`): a Redis writer can mint identities',
  'HF-13':
    '"Keep rate limiter as-is": real one re-arms EXPIRE on every hit (window never ends under steady traffic), reports next clock-hour as reset, fails open, no …',
  'HF-14': 'Real mTLS bypass trusts `X-Forwarded-For` starting `10.` and a state flag',
  'HF-15': 'Real excluded paths matched with `startswith` (`/healthXYZ`, `/docs-secret` bypass auth)',
  'HF-16': 'Real CLI `expires_at = now.isoformat()+"+30d"` – not a date',
  'HF-17': 'Admin e-mail hard-coded as fallback in real code',
  'HF-18': '`ssl_cert_reqs=None` to Redis in real code',
  'HF-19': 'SDK real code: auth service unreachable → "proceeding without validation"',
  'HW-01': '"FIXED: send API key in Authorization header, not JSON body"; body `{service_id, client_ip?}`.',
  'HW-02':
    '`ValidationResult`: is_valid, user_id, email, key_id, service_id, scopes[], roles[], is_admin, rate_limit_per_hour (1000), error, has_sufficient_balance, …',
  'HW-03':
    'State set for downstream: user_id, email, api_key_id, service_id, scopes, roles, is_admin, rate_limit_per_hour.',
  'HW-04':
    'Public paths: /health /ready /live /version /metrics /docs /openapi.json /redoc /favicon.ico. CORS preflight passes without auth.',
  'HW-05': 'Outage → 503 + Retry-After: 1; upstream 429 → 429 + Retry-After: 60; insufficient balance → 402.',
  'HW-06':
    'Scope rules: read vs write operations by path and method (POST `/search`, `/get`, `/list` are reads); write needs `model:write`/`mlflow:write`/…; 403 body …',
  'HW-07':
    'Key model: id (uuid), prefix `hok_{live|test|dev}` + 40 random chars, bcrypt hash, name, environment, expires_at, rate_limit_per_hour=1000, allowed_ips[], …',
  'HW-08':
    'Endpoints `POST/GET /api/v1/keys`, `DELETE /api/v1/keys/{id}`, `POST /api/v1/keys/{id}/rotate`, `POST /api/v1/keys/validate`, usage stats.',
  'HW-09':
    'CLI flags `--environment production|test|development`, `--rate-limit`, `--expires-in-days`, `--allowed-ip`*, `--scope`*; `list-keys --format table|json`; …',
  'HW-10':
    'Proxy duties: forward auth headers, keep `X-User-ID`, `X-Request-ID`, `X-Tenant-ID`, never log tokens, not create empty headers (14 tests in …',
  'HW-11': 'Rate-limit headers `X-RateLimit-Limit/Remaining/Reset`, `Retry-After`; burst allowance.',
  'S-01': 'Custom tool types: new categories with specialised handling',
  'S-02': 'Advanced OPA policies: trust levels, delegation chains, time-based',
  'S-03': 'Authentication plugins OAuth2, LDAP, mTLS',
  'S-04': '"Optimize for 50,000+ requests per second"',
  'S-05':
    'Custom middleware: rate limiting, circuit breakers, and request transformation  – transformation is promised but never shown',
  'S-06': 'Advanced auditing: custom events, SIEM',
  'S-07': 'Outcome: custom auth, multi-level policies, specialised tools, scale, observability',
  'S-08':
    '"You can now build … compliance" / next steps: IdPs Okta, Auth0, Azure AD; domain tool types; compliance policies; share plugins',
  'S-10': 'Sensitivity levels `low, medium, high, critical`',
  'S-11': 'Tool types `query, mutation, admin, analytics, integration, custom`',
  'S-12': 'Classifiers by server type: `sql, api, file, k8s`',
  'S-13':
    'Base sensitivity: query→low, analytics→low, mutation→medium, integration→medium, admin→critical; otherwise medium',
  'S-14': '`classify_tool(tool_name, parameters, server_type) -> (type, sensitivity)`',
  'S-15': 'Unknown server type → `(custom, high)` + warning `unknown_server_type`',
  'S-16':
    'SQL: create/drop/alter/grant/revoke → admin; insert/update/delete/truncate → mutation; group by/having/window/aggregate → analytics; else query; precedence …',
  'S-17': 'API: POST/PUT/PATCH/DELETE → mutation, else query; `method` default GET, case-insensitive',
  'S-18': 'File: name has write/delete → mutation; read/list → query; else custom',
  'S-19': 'K8s: create/delete/scale/restart → admin; get/list/describe → query; else mutation',
  'S-20': '`environment == "production"`: medium→high, high→critical',
  'S-21': 'Sensitive resources `users, credentials, secrets, keys` in `query` or `resource` → high',
  'S-22': '`register_custom_classifier(server_type, fn)` + log',
  'S-23': 'One shared classifier instance',
  'S-24':
    '`POST /tools/invoke` (router in tutorial 2) authenticates, finds the server, classifies with `server.metadata.server_type` (default `custom`), asks for …',
  'S-25': 'Events logged: `tool_classified`, `unknown_server_type`, `custom_classifier_registered`',
  'S-30':
    'admin ∧ `gateway:tool:invoke` ∧ sensitivity ≠ critical → allow . (Comment says "critical in production", code says critical anywhere)',
  'S-31': 'admin ∧ critical ∧ approval token present ∧ verified → allow',
  'S-32': 'developer ∧ type ∈ {query, analytics} ∧ level ∈ {low, medium}',
  'S-33': 'analyst ∧ type = analytics ∧ level ∈ {low, medium}',
  'S-34': 'data_engineer ∧ type ∈ {query, mutation, analytics} ∧ level ≠ critical ∧ not production',
  'S-35': '`verify_approval_token`',
  'S-36': '`is_production_environment` = `parameters.environment == "production"`',
  'S-37': 'Types `integration`, `custom`, `admin` are reachable by admin only',
  'S-38': 'Roles are a list; union of rules',
  'S-40': 'Trust order critical 5 > high 4 > medium 3 > low 2 > untrusted 1',
  'S-41':
    '`user_trust_level`: admin & tenure ≥ 12 → critical; admin → high; developer/data_engineer & tenure ≥ 6 → high; else medium; analyst → low; otherwise untrusted',
  'S-42': '`allow_delegation`: action `a2a:delegate`, trust(source) ≥ trust(target), depth < max',
  'S-43': 'Max depth: critical 5, high 3, medium 2, others 1',
  'S-44': 'Work hours: 9 ≤ hour < 17 UTC',
  'S-45': 'Weekend = Saturday, Sunday (UTC)',
  'S-46': '`allow_critical_during_work_hours`',
  'S-47': 'deny critical outside hours: "Critical operations only allowed during work hours (9 AM - 5 PM UTC)"',
  'S-48': 'deny critical on weekends: "Critical operations not allowed on weekends"',
  'S-49': 'Overview says "delegation chains"',
  'S-50':
    'Allowed regions `us-east-1, us-west-2, eu-west-1`; others denied: "Access denied from region: %s. Allowed regions: %v"',
  'S-51':
    'Rate limit per minute by role: admin 1000; developer/data_engineer 500; default 100 ; exceeded when count ≥ limit ; "Rate limit exceeded: %d requests/min …',
  'S-52': '`user_request_count(user, window_seconds)` from Redis in production',
  'S-53':
    'GDPR: `parameters.data_region == "eu"` and source region not `eu-*` → "GDPR violation: EU data can only be accessed from EU regions"',
  'S-54':
    'HIPAA: server `healthcare-mcp` and encryption ≠ true → "HIPAA violation: Encryption required for healthcare data access"',
  'S-55': 'MFA for high/critical: "MFA required for high-sensitivity operations"',
  'S-56': 'Device compliance for critical: "Device compliance check required for critical operations"',
  'S-57': '`policies/test_advanced.sh`: three evaluations (delegation, time, geo)',
  'S-60':
    'Base class: `authenticate(credentials) -> UserContext`, `validate(token) -> UserContext`, `AuthenticationError`',
  'S-61':
    '`UserContext {user_id, email, roles, teams}` (+ `to_dict` → `{id,email,roles,teams}` in tutorial 2). It lacks `tenure_months`, `mfa_verified`, which the …',
  'S-62': 'OAuth2: ctor `issuer, client_id, client_secret, scopes=[openid, profile, email]`',
  'S-63': 'OIDC discovery at `{issuer}/.well-known/openid-configuration`',
  'S-64': 'Authorization-code exchange with `code`, `redirect_uri`',
  'S-65': 'userinfo → `sub, email, roles, teams`',
  'S-66': '`validate` = introspection (`active`) then userinfo',
  'S-67':
    'Errors "Token is not active", "OAuth2 … failed"; events `oauth2_authentication_success/failed`, `oauth2_validation_failed`',
  'S-68':
    'LDAP: ctor `server_url, base_dn, user_search_filter="(uid={username})", group_search_filter="(member={user_dn})"`',
  'S-69':
    'LDAP: username+password required ("Username and password required"); search DN; user bind; groups → roles; `uid, mail, cn`',
  'S-70': 'LDAP username escaped in the filter',
  'S-71': 'LDAP `validate` unsupported',
  'S-72': 'mTLS: ctor `ca_cert_path`, `allowed_organizations=[]`',
  'S-73':
    'mTLS: CN → user_id, emailAddress → email, O → team; org allow-list ("Organization not allowed: …"), "Client certificate required"',
  'S-74': 'mTLS: roles from a custom OID extension',
  'S-75': 'mTLS `validate` unsupported',
  'S-76': 'Registry `register(name, provider)`, `get(name)`, `list()`; built-ins oauth2, ldap, mtls',
  'S-80':
    '`ConnectionPoolManager(max_connections=100, max_keepalive=20, keepalive_expiry=30 s)`; shared instance 200/50/60 s; timeout 10 s; one client per base URL; …',
  'S-81': '`RequestBatcher(max_batch_size=100, max_wait_ms=10)`, `batch_execute(key, request, executor)`',
  'S-82': 'Cache key `authz:` + sha256 of user, action, server, tool, sorted params',
  'S-83': 'TTL multipliers low 2.0, medium 1.0, high 0.5, critical 0.1; base 60 s',
  'S-84': 'Hit-rate boost > 0.9 ×1.5, > 0.7 ×1.2 ; EMA 0.9/0.1',
  'S-85':
    'Circuit breaker: threshold 5, recovery 60 s, expected exception, states closed/open/half_open; `CircuitBreakerOpenError`',
  'S-86':
    'Events `http_client_created/closed`, `batch_execution`, `adaptive_ttl_calculated`, `circuit_breaker_half_open/closed/failure/open`',
  'S-90':
    'Event types: tool_invocation, authorization_decision, policy_violation, delegation_request, rate_limit_exceeded, suspicious_activity, data_access, admin_action',
  'S-91': 'Base: event_id, event_type, timestamp, user_id?, source_ip?, user_agent?, session_id?',
  'S-92': 'ToolInvocation: server_name, tool_name, tool_type?, sensitivity_level?, parameters, result?, duration_ms?',
  'S-93': 'PolicyViolation: policy_name, violation_reason, attempted_action, resource, severity',
  'S-94': 'SuspiciousActivity: activity_type, indicators[], risk_score 0.0–1.0, automated_response?',
  'S-95':
    'SIEM forwarder: `siem_url, api_key, batch_size=100, flush_interval=30 s`; `POST {url}/api/events {"events":[…]}`, `Authorization: Bearer`',
  'S-96': 'Format: timestamp ISO, event_type, user_id, source_ip, data',
  'S-97': 'Flush on batch size, on interval, on close; failure re-queues',
  'S-98': 'Events `siem_events_forwarded`, `siem_forward_failed`',
  'S-100': '50,000+ requests/s',
  'S-101': 'batches ≤ 100, wait ≤ 10 ms',
  'S-102': '10,000+ req/s cluster, 99.9 % uptime, 3→20 pods',
  'S-103':
    'authz p95 < 50 ms, p99 < 100 ms; cache hit < 5 ms (p95 < 10 ms in its test); 1000+ req/s sustained with > 99 % success; 0→1000 spike > 95 %',
  'S-104': 'cache hit rate > 80-90 %, SIEM 10,000 events/min, error < 0.1 %',
  'S-105': 'Stress: ≥ 80 % success at extreme load, graceful degradation ≥ 70 %, recovery',
  'SF-01': 'SQL by substring on `parameters.query` only',
  'SF-02': 'Resource rule returns HIGH even when the base is CRITICAL → approval rule bypassed',
  'SF-03': 'Substring match of resource names (`monkeys`⊃`keys`, `superusers`)',
  'SF-04': 'API: missing/unknown method = query; null crashes',
  'SF-05': 'File: substring, case-sensitive, no path rules',
  'SF-06': 'K8s: "get" in "target"; secrets low; exec/apply/patch/drain medium',
  'SF-07': 'production branch returns early, LOW never raised; HIGH→CRITICAL branch unreachable (no base HIGH)',
  'SF-08':
    '`environment` and `data_region` are caller parameters, exact lower-case match; omit or write `Production` to bypass',
  'SF-09': 'CUSTOM type → medium, unknown server → high: inconsistent',
  'SF-10': '`get_server()` may be `None` → crash; disabled server not checked here',
  'SF-11': 'Classification trusts tool names given by the MCP server (tool poisoning/rename)',
  'SF-30': '`is_production_environment(input)` – argument shadows `input`: does not compile',
  'SF-31': '`contains` keyword not imported in trust/context packages : parse error in v0, fine in v1',
  'SF-32': '`verify_approval_token(token) if token != ""`',
  'SF-33': '`x != true` with `x` absent is undefined → deny does not fire',
  'SF-34': '`count := 0` : never limits',
  'SF-35': '`delegation_depth`, `source_user`, `target_user` come from the client: negative depth, invented roles',
  'SF-36': 'GDPR/HIPAA keyed on caller parameter and one hard-coded server name',
  'SF-37': 'No `default allow := false`; three packages never combined; `deny` ignored by `allow`',
  'SF-38': '`allowed_regions` excludes `eu-central-1` although GDPR rule allows `eu-*`',
  'SF-39': 'Time, regions, limits hard-coded',
  'SF-40':
    'Message rendering differs between OPA (`{"eu-west-1", "us-east-1", "us-west-2"}`) and the npm SDK (`us-west-2,eu-west-1,us-east-1`, unordered)',
  'SF-41': 'Test script: `opa eval … -i -` has no query and wraps the document in `{"input":…}` (then `input.input`)',
  'SF-42': 'dev with 6 months (high) may delegate to a junior admin (high): authority of the delegate is undefined',
  'SF-50':
    'OAuth2: no PKCE/state/nonce; `id_token` ignored; access token not checked for `aud`/`client_id`/scope (token of another client accepted); discovery fetched …',
  'SF-51': 'LDAP: anonymous search bind',
  'SF-52': 'LDAP: no TLS/StartTLS, no CA check, no timeout, blocking in async, connections never closed',
  'SF-53': 'LDAP: `group_search_filter.format(user_dn=…)` unescaped  → filter injection via DN',
  'SF-54': 'LDAP: first of several matches used; "User not found" vs "Invalid credentials" distinguishable',
  'SF-55': 'LDAP groups become roles verbatim (a group called `admin` makes admins)',
  'SF-56':
    'Empty-password bind: seed checks falsy password; keep: RFC 4513 unauthenticated bind must never count as success, also for whitespace-only/`\\0`',
  'SF-57':
    'mTLS: chain verification commented out, PEM passed as data (no proof of key), no validity/EKU/revocation/SAN, missing CN is an opaque failure (IndexError …',
  'SF-58': 'mTLS roles hard-coded `["developer"]`',
  'SF-59': 'Registry: silent overwrite, method named `list`, no order, `NotImplementedError` escapes',
  'SF-60':
    'Batcher: lock held while sleeping → batches of 1, 98 req/s for 100 concurrent calls; size path returns the last result; clears whatever is pending after the …',
  'SF-61':
    'Cache key: `:`-joined → collision (`u:a`+`x` = `u`+`a:x`); omits tenant, roles, teams, gateway_metadata, approval, region, policy revision',
  'SF-62': 'CRITICAL cached 6 s (9 s hot); hit-rate map unbounded; no invalidation',
  'SF-63':
    'Breaker: half-open passes everything (50 of 50); late success resets the failure counter while open, so a failed probe leaves it HALF_OPEN with count 1; …',
  'SF-64':
    'SIEM: first flush of any real event throws `TypeError: datetime is not JSON serializable` after emptying the queue → all lost; failure keeps only 1 000 (2 …',
  'SF-65': 'Pool map grows with base URLs; `close_all` leaves closed clients in the map',
  'SF-66': 'Audit stores raw `parameters` and `result` (secrets, PII)',
  'SW-01':
    'PDP API `/api/v1/gateway`: `POST /authorize`, `POST /authorize-a2a`, `GET /servers?user_id&include_tools`, `GET /tools?server_name`, `POST /audit` (201).',
  'SW-02':
    'authorize request: action (`gateway:tool:invoke`, `gateway:server:access`, `gateway:resource:read`; code also `gateway:server:list`, …',
  'SW-03':
    'authorize response: allow, reason, filtered_parameters, audit_id, cache_ttl, metadata{policy_version, evaluated_at}; HTTP 200 for both allow and deny; …',
  'SW-04':
    'a2a: source_agent/target_agent {id,name,trust_level,capabilities}, tool_name, parameters, context{workflow_id,user_id}; response + max_delegation_depth. …',
  'SW-05':
    'Error body `{error:{code,message,details}}`; codes GATEWAY_NOT_ENABLED 503, A2A_NOT_ENABLED 503, INVALID_REQUEST 400, UNAUTHORIZED 401, FORBIDDEN 403, …',
  'SW-06':
    'Limits by credential: user JWT 1000/min, gateway key 10 000/min, agent JWT 5000/min; headers X-RateLimit-*; `X-API-Version`.',
  'SW-07':
    'Tokens: user JWT iss `sark-auth` aud `sark-api`; agent JWT iss `sark-agent-auth` aud `sark-a2a` with trust_level, capabilities; API key `sark_gw_<32 hex>`; …',
  'SW-08':
    'Feature flags GATEWAY_ENABLED, A2A_ENABLED, GATEWAY_AUDIT_ENABLED, GATEWAY_CACHE_ENABLED, GATEWAY_METRICS_ENABLED; `GET /api/v1/version` shows features; …',
  'SW-09':
    'Tutorial 2: env GATEWAY_HOST, GATEWAY_PORT=8080, GATEWAY_ENV, LOG_LEVEL, SARK_URL, SARK_TIMEOUT=10, JWT_SECRET_KEY (≥32 chars, default refused), …',
  'SW-10':
    'Tutorial 1: login, register server `POST /api/v1/servers`, authorize SELECT allow / DROP deny for analyst, list servers, `GET …',
  'SW-11':
    'Tutorial 3: liveness/readiness, HPA, ingress rate/body limits (10 MB), metrics `sark_gateway_authz_latency_seconds`, `…_authz_errors_total`, …',
  'SW-12':
    'Example policy `gateway.rego`: per-server/tool rules, deny set, `filtered_parameters` (drops password, secret, api_key), `reason`, `cache_ttl` (60/0). …',
  'SW-13':
    'Example `a2a.rego`: `trust_level_value := 0` next to other values → `eval_conflict_error` for every agent with a trust level; business-hours deny can never …',
  'SW-14':
    'Cache TTLs disagree in its docs: 1800/300/60/0, 300/180/60/30, 600/300/60/30 s (low→critical). Invalidate by user, user+action, pattern, all; L1 memory 100 …',
  'SW-15':
    'Its real breaker: half_open_max_calls 3, success_threshold 2, timeout 30; retry 3 attempts, backoff, jitter; timeouts per call.',
  'SW-16':
    'Its SIEM: Splunk HEC (`{time,source,sourcetype,index,host,event}` newline-joined) and Datadog, retry 3 (base 2, max 60 s), breaker, gzip > 1 KB, fallback …',
  'SW-17':
    'Policy layers "ALL must allow": base, rate, context, tool-chain depth, data governance, cost. Fail closed on policy error. Param filtering must be what is …',
  'SW-18':
    'Security tests: invalid/expired/missing JWT, privilege escalation, SQLi/command/path/XSS/null byte/header/LDAP/NoSQL/ReDoS inputs, oversize payload, secrets …',
  'SW-19':
    'Auth settings: LDAP bind DN, group base DN, role mapping, pool 10, timeout 5; OIDC google/azure/okta/custom with PKCE; SAML; sessions 24 h, 5 concurrent; …',
  'V-01':
    'Auth service: JWT generation + validation, user registration/management, API keys, permission verification, sessions',
  'V-02': 'Middleware: token verification, permission check, rate limiting',
  'V-03': 'PostgreSQL for users and keys; Redis for sessions and token blacklist',
  'V-04': 'Optional reverse proxy: central auth gateway, rate limiting, TLS termination',
  'V-05': 'Quick start: start auth, start protected service',
  'V-06': 'Register `POST /auth/register {username,email,password,full_name?}`',
  'V-07':
    'Login `POST /auth/login {username,password}` → `{access_token, refresh_token, token_type:"bearer", expires_in:86400, user_id, username, role}`',
  'V-08': 'Use token on a protected service `GET :8006/tasks`',
  'V-09': 'Refresh `POST /auth/refresh {refresh_token}` JSON body',
  'V-10': 'Logout `POST /auth/logout`',
  'V-11': '`GET /auth/me`',
  'V-12': '`POST /auth/change-password {current_password,new_password}`',
  'V-13': 'Create key `POST /auth/api-keys {name,permissions[],expires_in_days}`',
  'V-14': 'List keys `GET /auth/api-keys`',
  'V-15': 'Revoke `DELETE /auth/api-keys/{key_id}`',
  'V-16': '`POST /auth/verify-permission {permission,resource?}` → `{has_permission, permission, role}`',
  'V-17': 'JWT header `Authorization: Bearer` ; key header `X-API-Key`',
  'V-18': 'JWT: stateless, 24 h default, refreshable, carries user info and role',
  'V-20': 'Roles admin (all), user (own resources), viewer (read only)',
  'V-21':
    'Permissions `*`, tasks.create/read/update/delete, memory.read/write, agents.query, stats.read with default roles',
  'V-22': '"user – standard access to own resources"',
  'V-23': 'Password ≥ 8  and mix of upper, lower, digit, special',
  'V-24': 'Password history prevents reuse',
  'V-25': 'Account lockout after failed attempts',
  'V-26': 'Login 5 attempts/min; registration 3/hour; API calls by user tier',
  'V-27': 'Hash API keys before storing; show once; rotation policies; audit key usage',
  'V-28': 'Never log tokens; HTTPS in production; expiry 24 h / 30 d; refresh-token rotation',
  'V-30': '`AuthConfig(auth_service_url, jwt_secret_key, required_permissions)` + middleware',
  'V-31': '`@require_auth(["tasks.read"])`, `get_current_user(request)`',
  'V-32': 'Python and JavaScript client classes (login, authenticated request)',
  'V-33': 'Env `JWT_SECRET_KEY`, `LANGFUSE_DB_PASSWORD`, `REDIS_PASSWORD`',
  'V-34':
    'Metrics: login success/failure, refresh rate, key usage; failed auth, suspicious patterns, limit violations; auth response time, DB query time, Redis hit rate',
  'V-35':
    'Log events: registration, login ok/fail, password change, key create/revoke, permission denial, token blacklisting',
  'V-36': 'Error texts "Invalid token", "Permission denied", "Rate limit exceeded", database connection error',
  'V-37': 'Debug mode',
  'V-38':
    'Migration from no auth: deploy, create admin user, migrate users, configure middleware, update clients, stage, production with monitoring',
  'V-39': 'Upgrade: backup, stage, DB migrations, env, zero-downtime, monitor',
  'V-40':
    'Env `AUTH_PORT=8005`, `DATABASE_URL`, `REDIS_URL=redis://localhost:6379`, `JWT_SECRET_KEY (generated)`, `JWT_ALGORITHM=HS256`, `JWT_EXPIRATION_HOURS=24`, …',
  'V-41': 'Profiles: default (no auth), auth, auth-full, auth-proxy',
  'V-42': 'Logs via `docker-compose logs auth-service`',
  'VF-01':
    '`JWT_SECRET_KEY` default "(generated)" → tokens die on restart, differ per replica; compose default is a public string',
  'VF-02': 'HS256 shared with every service: any service can mint tokens',
  'VF-03': 'Real logout blacklists `token_data["token"]`, which never exists → logout does nothing',
  'VF-04': 'Blacklist keyed by the whole token; local-secret middleware path never looks at it',
  'VF-05': 'Refresh token stored under its first 10 characters (`eyJ…` constant) → one per user, overwritten',
  'VF-06': 'Middleware does not check `type` → a refresh token (30 d) works as access token',
  'VF-07': '`/auth/refresh` takes a query parameter in code, JSON body in docs',
  'VF-08': 'Middleware calls `/auth/verify-api-key`, nginx calls `/auth/verify`: neither exists',
  'VF-09': 'Creating a key copies any requested permissions (`["*"]`)',
  'VF-10': '`perm[:-2]` prefix: `tasks.*` matches `tasksfoo`',
  'VF-11': 'Required permissions: `any`, not all; list semantics unclear',
  'VF-12': 'Code lacks `tasks.delete`, `stats.read` for user although the doc grants them',
  'VF-13': 'JWT principals have no permissions in local mode → `require_auth` denies users always',
  'VF-14': 'Default account `admin`/`admin123` created at start',
  'VF-15': '`allow_anonymous` skips authentication even when credentials are sent',
  'VF-16': 'Login: distinct timing for unknown user (no hash run)',
  'VF-17': 'Role/active flag read from the token for 24 h',
  'VF-18': 'Password change leaves sessions alive',
  'VF-19': 'Rate limit fails open; INCR then EXPIRE race (key without TTL)',
  'VF-20':
    'nginx: limits keyed by raw Authorization header; CORS reflects any origin with credentials; `/docs` public; X-Forwarded-For appended and trusted',
  'VF-21': "Upstream trusts `X-Auth-User/Role`; nothing strips a client's own copies on other paths",
  'VF-22': 'Key stored as bare SHA-256 (fine for 256-bit random keys) but looked up by full hash with no prefix id',
  'VF-23': 'verify-permission ignores `resource`',
  'VF-24': 'History, lockout, rotation policy, tiers, registration limit: promised in the doc, absent in the code',
  'VF-25': 'Client snippet: credentials in memory only, no refresh, base URL = auth service',
  'VW-01':
    'Models: User{id,username 3-50,email,password_hash(bcrypt),full_name,role,is_active,is_verified,created_at,updated_at,last_login}; …',
  'VW-02': 'Public paths: /health /docs /openapi.json /redoc /auth/login /auth/register.',
  'VW-03':
    'nginx routes: `/api/tasks/`, `/api/memory/`, `/api/v1/chat/` (timeout 300 s), `/ws/` (WebSocket), `/auth/*`; zones login 5/min, api 100/min, token 200/min; …',
  'VW-04':
    'Orchestrator permissions: POST /tasks tasks.create; GET /tasks[/id[/results]] tasks.read; DELETE /tasks/{id} tasks.delete; POST /agents/query agents.query; …',
  'VW-05':
    'Tests (17): register ok / duplicate (400) / bad email / weak password; login ok / bad password / unknown user; refresh; protected with, without, with bad …',
  'VW-06':
    'Ports: auth 8005, orchestrator 8006, memory 8007. Later modules: TOTP + backup codes, adaptive auth, device fingerprint, GeoIP, rate-limit algorithms …',
  'X-01':
    'Fail closed everywhere: provider down 503, policy error deny, counter store down per config, unknown tool/server deny.',
  'X-02': 'One request id from edge to upstream, audit, SIEM and error body.',
  'X-03':
    'The parameters that were authorized are byte-for-byte the ones forwarded (no parse differential: duplicate JSON keys, `__proto__`, huge numbers, BOM, deep …',
  'X-04': 'Path normalisation before routing and public-path checks (`//`, `%2e%2e`, `;`, case).',
  'X-05': 'Body, header, URI limits and timeouts (slowloris), 413/431/408.',
  'X-06': 'Streaming (SSE) back-pressure; client abort cancels upstream; breaker ignores client aborts.',
  'X-07': 'Secrets redacted in logs, errors, `portcullis config print`, crash dumps.',
  'X-08':
    'Config validated at start with line-precise errors; unknown keys rejected; every seed env name in the alias table tested.',
  'X-09': 'Graceful shutdown drains requests, flushes audit, closes pools (S-80 `close_all`, S-97 `close`).',
  'X-10':
    'Report-only (shadow) mode: decisions logged, not enforced – for the migration promises (V-38, H-20, DW-19, SW-08).',
  'X-11':
    'Two gateway processes sharing Redis/Postgres behave as one (limits, revocation, approvals single use, vault refresh).',
  'X-12':
    'MCP: `initialize`, `tools/list` filtered by policy (no enumeration of forbidden tools), `tools/call`, notifications, session id, protocol version header, …',
  'X-13': 'Security regression suite named after every `*F-nn` line above.',
} as const satisfies Record<string, string>;

export type RequirementId = keyof typeof REQUIREMENTS;
