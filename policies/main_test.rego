package portcullis.main_test

import data.portcullis.main
import data.portcullis.support_test as support

strictly(document) := decision if {
	decision := main.decision with data.portcullis.custom as {} with input as document
		with data.config as support.strict
		with time.now_ns as support.wednesday
}

test_a_clean_request_is_allowed_without_conditions if {
	wanted := {"allow": true, "deny": [], "obligations": [], "valid_until": null}
	strictly(support.request) == wanted
}

test_every_denial_has_a_reason_the_caller_can_use if {
	decision := strictly(support.classed("analyst", "query", "low"))
	decision.allow == false
	support.codes(decision) == {"POLICY_DENIED"}
	support.messages(decision) == {"No rule lets role analyst run query tools of low sensitivity"}
}

test_a_critical_call_that_lacks_only_consent_asks_for_it if {
	decision := strictly(support.classed("admin", "admin", "critical"))
	decision.allow == false
	support.codes(decision) == {"APPROVAL_REQUIRED"}
	decision.obligations == [{"type": "require_approval"}]
	decision.valid_until == time.parse_rfc3339_ns("2025-01-15T17:00:00Z")
}

test_an_approved_critical_call_is_allowed_until_the_hour if {
	document := json.patch(support.classed("admin", "admin", "critical"), [{
		"op": "add", "path": "/gateway_metadata/approval/verified", "value": true,
	}])
	decision := strictly(document)
	decision.allow == true
	decision.valid_until == time.parse_rfc3339_ns("2025-01-15T17:00:00Z")
}

test_consent_is_not_asked_for_where_it_would_not_help if {
	document := json.patch(support.classed("admin", "admin", "critical"), [{
		"op": "add", "path": "/user/mfa_verified", "value": false,
	}])
	decision := strictly(document)
	support.codes(decision) == {"MFA_REQUIRED"}
	decision.obligations == [{"type": "require_mfa"}]
	other := strictly(support.classed("developer", "admin", "critical"))
	support.codes(other) == {"POLICY_DENIED"}
	other.obligations == []
}

test_a_tool_may_ask_for_consent_whatever_its_class if {
	document := support.but({"/tool/requires_hitl": true})
	support.codes(strictly(document)) == {"APPROVAL_REQUIRED"}
	approved := json.patch(document, [{"op": "add", "path": "/gateway_metadata/approval/verified", "value": true}])
	strictly(approved).allow == true
}

test_denials_override_every_allow if {
	document := json.patch(support.classed("admin", "query", "low"), [{
		"op": "add", "path": "/gateway_metadata/source_region", "value": "cn-north-1",
	}])
	decision := strictly(document)
	decision.allow == false
	support.codes(decision) == {"REGION_DENIED"}
}

test_all_reasons_are_given_together if {
	document := json.patch(support.classed("admin", "admin", "critical"), [
		{"op": "add", "path": "/gateway_metadata/source_region", "value": "cn-north-1"},
		{"op": "add", "path": "/gateway_metadata/encryption_enabled", "value": false},
		{"op": "add", "path": "/gateway_metadata/device_compliant", "value": false},
		{"op": "add", "path": "/user/mfa_verified", "value": false},
		{"op": "add", "path": "/server/data_region", "value": "eu"},
		{"op": "add", "path": "/server/tags", "value": ["phi"]},
		{"op": "add", "path": "/rate_limit/count", "value": 1000},
	])
	decision := main.decision with data.portcullis.custom as {} with input as document
		with data.config as support.strict
		with time.now_ns as time.parse_rfc3339_ns("2025-01-18T20:00:00Z")
	support.codes(decision) == {
		"REGION_DENIED", "RATE_LIMIT_EXCEEDED", "MFA_REQUIRED", "DEVICE_NOT_COMPLIANT", "GDPR_VIOLATION", "HIPAA_VIOLATION",
		"OUTSIDE_WORK_HOURS",
	}
	count(decision.deny) == 8
}

# Each of these requests is denied; taking any one of the risky facts away must not turn that into an allow.
risky := [
	support.but({"/gateway_metadata/source_region": "cn-north-1"}),
	support.but({"/rate_limit/count": 500}),
	support.but({"/server/data_region": "eu", "/data_region": "eu"}),
	support.but({"/server/tags": ["phi"], "/gateway_metadata/encryption_enabled": false}),
	json.patch(support.classed("admin", "query", "high"), [{"op": "add", "path": "/user/mfa_verified", "value": false}]),
	json.patch(support.classed("admin", "query", "critical"), [
		{"op": "add", "path": "/gateway_metadata/device_compliant", "value": false},
		{"op": "add", "path": "/gateway_metadata/approval/verified", "value": true},
	]),
	support.classed("admin", "query", "critical"),
	support.classed("analyst", "query", "low"),
	support.but({"/resource/tenant_id": "other"}),
	support.but({"/server/enabled": false}),
	support.but({"/tool/requires_hitl": true}),
]

