package portcullis.layers_test

import data.mcp.gateway.context
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
