import { describe, expect, test } from 'vitest';
import { createMetrics } from '../../../src/observability/metrics.ts';
import { verifies } from '../../helpers/verifies.ts';

const make = () => createMetrics({ version: '1.2.3', node: 'v24.0.0' }, { defaults: false });

describe('metrics', () => {
  test('count what happened, by names that are bounded', async () => {
    const metrics = make();
    const meter = metrics.route('/mcp/orders', 'mcp');
    meter.observe('allowed', 'OK', 0.003);
    meter.observe('allowed', 'OK', 0.2);
    meter.observe('denied', 'PD', 0.001);
    metrics.refused('AP');
    metrics.started();
    metrics.started();
    metrics.finished();
    metrics.decision(true, true, 0, null);
    metrics.decision(false, false, 12, null);
    metrics.decision(false, false, 900, 'timeout');
    metrics.upstream('orders', 200);
    metrics.upstream('orders', 503);
    metrics.upstream('orders', 0);
    metrics.breaker('orders', 'open');
    metrics.auditDropped(3);
    metrics.rateLimited('principal');
    metrics.connectionRefused('address');
    metrics.unknownServerType('mystery');
    const text = await metrics.text();
    for (const line of [
      'portcullis_build_info{version="1.2.3",node="v24.0.0"} 1',
      'portcullis_requests_total{route="/mcp/orders",protocol="mcp",outcome="allowed",flag="OK"} 2',
      'portcullis_requests_total{route="/mcp/orders",protocol="mcp",outcome="denied",flag="PD"} 1',
      'portcullis_request_duration_seconds_count{route="/mcp/orders"} 3',
      'portcullis_request_duration_seconds_bucket{le="0.005",route="/mcp/orders"} 2',
      'portcullis_requests_refused_total{flag="AP"} 1',
      'portcullis_requests_in_flight 1',
      'portcullis_decisions_total{outcome="allow",cached="true"} 1',
      'portcullis_decisions_total{outcome="deny",cached="false"} 2',
      'portcullis_policy_evaluation_seconds_count 2',
      'portcullis_decision_failures_total{kind="timeout"} 1',
      'portcullis_upstream_requests_total{upstream="orders",status_class="2xx"} 1',
      'portcullis_upstream_requests_total{upstream="orders",status_class="5xx"} 1',
      'portcullis_upstream_requests_total{upstream="orders",status_class="none"} 1',
      'portcullis_upstream_breaker_state{upstream="orders"} 2',
      'portcullis_audit_dropped_total 3',
      'portcullis_rate_limited_total{kind="principal"} 1',
      'portcullis_connections_refused_total{reason="address"} 1',
      'portcullis_unknown_server_types_total{type="mystery"} 1',
    ]) {
      expect(text).toContain(`${line}\n`);
    }
  });

  test('show authentication results, store latency and errors, and tenant violations', async () => {
    verifies('D-62');
    const metrics = make();
    expect(await metrics.text()).toContain('tenant_isolation_violations_total 0\n');
    metrics.auth('keys', 'authenticated');
    metrics.auth('keys', 'rejected');
    metrics.authDuration('keys', 0.002);
    metrics.store('database', 'find_key', 0.0002);
    metrics.storeError('database');
    metrics.tenantViolation();
    const text = await metrics.text();
    expect(text).toContain('portcullis_auth_results_total{provider="keys",result="rejected"} 1\n');
    expect(text).toContain('portcullis_auth_duration_seconds_count{provider="keys"} 1\n');
    expect(text).toContain(
      'portcullis_store_operation_seconds_bucket{le="0.00025",store="database",operation="find_key"} 1\n',
    );
    expect(text).toContain('portcullis_store_errors_total{store="database"} 1\n');
    expect(text).toContain('tenant_isolation_violations_total 1\n');
  });

  test('two gateways in one process do not share figures, and a route keeps its meter', async () => {
    const [one, two] = [make(), make()];
    one.auditDropped(1);
    expect(await two.text()).toContain('portcullis_audit_dropped_total 0\n');
    expect(one.route('/a', 'http')).toBe(one.route('/a', 'http'));
    expect(one.route('/a', 'http')).not.toBe(one.route('/a', 'mcp'));
  });

  test('the process’s own figures are there by default', async () => {
    expect(await createMetrics({ version: '1', node: 'v24' }).text()).toContain('process_resident_memory_bytes');
  });
});
