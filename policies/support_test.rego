# METADATA
# title: What the tests share
# description: A complete request that nothing speaks against, and the strict data.
package portcullis.support_test

strict := data.profiles.config

# 2025-01-15T10:30:00Z, a Wednesday
wednesday := 1736937000000000000

request := {
	"version": "1",
	"request_id": "req_1",
	"timestamp": "2025-01-15T10:30:00.000Z",
	"action": "gateway:tool:invoke",
	"server_name": "orders",
	"tool_name": "execute_query",
	"parameters": {"query": "SELECT 1"},
	"user": {
		"id": "u1",
		"type": "user",
		"tenant_id": "acme",
		"roles": ["developer"],
		"permissions": [],
		"scopes": [],
		"tenure_months": 7,
		"mfa_verified": true,
	},
	"gateway_metadata": {
		"tool_type": "query",
		"sensitivity_level": "low",
		"environment": "staging",
		"source_region": "us-east-1",
		"encryption_enabled": true,
		"device_compliant": true,
		"approval": {"present": false, "verified": false},
	},
	"server": {
		"name": "orders",
		"environment": "staging",
		"data_region": null,
		"tags": [],
		"enabled": true,
		"allow": [],
	},
	"tool": {"name": "execute_query", "requires_hitl": false},
	"resource": {"type": "tool", "id": "orders:execute_query", "tenant_id": "acme", "owner_id": null, "permissions": null},
	"rate_limit": {"window_seconds": 60, "count": 0},
	"source_user": null,
	"target_user": null,
	"delegation_depth": 0,
	"delegation_chain": [],
	"source_agent": null,
	"target_agent": null,
	"capability": null,
	"context": {"workflow_id": null, "user_id": null, "delegation_depth": 0},
	"llm": null,
	"data_region": null,
}

# The request with some of it replaced: [{"op": "replace", "path": "/user/roles", "value": []}, …] in short form.
but(changes) := json.patch(request, [{"op": "add", "path": path, "value": value} | some path, value in changes])

without(path) := json.patch(request, [{"op": "remove", "path": path}])

classed(role, kind, level) := but({
	"/user/roles": [role],
	"/gateway_metadata/tool_type": kind,
	"/gateway_metadata/sensitivity_level": level,
})

codes(decision) := {reason.code | some reason in decision.deny}

messages(decision) := {reason.message | some reason in decision.deny}