facts := [
	"/gateway_metadata/source_region", "/gateway_metadata/encryption_enabled", "/gateway_metadata/device_compliant",
	"/gateway_metadata/sensitivity_level", "/gateway_metadata/tool_type", "/gateway_metadata/approval",
	"/gateway_metadata", "/rate_limit/count", "/rate_limit", "/user/mfa_verified", "/user/roles", "/user/tenant_id", "/user",
	"/server/data_region", "/server/tags", "/server/environment", "/server/enabled", "/server", "/parameters", "/tool",
	"/tool/requires_hitl", "/resource/tenant_id", "/resource", "/action",
]

test_taking_a_fact_away_never_allows_what_was_denied if {
	every document in risky {
		strictly(document).allow == false
		every fact in facts {
			strictly(json.patch(document, [{"op": "remove", "path": fact}])).allow == false
		}
	}
}

test_an_empty_document_is_denied_with_a_reason if {
	decision := main.decision with data.portcullis.custom as {} with input as {}
	decision.allow == false
	count(decision.deny) > 0
}

test_data_that_is_missing_denies if {
	decision := main.decision with data.portcullis.custom as {} with input as support.request with data.config as {}
	decision.allow == false
	count(decision.deny) > 0
}

test_a_disabled_server_is_not_called_and_not_listed if {
	support.codes(strictly(support.but({"/server/enabled": false}))) == {"SERVER_DISABLED"}
	document := json.patch(listing([{"tool_type": "query", "sensitivity_level": "low"}]), [{
		"op": "add", "path": "/server/enabled", "value": false,
	}])
	[false] == [decision.allow | some decision in main.decisions] with data.portcullis.custom as {} with input as document
}

# As opposed to null, false and an empty list, which the gateway writes where it knows that there is nothing.
test_a_member_that_is_not_there_is_not_nothing if {
	every path in ["/server", "/server/enabled", "/tool", "/tool/requires_hitl", "/resource", "/resource/tenant_id"] {
		decision := strictly(support.without(path))
		support.codes(decision) == {"POLICY_EVALUATION_ERROR"}
	}
	every path in ["/server/enabled", "/tool/requires_hitl", "/tool"] {
		support.codes(strictly(support.but({path: null}))) == {"POLICY_EVALUATION_ERROR"}
	}
	strictly(support.but({"/server": null})).allow == true
	every action in ["gateway:prompt:get", "mcp:protocol", "llm:chat:create", "http:get", "responses:list"] {
		every path in ["/server", "/server/enabled", "/resource", "/resource/tenant_id"] {
			document := json.patch(support.but({"/action": action}), [{"op": "remove", "path": path}])
			strictly(document).allow == false
		}
	}
}

test_other_actions_need_no_tool if {
	every action in ["gateway:prompt:get", "mcp:protocol"] {
		strictly(support.but({"/action": action, "/tool": null})).allow == true
	}
}

test_a_graded_action_without_a_class_is_not_judged if {
	every action in ["a2a:invoke", "a2a:delegate", "keys:create"] {
		document := json.patch(support.but({"/action": action}), [{"op": "remove", "path": "/gateway_metadata/sensitivity_level"}])
		"POLICY_EVALUATION_ERROR" in support.codes(strictly(document))
	}
}

test_objects_of_another_tenant_do_not_exist if {
	support.codes(strictly(support.but({"/resource/tenant_id": "other"}))) == {"NOT_FOUND"}
	strictly(support.but({"/resource/tenant_id": null})).allow == true
}

listing(classes) := support.but({
	"/action": "gateway:tool:discover",
	"/parameters": null,
	"/calls": [{"action": "gateway:tool:discover", "gateway_metadata": class} | some class in classes],
})

test_a_list_gives_one_decision_per_element_in_order if {
	document := listing([
		{"tool_type": "query", "sensitivity_level": "low"},
		{"tool_type": "mutation", "sensitivity_level": "low"},
		{"tool_type": "analytics", "sensitivity_level": "medium"},
	])
	decisions := main.decisions with data.portcullis.custom as {} with input as document with data.config as support.strict
	[true, false, true] == [decision.allow | some decision in decisions]
	every decision in decisions {
		has_reason_or_allows(decision)
	}
}

