package portcullis.layers_test

import data.mcp.gateway.context
import data.mcp.gateway.trust
import data.portcullis.main
import data.portcullis.support_test as support

nothing := {"open": {"allow": true}}

# Something allows everything; what stands against a call still does.
decide(document) := decision if {
	decision := main.decision with input as document with data.portcullis.custom as nothing
}

asked(tokens) := support.but({
	"/action": "llm:chat:create",
	"/llm": {"model": "m", "resolved_model": "m", "max_tokens": tokens},
	"/resource": {"type": "model", "id": "m", "tenant_id": null, "owner_id": null, "permissions": null},
})

with_ceiling(document, ceiling) := decision if {
	decision := main.decision with input as document with data.portcullis.custom as nothing
		with data.config.llm.roles as {"developer": {"models": ["m"], "max_tokens": ceiling}}
}

test_a_chain_is_bounded_for_every_call if {
	decide(support.but({"/delegation_depth": 5})).allow == true
	denied := decide(support.but({"/delegation_depth": 6}))
	denied.allow == false
	support.messages(denied) == {"The call comes through too many hands"}
}

test_without_a_figure_nobody_acts_for_another if {
	decision := main.decision with data.portcullis.custom as {} with input as support.but({"/delegation_depth": 1}) with data.config.chain as {}
	decision.allow == false
	direct := main.decision with data.portcullis.custom as {} with input as support.request with data.config.chain as {"max_depth": "many"}
	direct.allow == true
}

test_a_ceiling_holds_whatever_else_allows_the_call if {
	with_ceiling(asked(1000), 1000).allow == true
	with_ceiling(asked(1001), 1000).allow == false
	with_ceiling(asked(null), 1000).allow == false
	with_ceiling(asked(1000), null).allow == true
}

test_a_ceiling_that_is_no_number_is_reached_by_nothing if with_ceiling(asked(1), "1000").allow == false

test_checks_that_are_no_list_are_all_of_them if {
	context.checks({"gateway_metadata": {"sensitivity_level": "high"}}, "gateway:tool:invoke") == ["mfa", "device", "work_hours"] with data.config.levels as {"high": "mfa"}
}

test_data_that_does_not_say_what_is_protected_protects_all if {
	with_region := support.but({"/server/data_region": "us"})
	european := main.decision with data.portcullis.custom as {} with input as with_region with data.config.gdpr as {}
	support.codes(european) == {"GDPR_VIOLATION"}
	open_line := support.but({"/gateway_metadata/encryption_enabled": false})
	health := main.decision with data.portcullis.custom as {} with input as open_line with data.config.hipaa as {"tags": ["phi"]}
	support.codes(health) == {"HIPAA_VIOLATION"}
}

lacking(path) := messages if {
	decision := main.decision with data.portcullis.custom as {} with input as support.without(path)
	messages := support.messages(decision)
}

test_the_facts_that_are_missing_are_named if {
	every path, name in {
		"/server": "server",
		"/resource/tenant_id": "resource.tenant_id",
		"/rate_limit": "rate_limit.count",
		"/delegation_depth": "delegation_depth",
		"/tool/requires_hitl": "tool.requires_hitl",
		"/user/type": "user.type",
		"/server/data_region": "server.data_region",
		"/server/tags": "server.tags",
		"/server_name": "server_name",
		"/tool_name": "tool_name",
		"/gateway_metadata/sensitivity_level": "gateway_metadata.sensitivity_level",
	} {
		concat("", ["The request could not be judged: facts are missing: ", name]) in lacking(path)
	}
}

test_all_facts_that_are_missing_are_named_in_order if {
	document := json.patch(support.without("/server"), [{"op": "remove", "path": "/tool"}])
	support.messages(main.decision) == {"The request could not be judged: facts are missing: server, tool.requires_hitl"} with data.portcullis.custom as {} with input as document
}

agents := support.but({"/action": "a2a:invoke", "/gateway_metadata/sensitivity_level": "medium"})

test_facts_of_calls_between_agents_are_named if {
	every path in ["source_agent", "source_user", "target_agent", "capability"] {
		document := json.patch(agents, [{"op": "remove", "path": concat("", ["/", path])}])
		decision := main.decision with data.portcullis.custom as {} with input as document
		concat("", ["The request could not be judged: facts are missing: ", path]) in support.messages(decision)
	}
	plain := support.but({"/action": "http:get", "/resource/permissions": "none"})
	decision := main.decision with data.portcullis.custom as {} with input as plain
	"The request could not be judged: facts are missing: resource.permissions" in support.messages(decision)
}

# --- data that do not say what they mean -----------------------------------------------------------------------------

