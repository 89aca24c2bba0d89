package examples.gateway_test

import data.examples.gateway

call(roles, server, tool, kind) := {
	"action": "gateway:tool:invoke",
	"server_name": server,
	"tool_name": tool,
	"user": {"id": "u1", "type": "user", "tenant_id": "acme", "roles": roles},
	"gateway_metadata": {"tool_type": kind},
	"server": {"name": server, "enabled": true},
	"resource": {"tenant_id": null},
	"parameters": {"query": "SELECT 1", "Password": "p", "deep": [{"api_key": "k", "kept": 1}]},
}

test_an_analyst_reads if gateway.allow with input as call(["analyst"], "postgres-mcp", "execute_query", "query")

test_an_analyst_does_not_drop if {
	document := call(["analyst"], "postgres-mcp", "execute_query", "admin")
	not gateway.allow with input as document
	gateway.reason == "Only an admin may change data or tables" with input as document
}

test_an_admin_with_a_second_role_stays_an_admin if {
	document := call(["analyst", "admin"], "postgres-mcp", "execute_query", "admin")
	gateway.allow with input as document
	gateway.reason == "Allowed for admin, analyst" with input as document
}

test_a_denial_counts_for_an_admin_too if {
	document := call(["admin"], "github-mcp", "delete_audit_log", "mutation")
	not gateway.allow with input as document
	gateway.cache_ttl == 0 with input as document
	gateway.filtered_parameters == null with input as document
}

test_secrets_are_left_out if {
	filtered := gateway.filtered_parameters with input as call(["admin"], "github-mcp", "get_repo", "query")
	filtered == {"query": "SELECT 1", "deep": [{"kept": 1}]}
}

test_a_server_that_is_switched_off_is_used_by_nobody if {
	document := json.patch(
		call(["admin"], "github-mcp", "get_repo", "query"),
		[{"op": "replace", "path": "/server/enabled", "value": false}],
	)
	not gateway.allow with input as document
}

test_what_belongs_to_another_tenant_is_refused if {
	document := json.patch(
		call(["admin"], "github-mcp", "get_repo", "query"),
		[{"op": "replace", "path": "/resource/tenant_id", "value": "other"}],
	)
	not gateway.allow with input as document
}

test_a_list_shows_what_can_be_called if {
	document := object.union(call(["analyst"], "postgres-mcp", "execute_query", "query"), {"action": "gateway:tool:discover"})
	gateway.allow with input as document
	not gateway.allow with input as object.union(document, {"tool_name": "drop_table"})
}
