package portcullis.tenants_test

import data.portcullis.main
import data.portcullis.support_test as support

freeze := {"acme": {"deny": [
	{"tool_types": ["mutation"], "servers": ["orders*"], "message": "Orders are frozen", "code": "FORBIDDEN"},
	{"roles": ["analyst"], "actions": ["llm:*"], "models": ["gpt-*"]},
	{"tools": ["drop_all"]},
]}}

mutation := support.but({"/gateway_metadata/tool_type": "mutation", "/user/roles": ["admin"]})

test_an_overlay_denies_what_everybody_else_may if {
	main.decision.allow == true with data.portcullis.custom as {} with input as mutation
	denied := main.decision with data.portcullis.custom as {} with input as mutation with data.tenants as freeze
	denied.allow == false
	denied.deny == [{
		"package": "portcullis.tenants", "code": "FORBIDDEN", "message": "Orders are frozen", "severity": "medium",
	}]
}

test_an_overlay_binds_its_own_tenant_alone if {
	other := json.patch(mutation, [
		{"op": "replace", "path": "/user/tenant_id", "value": "rival"},
		{"op": "replace", "path": "/resource/tenant_id", "value": "rival"},
	])
	main.decision.allow == true with data.portcullis.custom as {} with input as other with data.tenants as freeze
}

test_every_criterion_of_a_rule_has_to_fit if {
	main.decision.allow == true with data.portcullis.custom as {} with input as support.request with data.tenants as freeze
	elsewhere := json.patch(mutation, [{"op": "replace", "path": "/server_name", "value": "billing"}])
	main.decision.allow == true with data.portcullis.custom as {} with input as elsewhere with data.tenants as freeze
	tool := json.patch(support.request, [{"op": "replace", "path": "/tool_name", "value": "drop_all"}])
	main.decision.allow == false with data.portcullis.custom as {} with input as tool with data.tenants as freeze
}

model(role, name) := support.but({
	"/action": "llm:chat:create",
	"/user/roles": [role],
	"/server": null,
	"/server_name": null,
	"/tool_name": null,
	"/resource": {"type": "model", "id": name, "tenant_id": null, "owner_id": null, "permissions": null},
	"/llm": {"model": name, "resolved_model": null, "max_tokens": null},
})

test_models_may_be_closed_for_roles if {
	main.decision.allow == false with data.portcullis.custom as {} with input as model("analyst", "gpt-4") with data.tenants as freeze
	main.decision.allow == true with data.portcullis.custom as {} with input as model("analyst", "small") with data.tenants as freeze
	main.decision.allow == true with data.portcullis.custom as {} with input as model("developer", "gpt-4") with data.tenants as freeze
}

test_an_overlay_never_allows if {
	generous := {"acme": {"deny": [], "allow": true, "obligations": [], "permissions": ["*"], "tool_access": {"guest": {"*": {"levels": ["low"]}}}}}
	document := support.classed("guest", "query", "low")
	main.decision.allow == false with data.portcullis.custom as {} with input as document with data.tenants as generous
	main.decision.allow == false with data.portcullis.custom as {} with input as document
}

test_what_cannot_be_read_denies_everything if {
	every overlay in [{}, {"deny": true}, {"deny": {}}, "none", {"deny": "all"}] {
		main.decision.allow == false with data.portcullis.custom as {} with input as support.request with data.tenants as {"acme": overlay}
	}
	every rule in [{}, {"tools": "drop_all"}, {"tool": ["drop_all"]}, 1] {
		main.decision.allow == false with data.portcullis.custom as {} with input as support.request with data.tenants as {"acme": {"deny": [rule]}}
	}
}

test_a_missing_fact_is_not_in_the_callers_favour if {
	document := json.patch(mutation, [{"op": "replace", "path": "/tool_name", "value": "drop_all"}])
	every path in [
		"/server_name", "/tool_name", "/user/roles", "/user/tenant_id", "/user", "/gateway_metadata/tool_type",
		"/gateway_metadata/sensitivity_level", "/llm", "/action",
	] {
		changed := json.patch(document, [{"op": "remove", "path": path}])
		main.decision.allow == false with data.portcullis.custom as {} with input as changed with data.tenants as freeze
	}
}

test_a_list_hides_what_the_overlay_denies if {
	document := json.patch(support.request, [{"op": "add", "path": "/calls", "value": [
		{"action": "gateway:tool:discover", "tool_name": "drop_all", "gateway_metadata": {"tool_type": "query", "sensitivity_level": "low"}},
		{"action": "gateway:tool:discover", "tool_name": "look", "gateway_metadata": {"tool_type": "query", "sensitivity_level": "low"}},
	]}])
	[true, true] == [decision.allow | some decision in main.decisions] with data.portcullis.custom as {} with input as document
	[false, true] == [decision.allow | some decision in main.decisions] with data.portcullis.custom as {} with input as document with data.tenants as freeze
}