has_reason_or_allows(decision) if decision.allow

has_reason_or_allows(decision) if {
	not decision.allow
	count(decision.deny) > 0
}

test_a_list_does_not_hide_what_mfa_or_consent_would_open if {
	document := json.patch(listing([{"tool_type": "admin", "sensitivity_level": "critical"}]), [
		{"op": "add", "path": "/user/roles", "value": ["admin"]},
		{"op": "add", "path": "/user/mfa_verified", "value": false},
		{"op": "add", "path": "/gateway_metadata/device_compliant", "value": false},
	])
	[true] == [decision.allow | some decision in main.decisions] with data.portcullis.custom as {} with input as document
		with data.config as support.strict
		with time.now_ns as time.parse_rfc3339_ns("2025-01-18T20:00:00Z")
}

test_a_list_is_empty_where_the_caller_may_not_be if {
	document := json.patch(listing([{"tool_type": "query", "sensitivity_level": "low"}]), [{
		"op": "add", "path": "/gateway_metadata/source_region", "value": "cn-north-1",
	}])
	[false] == [decision.allow | some decision in main.decisions] with data.portcullis.custom as {} with input as document
		with data.config as support.strict
}

test_an_element_of_another_server_is_judged_by_that_server if {
	other := {"name": "eu-db", "environment": "production", "data_region": "eu", "tags": [], "enabled": true, "allow": []}
	elements := [
		{"action": "gateway:tool:discover", "gateway_metadata": {"tool_type": "query", "sensitivity_level": "low"}},
		{
			"action": "gateway:tool:discover", "server_name": "eu-db", "server": other,
			"gateway_metadata": {"tool_type": "query", "sensitivity_level": "low"},
		},
	]
	document := support.but({"/action": "gateway:tool:discover", "/calls": elements})
	[true, false] == [decision.allow | some decision in main.decisions] with data.portcullis.custom as {} with input as document
}

test_an_element_equals_the_same_call_alone if {
	elements := [
	{"action": action, "gateway_metadata": {"tool_type": type, "sensitivity_level": level}} |
		some action in ["gateway:tool:discover", "gateway:tool:invoke"]
		some type in ["query", "mutation", "admin", "billing"]
		some level in ["low", "medium", "high", "critical", "extreme"]
	]
	every role in ["admin", "developer", "data_engineer", "viewer", "guest"] {
		every environment in ["staging", "production"] {
			base := support.but({"/user/roles": [role], "/server/environment": environment, "/parameters": null})
			decisions := main.decisions with data.portcullis.custom as {} with input as object.union(base, {"calls": elements})
				with data.config as support.strict
				with time.now_ns as support.wednesday
			every index, element in elements {
				alone := strictly(object.union(base, element))
				alone.allow == decisions[index].allow
			}
		}
	}
}

# Whatever an element says of the server or of the thing, the list says what the call alone says.
test_an_odd_element_equals_the_same_call_alone if {
	server := support.request.server
	resource := support.request.resource
	class := {"tool_type": "query", "sensitivity_level": "low"}
	odd := [
		{"server": null}, {"server": {}}, {"server": false}, {"server": object.remove(server, ["enabled"])},
		{"server": object.remove(server, ["name"])}, {"server": object.union(server, {"enabled": false})},
		{"server": object.union(server, {"environment": "production"})}, {"server": server},
		{"resource": null}, {"resource": {}}, {"resource": false}, {"resource": object.remove(resource, ["tenant_id"])},
		{"resource": object.union(resource, {"tenant_id": "rival"})}, {"resource": object.union(resource, {"tenant_id": 7})},
		{"resource": object.union(resource, {"tenant_id": null})}, {"resource": resource}, {},
	]
	bases := [
		support.request, support.without("/server"), support.without("/server/enabled"), support.without("/resource"),
		support.without("/resource/tenant_id"), support.but({"/server": null}),
		support.but({"/user/tenant_id": 7, "/resource/tenant_id": 7}), support.without("/user/tenant_id"),
	]
	elements := [object.union({"action": "gateway:tool:discover", "gateway_metadata": class}, each) | some each in odd]
	every role in ["developer", "data_engineer", "guest"] {
		every base in bases {
			document := json.patch(base, [
				{"op": "replace", "path": "/action", "value": "gateway:tool:discover"},
				{"op": "replace", "path": "/user/roles", "value": [role]},
			])
			decisions := main.decisions with data.portcullis.custom as {} with input as object.union(document, {"calls": elements})
				with data.config as support.strict
				with time.now_ns as support.wednesday
			every index, element in elements {
				alone := strictly(object.union(object.remove(document, object.keys(object.remove(element, ["gateway_metadata"]))), element))
				alone.allow == decisions[index].allow
			}
		}
	}
}