critical := support.but({
	"/user/roles": ["admin"],
	"/gateway_metadata/sensitivity_level": "critical",
	"/gateway_metadata/approval": {"present": true, "verified": true},
})

at_hours(hours, instant) := decision if {
	decision := main.decision with data.portcullis.custom as {}
		with input as critical
		with data.config.levels as {"critical": ["work_hours"]}
		with data.config.work_hours as hours
		with time.now_ns as instant
}

test_hours_that_cannot_be_read_are_never if {
	week := {"start": 9, "end": 17, "weekend": []}
	at_hours(week, support.wednesday).allow == true
	every hours in [
		{"start": 9, "end": "17", "weekend": []},
		{"start": null, "end": 17, "weekend": []},
		{"start": 9, "end": 17},
		{"start": 9, "end": 17, "weekend": "Sunday"},
	] {
		support.codes(at_hours(hours, support.wednesday)) == {"OUTSIDE_WORK_HOURS"}
	}
}

test_a_check_that_is_spelt_wrongly_is_all_of_them if {
	call := {"gateway_metadata": {"sensitivity_level": "high"}}
	context.checks(call, "gateway:tool:invoke") == ["mfa", "device", "work_hours"] with data.config.levels as {"high": ["mfaa"]}
	context.checks(call, "gateway:tool:invoke") == [] with data.config.levels as {"high": []}
}

in_production(grant) := decision if {
	decision := main.decision with data.portcullis.custom as {}
		with input as support.but({"/server/environment": "production"})
		with data.config.tool_access as {"developer": {"query": grant}}
}

test_production_is_closed_by_any_word_but_true if {
	in_production({"levels": ["low"]}).allow == true
	in_production({"levels": ["low"], "production": true}).allow == true
	every word in [false, "false", null, 0] {
		in_production({"levels": ["low"], "production": word}).allow == false
	}
}

test_tags_are_reserved_where_nothing_says_for_whom if {
	document := support.but({"/action": "gateway:resource:read", "/server/tags": ["secret"]})
	open := main.decision with data.portcullis.custom as {} with input as document with data.config.tag_roles as {}
	open.allow == true
	every rules in [null, [], "secret"] {
		closed := main.decision with data.portcullis.custom as {} with input as document with data.config.tag_roles as rules
		closed.allow == false
	}
}

lending(levels) := decision if {
	decision := main.decision with data.portcullis.custom as {} with data.config.trust as levels with input as support.but({
		"/action": "a2a:delegate",
		"/source_user": {"id": "s", "type": "user", "roles": ["analyst"], "tenure_months": 3},
		"/target_user": {"id": "t", "type": "user", "roles": ["lead"], "tenure_months": 30},
	})
}

levels_of(analyst) := {
	"analyst": [{"min_tenure_months": null, "level": analyst}],
	"lead": [{"min_tenure_months": null, "level": "high"}],
}

test_ranks_and_depths_that_are_no_numbers_are_the_least if {
	good := {"ranks": {"high": 4, "low": 2, "untrusted": 1}, "max_depth": {"low": 1}, "roles": levels_of("high")}
	lending(good).allow == true
	lending(object.union(good, {"roles": levels_of("low")})).allow == false
	lending(object.union(good, {"roles": levels_of([])})).allow == false
	lending(object.union(good, {"ranks": {"low": "5"}, "roles": levels_of("low")})).allow == false
	trust.depth_at("low") == 1 with data.config.trust.max_depth as {"low": "9"}
}

forbidding(tenants, document) := decision if {
	decision := main.decision with data.portcullis.custom as {} with input as document with data.tenants as tenants
}

test_rules_of_a_tenant_name_a_model_by_either_name if {
	document := support.but({
		"/action": "llm:chat:create",
		"/llm": {"model": "fast", "resolved_model": "gpt-5", "max_tokens": 5},
		"/resource": {"type": "model", "id": "gpt-5", "tenant_id": null, "owner_id": null, "permissions": null},
	})
	forbidding({"acme": {"deny": [{"models": ["gpt-*"]}]}}, document).allow == false
	forbidding({"acme": {"deny": [{"models": ["fast"]}]}}, document).allow == false
	forbidding({"acme": {"deny": [{"models": ["large"]}]}}, document).allow == true
	nameless := json.patch(document, [{"op": "replace", "path": "/llm/model", "value": null}])
	forbidding({"acme": {"deny": [{"models": ["large"]}]}}, nameless).allow == false
}

test_rules_of_tenants_that_cannot_be_read_forbid if {
	every tenants in ["x", [], 3] {
		forbidding(tenants, support.request).allow == false
	}
	forbidding({"acme": {"deny": [{"servers": [7]}]}}, support.request).allow == false
	forbidding({"acme": {"deny": []}}, support.request).allow == true
}