test_delegation_is_decided_by_trust if {
	document := support.but({
		"/action": "a2a:delegate",
		"/source_user": {"id": "a", "type": "user", "roles": ["admin"], "tenure_months": 24},
		"/target_user": {"id": "b", "type": "user", "roles": ["developer"], "tenure_months": 6},
		"/delegation_depth": 1,
		"/delegation_chain": [{"id": "z", "type": "user"}],
	})
	main.decision.allow == true with data.portcullis.custom as {} with input as document
	deep := [{"id": "z", "type": "user"} | some _ in numbers.range(1, 5)]
	main.decision.allow == false with data.portcullis.custom as {} with input as json.patch(document, [
		{"op": "add", "path": "/delegation_depth", "value": 5},
		{"op": "add", "path": "/delegation_chain", "value": deep},
	])
}

# --- packages of your own ---

test_a_package_of_your_own_can_deny if {
	decision := main.decision with data.portcullis.custom as {} with input as support.request
		with data.portcullis.custom as {"freeze": {"violations": {{"code": "FORBIDDEN", "message": "No", "severity": "low"}}}}
	decision.allow == false
	decision.deny == [{"package": "portcullis.custom.freeze", "code": "FORBIDDEN", "message": "No", "severity": "low"}]
}

test_a_package_of_your_own_can_allow_but_not_override_a_denial if {
	custom := {"extra": {"allow": true}}
	document := support.classed("guest", "custom", "high")
	main.decision.allow == true with input as document with data.portcullis.custom as custom
	denied := json.patch(document, [{"op": "add", "path": "/rate_limit/count", "value": 100}])
	main.decision.allow == false with input as denied with data.portcullis.custom as custom
}

test_whatever_a_package_says_badly_still_denies if {
	every said in [{"deny": {"no"}}, {"deny": true}, {"violations": {"no"}}, {"violations": [{}]}, {"violations": {7}}] {
		decision := main.decision with input as support.request with data.portcullis.custom as {"odd": said}
		decision.allow == false
	}
}

test_a_package_of_your_own_takes_part_in_lists if {
	document := listing([{"tool_type": "query", "sensitivity_level": "low"}])
	[false] == [decision.allow | some decision in main.decisions] with data.portcullis.custom as {} with input as document
		with data.portcullis.custom as {"freeze": {"deny": {"no"}}}
}

test_a_tenants_own_package_can_only_deny if {
	closed := {"acme": {"deny": {"Closed on Wednesdays"}, "allow": true, "obligations": {{"type": "audit", "level": "full"}}}}
	denied := main.decision with data.portcullis.custom as {} with input as support.request with data.portcullis.tenant as closed
	denied.allow == false
	support.messages(denied) == {"Closed on Wednesdays"}
	other := json.patch(support.request, [
		{"op": "replace", "path": "/user/tenant_id", "value": "rival"},
		{"op": "replace", "path": "/resource/tenant_id", "value": "rival"},
	])
	main.decision.allow == true with data.portcullis.custom as {} with input as other with data.portcullis.tenant as closed
	nobodys := json.patch(support.request, [{"op": "remove", "path": "/user/tenant_id"}])
	main.decision.allow == false with data.portcullis.custom as {} with input as nobodys with data.portcullis.tenant as closed
	guest := support.classed("guest", "query", "low")
	generous := {"acme": {"allow": true}}
	main.decision.allow == false with data.portcullis.custom as {} with input as guest with data.portcullis.tenant as generous
}

test_how_a_call_is_recorded_holds_for_denials_too if {
	duty := {"type": "audit", "level": "metadata"}
	duties := {"private": {"obligations": {duty, {"type": "clamp", "name": "limit", "maximum": 1}}}}
	denied := main.decision with input as support.classed("guest", "query", "low") with data.portcullis.custom as duties
	denied.allow == false
	denied.obligations == [duty]
	allowed := main.decision with input as support.request with data.portcullis.custom as duties
	count(allowed.obligations) == 2
}
